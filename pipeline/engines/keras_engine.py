"""Run networks with Keras, on the backend that it is set to; this is the reference engine."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from voxtile.errors import ModelError
from voxtile.machine.memory_errors import KERAS_MB, require_memory
from voxtile.models.backend import keras
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

from .device import Computation, Device, gpus
from .engine import Engine, Model, Precision
from .fitting import adapted, check_shapes
from .folding import folded
from .short_numbers import CHANNELS, LAYERS, SIDE


def load(bundle: Bundle, network: Network, engine: Engine) -> Model:
    """Return one ``.keras`` network of a bundle as a callable."""
    device = Device(engine.device)
    with device.placed():
        model = build(bundle, network)
        if device.is_gpu:
            model = folded(model)
        if engine.precision != "float32":
            model = _at_precision(model, engine.precision)
    return adapted(KerasNetwork(model, device), network, bundle.spec)


class KerasNetwork:
    """A Keras network on a device, as a callable from tiles to answers.

    Parameters
    ----------
    model : keras.Model
    device : Device
    """

    def __init__(self, model: Any, device: Device) -> None:
        self.model = model
        self.device = device
        self._alone: Computation | None = None
        # On a processor XLA compiles for seconds with TensorFlow, and is not faster than oneDNN
        # (docs/performance.md). Without it, JAX would run each layer separately.
        model.jit_compile = keras.config.backend() == "jax"

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the answers for a batch of tiles."""
        with self.device.placed():
            # One compiled function; `model.predict` builds a data pipeline each time.
            return np.asarray(self.model.predict_on_batch(tiles))

    def seconds_alone(self, tiles: np.ndarray) -> float:
        """Return the seconds that the network needs for tiles that are already on its device."""
        if self._alone is None:
            self._alone = self.device.network(self.model, lambda answer: answer)
        sent, seconds = self.device.send(tiles), 0.0
        for _ in range(2):  # the first call may compile
            begin = perf_counter()
            self.device.fetch(self._alone(sent)[:1, :1, :1])()
            seconds = perf_counter() - begin
        return seconds


def build(bundle: Bundle, network: Network) -> Any:
    """Return one network as a Keras model; its file and shapes are checked."""
    name = str(bundle.folder / network.file)
    if not network.file.endswith(".keras"):
        raise ModelError(f"{name} cannot be run by Keras; use --engine openvino or onnx")
    require_memory(KERAS_MB, "Keras needs")
    content = bundle.read_network(network)
    # Keras needs a path. The checked bytes go into a private file, so that nobody can change
    # them before they are loaded.
    with tempfile.TemporaryDirectory(prefix="voxtile-") as folder:
        path = Path(folder, "network.keras")
        path.write_bytes(content)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise ModelError(
                f"{name} cannot be built by Keras {keras.__version__} "
                f"({type(error).__name__}); if a newer version made it, update Keras"
            ) from error
    shapes = model.input_shape, model.output_shape
    if any(not isinstance(shape, tuple) for shape in shapes):
        raise ModelError(
            f"{name} has inputs {shapes[0]} and outputs {shapes[1]}; one of each was needed"
        )
    check_shapes(*shapes, network, bundle.spec, name)
    return model


def precisions() -> tuple[Precision, ...]:
    """Return the precisions that are worth a measurement on a processor."""
    return "float32", "bfloat16"


def multiplier(size: int, engine: Engine) -> Callable[[], None]:
    """Return a function that multiplies two square matrices on an engine's device.

    The function returns when the product is known. No network computes faster than that.
    """
    device = Device(engine.device)
    numbers = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    with device.placed():
        one, other = (keras.ops.convert_to_tensor(part, engine.precision) for part in numbers)

    def multiply() -> None:
        with device.placed():
            product = keras.ops.matmul(one, other)
            # A GPU returns before it has finished; reading a number of the result waits for it.
            keras.ops.convert_to_numpy(keras.ops.cast(product[0, 0], "float32"))

    return multiply


def short_steps() -> dict[Precision, Callable[[], object]]:
    """Return a function for each precision, which runs some convolutions once in it."""
    rng = np.random.default_rng(0)
    tiles = rng.standard_normal((1, SIDE, SIDE, CHANNELS), np.float32)
    kernels = rng.standard_normal((LAYERS, 3, 3, CHANNELS, CHANNELS), np.float32) / CHANNELS

    def convolve(precision: Precision) -> object:
        answer, *weights = numbers[precision]
        for kernel in weights:
            answer = keras.ops.relu(
                keras.ops.conv(answer, kernel, padding="same", data_format="channels_last")
            )
        return keras.ops.convert_to_numpy(keras.ops.cast(answer[0, 0, 0], "float32"))

    numbers = {
        precision: [keras.ops.convert_to_tensor(one, precision) for one in (tiles, *kernels)]
        for precision in precisions()
    }
    return {precision: partial(convolve, precision) for precision in numbers}


def gpu_count() -> int:
    """Return how many GPUs Keras' backend finds."""
    return len(gpus())


def _at_precision(model: Any, precision: str) -> Any:
    """Return a network in another precision; the last two layers, for thresholds, stay float32."""
    last = {layer.name for layer in model.layers[-2:]}

    def changed(layer: Any) -> Any:
        config = layer.get_config()
        config["dtype"] = "float32" if layer.name in last else f"mixed_{precision}"
        return layer.__class__.from_config(config)

    other = keras.models.clone_model(model, clone_function=changed)
    other.set_weights(model.get_weights())
    return other
