"""Run networks with OpenVINO: each tile on one core, as many tiles at once as there are cores.

On two cores this was 1.25 times as fast as one tile at a time on both cores (docs/engines.md).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.memory_errors import require_memory
from voxtile.machine.processors import thread_count
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .engine import Engine, Model, Precision
from .fitting import adapted, check_shapes
from .quantised import digest_name, kept_layers, quantised, quantised_digest
from .short_numbers import CHANNELS, LAYERS, SIDE
from .translated import ensure, translation_digest, translation_name

# `import openvino` would report itself to its makers. voxtile reads patient data, so nothing is
# sent.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402
import openvino.opset13 as ops  # noqa: E402

# OpenVINO's names for what a processor computes.
_CAPABILITIES: dict[Precision, str] = {
    "float32": "FP32",
    "bfloat16": "BF16",
    "float16": "FP16",
    "int8": "INT8",
}
# Maximum of tile shapes that stay compiled; each shape has its own copy of the weights.
_MOST_SHAPES = 8
_MOST_BYTES = 512 * 2**20
# Address space in MB that OpenVINO needs: in all, and for the stack and heap of each thread. With
# less, its threads may end the process.
_LEAST_MB, _THREAD_MB = 1150, 75


def load(bundle: Bundle, network: Network, engine: Engine) -> Model:
    """Return one network of a bundle as a callable; a ``.keras`` network is exported first."""
    name = str(bundle.folder / network.file)
    source = _source(bundle, network, engine)
    try:
        rest = kept_layers(network)[1] if engine.precision == "int8" else engine.precision
        model = open_model(source, engine, rest)
    except RuntimeError as error:
        raise ModelError(
            f"{name} cannot be read by OpenVINO {ov.__version__.partition('-')[0]}; "
            "use --engine keras, or onnx for an .onnx network"
        ) from error
    check_shapes(*model.shapes, network, bundle.spec, name)
    return adapted(model, network, bundle.spec)


def _source(bundle: Bundle, network: Network, engine: Engine) -> Path | bytes:
    """Return the file that OpenVINO reads, or the bytes of an ``.onnx`` network."""
    if engine.precision == "int8":
        found = quantised(network)
        known = dict(engine.versions).get(digest_name(bundle))
        if found is None or known not in (None, quantised_digest(bundle)):
            raise EnvironmentFault(
                f"{bundle.name}: the int8 networks of this run are not in the cache of this "
                "machine; make new ones with voxtile models verify MODEL MANIFEST, or use "
                "--precision float32"
            )
        return found
    exported = ensure(bundle, network)
    known = dict(engine.versions).get(translation_name(bundle))
    if known not in (None, translation_digest(bundle)):
        raise EnvironmentFault(
            f"{bundle.name}: the translated networks in the cache are not those that this run "
            "began with; run it again with the same command, or use --engine keras"
        )
    return bundle.read_network(network) if network.file.endswith(".onnx") else exported


def precisions() -> tuple[Precision, ...]:
    """Return the precisions that this processor computes in, float32 first."""
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(precision for precision, unit in _CAPABILITIES.items() if unit in able)


def write(function: Any, path: Path) -> None:
    """Write a TensorFlow function for OpenVINO, in float32; it gives one array of four axes."""
    found = ov.convert_model(function)
    # The converter also makes outputs of the sizes that the graph computes.
    results = [
        result
        for result in found.get_results()
        if result.get_output_element_type(0) == ov.Type.f32
        and result.get_output_partial_shape(0).rank == ov.Dimension(4)
    ]
    if len(results) != 1:
        raise ModelError(f"OpenVINO sees {len(results)} outputs of four axes; one was needed")
    model = ov.Model(results, found.get_parameters(), "network")
    ov.save_model(model, path, compress_to_fp16=False)


def short_steps() -> dict[Precision, Callable[[], object]]:
    """Return a function for each precision, which runs some convolutions once in it."""
    rng = np.random.default_rng(0)
    tiles = rng.standard_normal((1, CHANNELS, SIDE, SIDE), np.float32)
    steps: dict[Precision, Callable[[], object]] = {}
    for precision in precisions():
        node = start = ops.parameter(list(tiles.shape), np.float32)
        for _ in range(LAYERS):
            weights = rng.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32) / CHANNELS
            if precision == "int8":  # as a quantised network has them
                node = ops.fake_quantize(node, *map(np.float32, (0, 2.55, 0, 2.55)), 256)
                weights = ops.fake_quantize(weights, *map(np.float32, (-1.27, 1.27) * 2), 255)
            node = ops.relu(ops.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
        mean = ops.reduce_mean(node, [2, 3], keep_dims=True)
        model = OpenVinoModel(ov.Model([mean], [start], "steps"), precision, 0)
        steps[precision] = partial(model, tiles)
    return steps


def open_model(
    source: Path | bytes, engine: Engine, rest: Precision | None = None
) -> "OpenVinoModel":
    """Return a network from a file, or from the bytes of an ``.onnx`` network.

    In a network in integers, layers that are not in integers compute in `rest`.
    """
    require_memory(_LEAST_MB + _THREAD_MB * thread_count(), "OpenVINO needs")
    if engine.precision not in precisions():
        # OpenVINO would compute in float32 without a warning.
        raise EnvironmentFault(
            f"this processor does not compute in {engine.precision}; use --precision float32"
        )
    size = source.with_suffix(".bin").stat().st_size if isinstance(source, Path) else len(source)
    return OpenVinoModel(read(source), rest or engine.precision, size)


def read(source: Path | bytes) -> Any:
    """Return an OpenVINO model; workers share the memory of weights that come from a file."""
    return ov.Core().read_model(source)


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A network compiled for one tile shape."""

    queue: Any
    streams: int  # tiles at once
    shape: tuple[int, ...]  # of the output for one tile


