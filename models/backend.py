"""Keras, imported without the start-up messages of TensorFlow.

Its C++ code writes them to the process's standard error before any setting is
read. They would hide the messages of voxtile.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


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


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # unless the user has set it
with _quiet():
    import keras

__all__ = ["keras"]
