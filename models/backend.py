"""Keras, imported without the start-up messages of TensorFlow.

They come from C++ before any setting is read, straight to the process's
standard error, and would drown what voxtile says itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _quiet() -> Iterator[None]:
    """Send the process's standard error nowhere while the block runs; Python errors still rise."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a caller who wants more sets it first
with _quiet():
    import keras

__all__ = ["keras"]
