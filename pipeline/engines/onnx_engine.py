"""Run ONNX networks with ONNX Runtime in float32; this is their reference engine."""

from typing import Any

import numpy as np
import onnxruntime

from voxtile.errors import EnvironmentFault, ModelError
from voxtile.machine.processors import thread_count
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .engine import Engine, Model, Precision
from .fitting import adapted, check_shapes

onnxruntime.disable_telemetry_events()  # voxtile reads patient data, so nothing is sent


def load(bundle: Bundle, network: Network, engine: Engine) -> Model:
    """Return one ``.onnx`` network of a bundle as a callable."""
    name = str(bundle.folder / network.file)
    if not network.file.endswith(".onnx"):
        raise ModelError(f"{name} is not an .onnx network; use --engine keras or openvino")
    model = OnnxModel(bundle.read_network(network), engine, name)
    check_shapes(*model.shapes, network, bundle.spec, name)
    return adapted(model, network, bundle.spec)


def precisions() -> tuple[Precision, ...]:
    """Return the precisions that ONNX Runtime is used in."""
    return ("float32",)


class OnnxModel:
    """A network that `voxtile.models.onnx_network.check_onnx` has checked, ready to run."""

    def __init__(self, content: bytes, engine: Engine, name: str = "the network") -> None:
        if engine.precision != "float32":
            raise EnvironmentFault(
                f"ONNX Runtime computes in float32, not {engine.precision}; use --precision "
                "float32, or --engine openvino"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, not printed
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=_providers(engine.device)
            )
        except EnvironmentFault:
            raise
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(
                f"{name} cannot be built by ONNX Runtime {onnxruntime.__version__} "
                f"({type(error).__name__})"
            ) from error
        takes, gives = self._session.get_inputs(), self._session.get_outputs()
        if len(takes) != 1 or len(gives) != 1:
            raise ModelError(
                f"{name} has {len(takes)} inputs and {len(gives)} outputs; one of each was needed"
            )
        self._input = takes[0].name
        self.shapes = _sizes(takes[0].shape), _sizes(gives[0].shape)

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the output for some tiles, float32, in the network's own layout."""
        most = self.shapes[0][0] or len(tiles)  # some networks take only one tile at a time
        parts = [
            self._session.run(None, {self._input: tiles[start : start + most]})[0]
            for start in range(0, len(tiles), most)
        ]
        return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _providers(device: str) -> list[Any]:
    """Return ONNX Runtime's names for a device."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise EnvironmentFault(
            f"--device {device}: this ONNX Runtime cannot use a GPU; pip install onnxruntime-gpu "
            "instead of onnxruntime, or use --device cpu"
        )
    # Without use_tf32=0 products would be rounded to 10 bits without a warning.
    return [("CUDAExecutionProvider", {"device_id": int(number or 0), "use_tf32": 0})]


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """Return a shape; an axis with a name instead of a size may have any size."""
    return tuple(size if isinstance(size, int) else None for size in shape)
