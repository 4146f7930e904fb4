"""Model files that attack or err: each is small, and each must be refused with a sentence.

Run as a program, it tries them one after the other in processes with little
memory and time, and prints the counts.
"""

import hashlib
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

CHANNELS, CLASSES, WIDTH, TILE = 1, 2, 4, (16, 16)
# Beyond what a process has after its imports.
MOST_BYTES = 10**9
MOST_S = 20
# The file that is changed to be hostile, which is accepted.
PLAIN = "plain"

SPEC: dict[str, Any] = {
    "name": "hostile",
    "tile": list(TILE),
    "activation": "softmax",
    "labels": [{"value": 1, "name": "a", "color": "#ff0000"}],
}


def layer(kind: str, name: str, source: str | list[str] | None, **settings: Any) -> dict[str, Any]:
    """A layer as Keras writes it."""
    sources = [source] if isinstance(source, str) else source or []
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"shape": None, "dtype": "float32", "keras_history": [one, 0, 0]},
        }
        for one in sources
    ]
    args = [tensors] if len(tensors) > 1 else tensors
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "dtype": "float32", **settings},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": args, "kwargs": {}}] if sources else [],
    }


def conv(name: str, source: str, **settings: Any) -> dict[str, Any]:
    """A convolution."""
    usual = {"filters": CLASSES, "kernel_size": [1, 1], "strides": [1, 1], "padding": "same"}
    return layer("Conv2D", name, source, **{**usual, "use_bias": True, **settings})


def config(*between: dict[str, Any], shape: Any = (None, None, None, CHANNELS)) -> dict[str, Any]:
    """A network of some layers between the input `a` and the last convolution."""
    last = between[-1]["name"] if between else "a"
    layers = [layer("InputLayer", "a", None, batch_shape=list(shape)), *between, conv("z", last)]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "registered_name": "Functional",
        "config": {
            "name": "n",
            "layers": layers,
            "input_layers": [["a", 0, 0]],
            "output_layers": [["z", 0, 0]],
        },
    }