class OpenVinoModel:
    """A network that takes tiles of any size, and compiles itself once for each."""

    def __init__(self, model: Any, precision: Precision, weights_bytes: int) -> None:
        self._core = ov.Core()
        self._model = model
        # Layers in integers have their own numbers; this is for all others.
        self._hint = {"bfloat16": "bf16", "float16": "f16"}.get(precision, "f32")
        self._threads = thread_count()
        self._most = max(1, min(_MOST_SHAPES, _MOST_BYTES // max(1, weights_bytes)))
        self._compiled: dict[tuple[int, ...], _Compiled] = {}  # the most recently used is the last
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError(
                f"the network has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
                "one of each was needed"
            )
        # Shapes of input and output; None is any size.
        self.shapes = _sizes(model.input(0)), _sizes(model.output(0))

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the output for some tiles, float32, in the network's own layout."""
        compiled = self._for(tiles.shape[1:], len(tiles))
        tiles = np.ascontiguousarray(tiles, np.float32)
        answers = np.empty((len(tiles), *compiled.shape), np.float32)
        queue = compiled.queue
        try:
            for index in range(len(tiles)):
                request = queue[queue.get_idle_request_id()]
                # Shared, not copied: the output is written directly into its array.
                request.set_input_tensor(ov.Tensor(tiles[index : index + 1], shared_memory=True))
                request.set_output_tensor(ov.Tensor(answers[index : index + 1], shared_memory=True))
                queue.start_async()
        finally:
            queue.wait_all()  # nothing may still write when the arrays are freed
        return answers

    def _for(self, shape: tuple[int, ...], count: int) -> _Compiled:
        """Return the network compiled for tiles of a shape, `count` of them at once or fewer."""
        # Each stream has its own activations, so there are never more streams than the largest
        # number of tiles at once so far, which the plan has memory for.
        streams = min(self._threads, count)
        found = self._compiled.pop(shape, None)
        if found is None or found.streams < streams:
            found = None  # frees its copy of the weights before the new copy is made
            while len(self._compiled) >= self._most:
                del self._compiled[next(iter(self._compiled))]
            found = self._compile(shape, streams)
        self._compiled[shape] = found
        return found

    def _compile(self, shape: tuple[int, ...], streams: int) -> _Compiled:
        """Return the network compiled for single tiles of a shape."""
        self._model.reshape([1, *shape])
        settings = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self._threads,
            # Otherwise all workers would bind themselves to the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(self._model, "CPU", settings)
        queue = ov.AsyncInferQueue(compiled, streams)
        return _Compiled(queue, streams, tuple(compiled.output(0).shape)[1:])


def _sizes(port: Any) -> tuple[int | None, ...]:
    """Return the shape of an input or output as numbers."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)
