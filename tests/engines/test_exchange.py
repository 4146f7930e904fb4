"""Networks to other programs and from them: the same answers, and nothing hostile."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from phantoms import make_spec
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.engines import Engine, Wish, choose_engine, load_models
from voxtile.engines.exchange import export_model, import_model
from voxtile.engines.trial_tiles import trial_tiles
from voxtile.errors import EnvironmentFault, ModelError
from voxtile.models.bundle import load_bundle
from voxtile.models.onnx_network import check_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PAGE = Path(__file__).resolve().parents[2] / "docs/engines.md"
ONNX, OPENVINO = Engine("onnx"), Engine("openvino")


def write_spec(path: Path, **changes) -> Path:
    """A spec for three channels and two classes, as somebody writes it for an import."""
    spec = make_spec(
        name="foreign",
        context_slices=3,
        multiple=4,
        intensity={"method": "zscore"},
        **{key: value for key, value in changes.items() if key in ("activation", "labels")},
    )
    content = json.loads(spec.dump())
    content["networks"] = [changes["network"]] if "network" in changes else [{}]
    if not changes.get("network"):
        del content["networks"]
    path.write_text(json.dumps(content))
    return path


def graph(nodes, *, weights=(), takes=(None, 3, None, None), gives=(None, 2, None, None)) -> bytes:
    """An ONNX network of hand-made nodes, channels first."""
    kind = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "g",
            [onnx.helper.make_tensor_value_info("x", kind, takes)],
            [onnx.helper.make_tensor_value_info("y", kind, gives)],
            list(weights),
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return model.SerializeToString()


def pointwise(**names) -> bytes:
    """A 1x1 convolution with known weights: class 0 sees the first channel, class 1 the last."""
    values = np.zeros((2, 3, 1, 1), np.float32)
    values[0, 0] = values[1, 2] = 1
    weights = [onnx.numpy_helper.from_array(values, "w")]
    return graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"])], weights=weights, **names)


FIRST = {"layout": "channels_first", "output": "logits", "views": ["sagittal"]}


def test_a_foreign_network_gives_the_same_by_each_engine(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(pointwise())
    bundle = import_model(
        tmp_path / "n.onnx", write_spec(tmp_path / "s.json", network=FIRST), tmp_path / "b"
    )
    assert bundle.spec.views == ("sagittal",)
    assert sorted(path.name for path in bundle.folder.iterdir()) == [
        "README.md",
        "network.onnx",
        "spec.json",
    ]
    tiles = trial_tiles(bundle.spec, 3)
    odds = np.exp(tiles[..., 2].astype(np.float64) - tiles[..., 0])
    (model,) = load_models(bundle, ONNX)
    np.testing.assert_allclose(model(tiles)[..., 1], odds / (1 + odds), atol=1e-6)
    with pytest.raises(ModelError, match=r"Keras cannot run \.onnx"):
        choose_engine(bundle, Wish(engine="keras"))
    with pytest.raises(EnvironmentFault, match="float32, not bfloat16"):
        load_models(bundle, Engine("onnx", "bfloat16"))
    pytest.importorskip("openvino")
    chosen = choose_engine(bundle)
    assert chosen.name == "openvino"
    (other,) = load_models(bundle, chosen)
    np.testing.assert_allclose(other(tiles), model(tiles), atol=1e-5)


def test_a_network_that_torch_exports_comes_in(tmp_path: Path, monkeypatch) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.InstanceNorm2d(4, affine=True),
        torch.nn.LeakyReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.ConvTranspose2d(4, 2, 2, stride=2),
    ).eval()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the way that needs no further package is the older one
        exec(compile(code, "engines.md", "exec"), {"torch": torch, "net": layers, "channels": 3})
    spec = write_spec(tmp_path / "s.json", network=FIRST)
    bundle = import_model(tmp_path / "net.onnx", spec, tmp_path / "b")
    tiles = trial_tiles(bundle.spec, 2)
    with torch.no_grad():
        logits = layers(torch.from_numpy(tiles).permute(0, 3, 1, 2))
        wanted = logits.softmax(1).permute(0, 2, 3, 1).numpy()
    engines = [ONNX]
    if choose_engine(bundle).name == "openvino":
        engines.append(OPENVINO)
    for engine in engines:
        (model,) = load_models(bundle, engine)
        np.testing.assert_allclose(model(tiles), wanted, atol=1e-5)


def test_keras_to_onnx_and_back_says_the_same(tmp_path: Path, network: bytes) -> None:
    pytest.importorskip("tf2onnx")
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    (path,) = export_model(bundle.folder, "onnx", tmp_path / "out")
    assert path == tmp_path / "out/n.onnx"
    other = load_bundle(tmp_path / "out")  # a bundle again
    tiles = trial_tiles(bundle.spec, 3)
    (ours,), (theirs,) = load_models(bundle, Engine("keras")), load_models(other, ONNX)
    np.testing.assert_allclose(theirs(tiles), ours(tiles), atol=1e-4)
    again = import_model(path, write_spec(tmp_path / "s.json"), tmp_path / "again")
    (model,) = load_models(again, ONNX)
    np.testing.assert_array_equal(model(tiles), theirs(tiles))


def test_exports_for_openvino_and_tensorflow_can_be_read(tmp_path: Path, network: bytes) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", network))
    tiles = trial_tiles(bundle.spec, 2)
    wanted = load_models(bundle, Engine("keras"))[0](tiles)
    words = ["models", "export", str(bundle.folder), "--format", "savedmodel", "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "saved")])
    assert done.exit_code == 0, done.output
    import tensorflow as tf

    loaded = tf.saved_model.load(str(tmp_path / "saved/n"))
    np.testing.assert_allclose(np.asarray(loaded.serve(tiles)), wanted, atol=1e-4)
    assert (tmp_path / "saved/spec.json").exists()
    openvino = pytest.importorskip("openvino")
    (path,) = export_model(bundle.folder, "openvino", tmp_path / "ov")
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(tiles)[0], wanted, atol=1e-4)


def test_an_imported_model_is_called_like_its_folder(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(pointwise())
    spec = write_spec(tmp_path / "s.json", network=FIRST)
    spec.write_text(spec.read_text().replace('"foreign"', '"hippocampus"'))  # a copy of another's
    bundle = import_model(tmp_path / "n.onnx", spec, tmp_path / "mine")
    assert bundle.name == "mine"
    assert "hippocampus" not in (bundle.folder / "README.md").read_text()
    assert "voxtile run MANIFEST mine --out DIR" in (bundle.folder / "README.md").read_text()
    with pytest.raises(ValueError, match="'my model' is not a valid name"):
        import_model(tmp_path / "n.onnx", spec, tmp_path / "my model")


def test_a_keras_network_comes_in(tmp_path: Path, network: bytes) -> None:
    (tmp_path / "n.keras").write_bytes(network)
    spec = write_spec(tmp_path / "s.json")
    words = ["models", "import", str(tmp_path / "n.keras"), "--spec", str(spec), "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert load_bundle(tmp_path / "b").spec.networks[0].file == "network.keras"
    with pytest.raises(ModelError, match="exists; name a new folder"):
        import_model(tmp_path / "n.keras", spec, tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r'takes .* channels.*"layout": "channels_first"'),
        ({"network": {**FIRST, "output": "probabilities"}}, r'n\.onnx gave values .*"logits"'),
        ({"network": {"layout": "sideways"}}, "layout"),
        ({"network": FIRST, "activation": "sigmoid"}, "gives 2 classes, but the spec has 1 labels"),
    ],
)
def test_a_network_that_does_not_do_what_its_spec_says_is_refused(
    tmp_path: Path, changes, message: str
) -> None:
    (tmp_path / "n.onnx").write_bytes(pointwise(takes=(1, 3, 16, 16), gives=(1, 2, 16, 16)))
    spec = write_spec(tmp_path / "s.json", **changes)
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path / "n.onnx", spec, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"n.onnx", "s.json"}


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"must be \.onnx or \.keras; pickles"):
        import_model(tmp_path / "n.pt", tmp_path / "s.json", tmp_path / "b")


def changed(change) -> bytes:
    """The pointwise network with something done to it."""
    model = onnx.load_model_from_string(pointwise())
    change(model)
    return model.SerializeToString()


def outside(model) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def looping(model) -> None:
    model.graph.node[0].op_type = "Loop"


def from_a_plugin(model) -> None:
    model.graph.node[0].domain = "com.evil"
    model.opset_import.add(domain="com.evil", version=1)


def unlisted_domain(model) -> None:
    model.graph.node[0].domain = "com.evil"


def old(model) -> None:
    model.opset_import[0].version = 7


def dangling(model) -> None:
    model.graph.node[0].input[0] = "nothing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04 a pickle", "not a valid ONNX file"),
        (lambda: pointwise()[:-40], "not a valid ONNX file|not valid ONNX"),
        (lambda: changed(outside), r"another file.*; save them inside \(torch\.onnx\.export"),
        (lambda: changed(looping), "has the operator Loop"),
        (lambda: changed(from_a_plugin), "has operators of com.evil"),
        (lambda: changed(unlisted_domain), r"has the operator com\.evil\.Conv"),
        (lambda: changed(old), r"operator set \[7\]; one of 9 or later"),
        (lambda: changed(dangling), "not valid ONNX"),
    ],
)
def test_hostile_onnx_is_refused(content, message: str) -> None:
    check_onnx(pointwise(), "n.onnx")
    with pytest.raises(ModelError, match=message):
        check_onnx(content() if callable(content) else content, "n.onnx")
