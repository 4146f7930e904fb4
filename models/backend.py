"""Keras, imported without the start-up messages of TensorFlow.

TensorFlow's C++ code writes these messages to the process's standard error before
any setting is read. They would hide the messages of voxtile.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from .backend_name import backend_name


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard the process's standard error while the block runs; exceptions are not affected."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ["KERAS_BACKEND"] = backend_name()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # to see more, set it before the import
# By default JAX takes 75 % of a GPU's memory when it starts, and TensorFlow takes all of it. Then
# no second worker could use the GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
with _quiet():
    import keras

__all__ = ["keras"]
