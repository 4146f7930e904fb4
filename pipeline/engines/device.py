"""One GPU, or the processor, as Keras' backend uses it: send, compute, fetch.

Everything that TensorFlow, JAX and PyTorch do in different ways on a device is
here. The computations themselves are written once, with `keras.ops`
(`voxtile.engines.device_stages`). Calls return before the device has
finished: only `Fetching` waits.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from voxtile.errors import EnvironmentFault, counted
from voxtile.machine.memory import free_memory_mb
from voxtile.models.backend import keras

from .program_cache import cache_programs

_UNKNOWN_FREE_MB = 8000.0

# An array on a device, of any backend.
Tensor = Any
# A function from tensors to tensors.
Computation = Callable[..., Any]


class Fetching(Protocol):
    """A copy to the processor's memory that may not be finished."""

    def __call__(self) -> np.ndarray:
        """Wait for the copy and return it."""
        ...


class Device:
    """A device on which Keras' backend computes.

    Parameters
    ----------
    name : str
        "cpu", "gpu", or "gpu:N" for GPU number N, counted from 0; "cpu:N" for tests with JAX,
        which can divide the processor into several devices.

    Raises
    ------
    EnvironmentFault
        If there is no such device.
    """

    def __init__(self, name: str) -> None:
        if keras.config.backend() == "jax":
            cache_programs()
        kind, _, number = name.partition(":")
        found = gpus()
        if kind == "gpu" and int(number or 0) >= len(found):
            raise EnvironmentFault(
                f"--device {name}: Keras with {keras.config.backend()} finds "
                f"{counted(len(found), 'GPU')}; voxtile doctor says what is missing"
            )
        self.is_gpu = kind == "gpu"
        # Without a GPU, None leaves the choice to the backend, which has only the processor.
        self._name = None if name == "cpu" and not found else f"{kind}:{number or 0}"
        self._backend = keras.config.backend()
        if self._backend == "torch" and self.is_gpu:
            import torch

            # Matrix products in TF32, as convolutions there, and as with the other backends.
            torch.set_float32_matmul_precision("high")

    def placed(self) -> AbstractContextManager[Any]:
        """Return a context in which the backend uses the device; each use needs a new one."""
        return nullcontext() if self._name is None else keras.device(self._name)

    def compiled(self, function: Computation) -> Computation:
        """Return a function of tensors, compiled once for each set of their shapes."""
        if self._backend == "jax":
            import jax

            return self._inside(jax.jit(function))
        if self._backend == "tensorflow":
            import tensorflow

            # On a processor XLA compiles for seconds and gains nothing over oneDNN.
            traced = tensorflow.function(function, autograph=False, jit_compile=self.is_gpu)
            return self._inside(traced)
        return self._inside(function)

    def network(self, model: Any, after: Computation, *, changes: bool = False) -> Computation:
        """Return a Keras model, followed by `after`, as one compiled function.

        If its weights change later (`changes`), each call uses those that the model has then.
        """

        def answer_of(tiles: Any) -> Any:
            return after(model(tiles, training=False))

        if self._backend == "torch" and self.is_gpu and not changes:
            return self.compiled(self._traced(answer_of))
        if self._backend != "jax":
            return self.compiled(answer_of)
        import jax

        # Weights are arguments: inside the program they would make it large and slow to compile.
        def answer(weights: Any, others: Any, tiles: Any) -> Any:
            return after(model.stateless_call(weights, others, tiles, training=False)[0])

        def values() -> tuple[list[Any], list[Any]]:
            parts = model.trainable_variables, model.non_trainable_variables
            return tuple([variable.value for variable in part] for part in parts)  # type: ignore[return-value]

        run = self.compiled(answer)
        if changes:
            return lambda tiles: run(*values(), tiles)
        # These are copies, because `predict_on_batch` frees the buffers of the model itself.
        fixed = jax.device_put(values(), self._jax_device(), may_alias=False)
        return lambda tiles: run(*fixed, tiles)

    def _traced(self, function: Computation) -> Computation:
        """Return a function whose operations PyTorch compiles, once for each shape."""
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        # What the compiler refuses runs operation by operation.
        torch._dynamo.config.suppress_errors = True
        compiled: dict[tuple[int, ...], Computation] = {}

        def run(tensor: Any) -> Any:
            shape = tuple(tensor.shape)
            if shape not in compiled:
                # Given Keras' own Python code, the compiler traces seven times as long.
                compiled[shape] = torch.compile(make_fx(function)(tensor), dynamic=False)
            return compiled[shape](tensor)

        return run

    def send(self, array: np.ndarray) -> Tensor:
        """Return a copy of an array on the device; the array must not change until it is there."""
        if self._backend == "jax":
            import jax

            return jax.device_put(array, self._jax_device())
        if self._backend == "torch":
            import torch

            if not self.is_gpu:
                return torch.from_numpy(np.array(array))
            # Only page-locked memory is copied while the device computes.
            kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
            locked = torch.empty(array.shape, dtype=kind, pin_memory=True)
            np.copyto(locked.numpy(), array)
            return locked.to(self._torch_device(), non_blocking=True)
        with self.placed():
            return keras.ops.convert_to_tensor(array)

    def fetch(self, tensor: Tensor) -> Fetching:
        """Begin to copy a tensor to the processor's memory."""
        if self._backend == "jax":
            tensor.copy_to_host_async()
            return lambda: np.asarray(tensor)
        if self._backend == "torch" and self.is_gpu:
            import torch

            locked = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            locked.copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()
            done.record()

            def wait() -> np.ndarray:
                done.synchronize()
                found: np.ndarray = locked.numpy()
                return found

            return wait
        return lambda: np.asarray(keras.ops.convert_to_numpy(tensor))

    def free_mb(self) -> float:
        """Return the free memory of the device, in MB (10^6 bytes); 8 GB if not reported."""
        if not self.is_gpu:
            return free_memory_mb()
        if self._backend == "torch":
            import torch

            return float(torch.cuda.mem_get_info(self._torch_device())[0]) / 1e6
        if self._backend == "jax":
            facts = self._jax_device().memory_stats() or {}
            if "bytes_limit" in facts:
                return float(facts["bytes_limit"] - facts["bytes_in_use"]) / 1e6
        return _UNKNOWN_FREE_MB

    def _inside(self, function: Computation) -> Computation:
        """Return a function that runs on the device and records nothing for gradients."""

        def run(*arguments: Any) -> Any:
            with self.placed():
                if self._backend != "torch":
                    return function(*arguments)
                import torch

                with torch.inference_mode():
                    return function(*arguments)

        return run

    def _jax_device(self) -> Any:
        """Return JAX' own name of the device."""
        import jax

        kind, _, number = (self._name or "cpu:0").partition(":")
        return jax.devices(kind)[int(number)]

    def _torch_device(self) -> str:
        """Return PyTorch's own name of the device."""
        return (self._name or "cpu").replace("gpu", "cuda")


def gpus() -> list[Any]:
    """Return the GPUs of Keras' backend."""
    try:
        return list(keras.distribution.list_devices("gpu"))
    except (NotImplementedError, RuntimeError, AttributeError):
        pass
    if keras.config.backend() == "torch":
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return []
