"""Which backend Keras uses, without importing it."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

_KNOWN = ("tensorflow", "jax", "torch")


def backend_name() -> str:
    """Return the backend that is named in the environment or in Keras' settings file.

    As in keras/src/backend/config.py of Keras 3. Where none is named, or the
    settings file names one that is not installed, the first installed one of
    TensorFlow, JAX and PyTorch.
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
    if named in _KNOWN and find_spec(named) is None:
        return next((name for name in _KNOWN if find_spec(name) is not None), named)
    return named