def weights(change: Callable[[Any], None] | None = None) -> bytes:
    """The weights of the smallest network, changed."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((1, 1, CHANNELS, CLASSES), np.float32)
        file["layers/conv2d/vars/1"] = np.ones(CLASSES, np.float32)
        if change is not None:
            change(file)
    return content.getvalue()


def archive(
    settings: Any = None, stored: bytes | None = None, method: int = zipfile.ZIP_STORED, **members
) -> bytes:
    """A ``.keras`` file."""
    content = io.BytesIO()
    text = settings if isinstance(settings, bytes) else json.dumps(settings or config()).encode()
    with zipfile.ZipFile(content, "w", method) as file:
        file.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        file.writestr("config.json", text)
        file.writestr("model.weights.h5", weights() if stored is None else stored)
        for name, part in members.items():
            file.writestr(name.replace("__", "/"), part)
    return content.getvalue()


def keras_files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a plain ``.keras`` file, and of hostile ones."""
    yield PLAIN, archive()
    big = 65536
    yield (
        "depth_multiplier",
        archive(
            config(
                layer(
                    "DepthwiseConv2D",
                    "b",
                    "a",
                    kernel_size=[9, 9],
                    padding="same",
                    depth_multiplier=big,
                ),
                layer(
                    "SeparableConv2D",
                    "c",
                    "b",
                    kernel_size=9,
                    filters=9,
                    padding="same",
                    depth_multiplier=big,
                ),
            )
        ),
    )
    normal = layer("BatchNormalization", "b", "a", axis=-1, momentum=0.9)
    yield (
        "build_config",
        archive(config({**normal, "build_config": {"input_shape": [None, None, None, 10**9]}})),
    )
    yield (
        "build_config_shapes",
        archive(
            config({**normal, "build_config": {"shapes_dict": {"input_shape": [None, 10**9]}}})
        ),
    )
    doubling = [
        layer("Concatenate", f"c{n}", [f"c{n - 1}" if n else "a"] * 2, axis=-1) for n in range(40)
    ]
    yield "concatenate_chain", archive(config(*doubling))
    yield (
        "upsampling_chain",
        archive(
            config(
                *(
                    layer("UpSampling2D", f"u{n}", f"u{n - 1}" if n else "a", size=8)
                    for n in range(9)
                )
            )
        ),
    )
    yield "upsampling_once", archive(config(layer("UpSampling2D", "u", "a", size=10**9)))
    yield "padding", archive(config(layer("ZeroPadding2D", "p", "a", padding=[[8000, 8000]] * 2)))
    yield (
        "transposed",
        archive(
            config(layer("Conv2DTranspose", "t", "a", filters=64, kernel_size=3, strides=1000))
        ),
    )
    for name, value in (
        ("filters_text", "1e9"),
        ("filters_nan", float("nan")),
        ("filters_negative", -1),
        ("filters_list", [[[1]]]),
        ("filters_huge", 10**30),
        ("filters_float", 2.5),
        ("filters_true", True),
        ("filters_missing", None),
    ):
        yield name, archive(config(conv("b", "a", filters=value)))
    yield (
        "filters_plausible_but_not_stored",
        archive(config(conv("b", "a", filters=60000), conv("c", "b", filters=20000))),
    )
    yield "kernel", archive(config(conv("b", "a", kernel_size=[10**6, 10**6])))
    yield "kernel_of_three", archive(config(conv("b", "a", kernel_size=[1, 1, 1])))
    yield (
        "prelu",
        archive(config(layer("PReLU", "b", "a", shared_axes=None), shape=(None, 8192, 8192, 64))),
    )
    yield (
        "layer_normalisation",
        archive(
            config(
                layer("LayerNormalization", "b", "a", axis=[1, 2, 3]), shape=(None, 8192, 8192, 9)
            )
        ),
    )
    yield "input", archive(config(shape=(None, 10**9, 10**9, 10**9)))
    yield "input_of_two", archive(config(shape=(None, 3)))
    yield "layers_a_number", archive({**config(), "config": {"layers": 5}})
    yield "a_list", archive(b"[]")
    yield "text", archive(b'"Functional"')
    yield "deep", archive(b'{"a":' * 900 + b"1" + b"}" * 900)
    yield "deeper", archive(b"[" * 200_000)
    yield "key_twice", archive(b'{"class_name": "Functional", "class_name": "Functional"}')
    yield "no_input", archive(config(layer("ReLU", "b", None)))
    yield "unknown_input", archive(config(layer("ReLU", "b", "missing")))
    yield "itself", archive(config(layer("ReLU", "b", "b")))
    yield "nested", archive(config({**config(), "name": "n", "inbound_nodes": 7}))
    yield "lambda", archive(config(layer("Lambda", "b", "a", function="x")))
    yield "module_a_list", archive(config({**layer("ReLU", "b", "a"), "module": ["os"]}))
    yield "lzma", archive(method=zipfile.ZIP_LZMA)
    yield "bzip2", archive(method=zipfile.ZIP_BZIP2)
    yield "outside", archive(**{"..__..__evil.py": b"x"})
    yield "absolute", archive(**{"__etc__evil": b"x"})
    plain = archive()
    yield "encrypted", _flagged(plain)
    yield "sizes_that_lie", _lying(plain)
    yield "zip64_that_lies", plain.replace(b"PK\x05\x06", b"PK\x06\x07" + bytes(16) + b"PK\x05\x06")
    yield "half", plain[: len(plain) // 2]
    yield "bomb", archive(stored=bytes(50_000_000), method=zipfile.ZIP_DEFLATED)
    yield "bomb_of_metadata", archive(b" " * 40_000_000, method=zipfile.ZIP_DEFLATED)
    yield "pickle", b"\x80\x04\x95 a pickle"
    for name, change in _WEIGHTS.items():
        yield name, archive(stored=weights(change))
    yield "not_hdf5", archive(stored=b"no HDF5 at all")


def _flagged(content: bytes) -> bytes:
    """An archive that says it is encrypted."""
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            changed[start + place] |= 1
            start = content.find(mark, start + 1)
    return bytes(changed)


def _lying(content: bytes) -> bytes:
    """An archive whose list has other sizes than its members."""
    changed = bytearray(content)
    start = content.find(b"PK\x01\x02")
    struct.pack_into("<I", changed, start + 24, 7)
    return bytes(changed)


def _external_link(file: Any) -> None:
    file["layers/x"] = h5py.ExternalLink("/etc/passwd", "/a")


def _soft_link(file: Any) -> None:
    file["layers/x"] = h5py.SoftLink("/layers")


def _cycle(file: Any) -> None:
    file["layers/x"] = file["layers"]


def _external_data(file: Any) -> None:
    file.create_dataset("layers/x", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def _virtual_data(file: Any) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (10,))
    file.create_virtual_dataset("layers/x", layout)


def _fill_value(file: Any) -> None:
    file.create_dataset("layers/x", (10**10,), "f4", chunks=(2**20,), fillvalue=1)


def _zeros(file: Any) -> None:
    file.create_dataset("layers/x", (20_000_000,), "f4", chunks=(2**20,), compression="gzip")


def _references(file: Any) -> None:
    file["layers/x"] = np.array([file.ref], h5py.ref_dtype)


def _reference_attribute(file: Any) -> None:
    file["layers"].attrs.create("x", file.ref, dtype=h5py.ref_dtype)


def _text_data(file: Any) -> None:
    file["layers/x"] = np.array(["text"], h5py.string_dtype())


_WEIGHTS: dict[str, Callable[[Any], None]] = {
    "external_link": _external_link,
    "soft_link": _soft_link,
    "cycle": _cycle,
    "external_data": _external_data,
    "virtual_data": _virtual_data,
    "fill_value": _fill_value,
    "zeros": _zeros,
    "references": _references,
    "reference_attribute": _reference_attribute,
    "text_data": _text_data,
}


def onnx_files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a plain ``.onnx`` file, and of hostile ones."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def array(values: Any, name: str = "w") -> Any:
        return numpy_helper.from_array(np.asarray(values), name)

    def file(
        nodes: list[Any], parts: tuple[Any, ...] = (), change: Callable[[Any], None] | None = None
    ) -> bytes:
        kernel = array(np.ones((CLASSES, CHANNELS, 1, 1), np.float32), "k")
        last = nodes[-1].output[0] if nodes else "x"
        graph = helper.make_graph(
            [*nodes, helper.make_node("Conv", [last, "k"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", CHANNELS, "r", "c"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES, "p", "q"])],
            [kernel, *parts],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if change is not None:
            change(model)
        return model.SerializeToString()

    def node(kind: str, inputs: list[str], output: str = "b", **settings: Any) -> Any:
        return helper.make_node(kind, inputs, [output], **settings)

    def secret(tensor: Any) -> Any:
        del tensor.float_data[:]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="secret.bin")
        return tensor

    yield PLAIN, file([])
    outside = secret(array(np.ones(4, np.float32), "s"))
    sparse = helper.make_sparse_tensor(
        array(np.ones(1, np.float32), "v"), array(np.zeros(1, np.int64), "i"), [10**9]
    )
    sparse_outside = onnx.SparseTensorProto()
    sparse_outside.CopyFrom(sparse)
    secret(sparse_outside.values)
    yield "initializer_outside", file([], (outside,))
    yield (
        "constant_outside",
        file([node("Constant", [], value=outside), node("Add", ["x", "b"], "d")]),
    )
    yield "constant_sparse", file([node("Constant", [], sparse_value=sparse)])
    yield "constant_sparse_outside", file([node("Constant", [], sparse_value=sparse_outside)])
    yield "sparse_initializer", file([], (), lambda m: m.graph.sparse_initializer.append(sparse))
    inner = helper.make_graph([], "inner", [], [], [outside])
    yield "subgraph_outside", file([node("Relu", ["x"], body=inner)])
    for kind in ("If", "Loop", "Scan", "SequenceMap"):
        yield kind, file([node(kind, ["x"], body=inner)])
    for kind in ("ConstantOfShape", "Range", "Tile", "Expand", "RandomNormal", "StringConcat"):
        yield kind, file([node(kind, ["x"])])
    yield "custom_domain", file([helper.make_node("Relu", ["x"], ["b"], domain="com.evil")])
    function = helper.make_function(
        "local", "F", ["x"], ["b"], [node("Relu", ["x"])], [helper.make_opsetid("", 17)]
    )
    yield "function", file([], (), lambda m: m.functions.append(function))
    yield "training", file([], (), lambda m: m.training_info.add())
    yield "huge_dims", file([], (TensorProto(dims=[2**40], data_type=1, name="s"),))
    yield "negative_dims", file([], (TensorProto(dims=[-1, -4], data_type=1, name="s"),))
    yield "text_array", file([], (helper.make_tensor("s", TensorProto.STRING, [1], [b"a"]),))
    for name, pads in (
        ("pad", [0, 0, 0, 0, 0, 0, 60000, 60000]),
        ("pad_overflow", [0, 0, 2**63 - 1, 0, 0, 0, 2**63 - 1, 0]),
    ):
        yield name, file([node("Pad", ["x", "p"])], (array(np.array(pads), "p"),))
    for name, scales in (
        ("resize", [1, 1, 3000, 3000]),
        ("resize_overflow", [1, 1, 1e18, 1e18]),
        ("resize_nan", [1, 1, np.nan, 1]),
    ):
        parts = (array(np.array(scales, np.float32), "p"), array(np.zeros(0, np.float32), "e"))
        yield name, file([node("Resize", ["x", "e", "p"])], parts)
    yield (
        "resize_of_data",
        file(
            [
                node("ReduceMax", ["x"], "m", keepdims=1),
                node("Reshape", ["m", "one"], "m1"),
                node("Cast", ["m1"], "m2", to=TensorProto.INT64),
                node("Concat", ["m2"] * 4, "sizes", axis=0),
                node("Resize", ["x", "", "", "sizes"]),
            ],
            (array(np.array([1]), "one"),),
        ),
    )
    doubling = [node("Concat", [f"c{n}"] * 2, f"c{n + 1}", axis=1) for n in range(70)]
    yield "concat_chain", file([node("Identity", ["x"], "c0"), *doubling])
    yield (
        "gather_chain",
        file(
            [node("Gather", ["x", "i"], "b", axis=2), node("Gather", ["b", "i"], "d", axis=3)],
            (array(np.zeros(30_000, np.int64), "i"),),
        ),
    )
    yield (
        "broadcast",
        file(
            [node("MatMul", ["r", "c"], "b"), node("Add", ["x", "b"], "d")],
            (
                array(np.ones((30_000, 1), np.float32), "r"),
                array(np.ones((1, 30_000), np.float32), "c"),
            ),
        ),
    )
    yield (
        "transposed",
        file(
            [node("ConvTranspose", ["x", "t"], "b", strides=[5000, 5000])],
            (array(np.ones((1, 1, 1, 1), np.float32), "t"),),
        ),
    )
    yield (
        "transposed_overflow",
        file(
            [node("ConvTranspose", ["x", "t"], "b", strides=[2**62, 2**62])],
            (array(np.ones((1, 1, 1, 1), np.float32), "t"),),
        ),
    )
    yield "many_nodes", file([node("Relu", ["x"], f"b{n}") for n in range(20_001)])
    yield "half", file([])[:-30]
    yield "empty", b""


def specs() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of hostile ``spec.json`` files."""
    network = {"file": "network.onnx", "sha256": "0" * 64, "views": ["axial"]}
    for name, changes in (
        ("tile_huge", {"tile": [10**9, 10**9]}),
        ("tile_negative", {"tile": [-16, 16]}),
        ("tile_text", {"tile": "16"}),
        ("overlap_one", {"overlap": 1.0}),
        ("overlap_nan", {"overlap": float("nan")}),
        ("spacing_zero", {"spacing_mm": [0, 1, 1]}),
        ("spacing_tiny", {"spacing_mm": [1e-300, 1, 1]}),
        ("spacing_infinite", {"spacing_mm": [float("inf"), 1, 1]}),
        ("threshold", {"activation": "sigmoid", "thresholds": [float("nan")]}),
        ("label_value", {"labels": [{"value": 10**12, "name": "a", "color": "#ff0000"}]}),
        ("labels_many", {"labels": [{"value": 1, "name": "a", "color": "#ff0000"}] * 60_000}),
        ("networks_many", {"networks": [{**network, "file": f"n{n}.onnx"} for n in range(5000)]}),
        ("network_outside", {"networks": [{**network, "file": "../../secret.onnx"}]}),
        ("weight", {"networks": [{**network, "weight": 1e308}]}),
        ("context", {"context_slices": 10**9}),
        ("center", {"intensity": {"method": "window", "center": 1e300, "width": 1}}),
        ("background", {"background": {"at_most": float("-inf")}}),
        ("unknown", {"tiles": [16, 16]}),
    ):  # fmt: skip
        yield name, json.dumps({**SPEC, "networks": [network], **changes}).encode()
    yield "twice", b'{"name": "a", "name": "b"}'
    yield "deep", b'{"training": ' + b"[" * 100_000
    yield "huge", b'{"name": "' + b"a" * (17 * 2**20) + b'"}'
    yield "digits", b'{"tile": [' + b"9" * 100_000 + b", 16]}"


def write(folder: Path, suffix: str, content: bytes) -> Path:
    """A model folder with a hostile file."""
    folder.mkdir(parents=True)
    (folder / "secret.bin").write_bytes(bytes(16))
    if suffix == "json":
        (folder / "spec.json").write_bytes(content)
        return folder
    name = f"network.{suffix}"
    (folder / name).write_bytes(content)
    first = {"layout": "channels_first"} if suffix == "onnx" else {}
    network = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "views": ["axial"]}
    (folder / "spec.json").write_text(json.dumps({**SPEC, "networks": [{**network, **first}]}))
    return folder


def write_all(folder: Path) -> list[Path]:
    """All hostile model folders."""
    kinds = (("keras", keras_files), ("onnx", onnx_files), ("json", specs))
    return [
        write(folder / f"{suffix}-{name}", suffix, content)
        for suffix, files in kinds
        for name, content in files()
    ]


def main() -> None:
    """Load the models that are named in the arguments; print an outcome and the cost of each."""
    import h5py as _h5py  # noqa: F401
    import onnx as _onnx  # noqa: F401

    from voxtile.errors import ModelError
    from voxtile.models.bundle import load_bundle

    resource.setrlimit(resource.RLIMIT_AS, (_size() + MOST_BYTES, resource.RLIM_INFINITY))
    for name in sys.argv[1:]:
        start = time.perf_counter()
        try:
            load_bundle(Path(name))
            outcome, words = "accepted", ""
        except ModelError as error:
            outcome = "refused" if str(error).strip() and len(str(error)) < 3000 else "long"
            words = str(error)
        except BaseException as error:
            outcome, words = type(error).__name__, str(error)
        took = time.perf_counter() - start
        print(json.dumps([Path(name).name, outcome, round(took, 2), words[:300]]), flush=True)


def _size() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def outcomes(folders: list[Path]) -> list[list[Any]]:
    """Name, outcome, seconds and words of each model, from a process with little memory."""
    done = subprocess.run(
        [sys.executable, "-c", "import hostile_models; hostile_models.main()", *map(str, folders)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=MOST_S * len(folders),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-500:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(found: list[list[Any]]) -> list[list[Any]]:
    """The hostile models that were not refused in time, and plain ones that were."""
    return [
        one
        for one in found
        if one[1] != ("accepted" if one[0].endswith(PLAIN) else "refused") or one[2] > MOST_S
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        results = outcomes(write_all(Path(scratch)))
    for name, outcome, took, words in results:
        print(f"{outcome:<12}{took:>6.2f} s  {name}: {words.replace(scratch + '/', '')}")
    hostile = [one for one in results if not one[0].endswith(PLAIN)]
    refused = [one for one in hostile if one[1] == "refused"]
    print(f"{len(hostile)} hostile model files, {len(refused)} refused")
    sys.exit(bool(wrong(results)))
