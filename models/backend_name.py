"""Which backend Keras uses, without importing it."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

_KNOWN = ("tensorflow", "jax", "torch")
_DRIVER = Path("/dev/nvidiactl")
_JAX_CUDA = ("jax_cuda13_plugin", "jax_cuda12_plugin")


def backend_name() -> str:
    """Return the backend that is named in the environment or in Keras' settings file.

    The rules are those of keras/src/backend/config.py in Keras 3. Keras itself
    writes TensorFlow into the settings file; JAX is used instead if it has CUDA
    and the machine has an NVIDIA GPU. If the file names a backend that is not
    installed, the first installed one of TensorFlow, JAX and PyTorch is used.
    """
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named
    home = os.environ.get("KERAS_HOME")
    folder = Path(home) if home else Path(os.path.expanduser("~"), ".keras")  # noqa: PTH111, raises not
    try:
        named = str(json.loads((folder / "keras.json").read_bytes()).get("backend", _KNOWN[0]))
    except (OSError, ValueError, AttributeError):
        named = _KNOWN[0]
    if named == _KNOWN[0] and _DRIVER.exists() and has_cuda("jax"):
        return "jax"
    if named in _KNOWN and find_spec(named) is None:
        return next((name for name in _KNOWN if find_spec(name) is not None), named)
    return named


def has_cuda(backend: str) -> bool:
    """Whether a backend's packages for NVIDIA GPUs are installed."""
    return any(find_spec(name) for name in (_JAX_CUDA if backend == "jax" else ("nvidia",)))
