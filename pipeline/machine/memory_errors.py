"""Errors for a lack of memory: which exceptions of libraries say so, and limits that are too low.

A limit on the memory that a process may ask for (``ulimit -v``) makes libraries fail in words of
their own, hang, or end the process.
"""

import math

from voxtile.errors import EnvironmentFault

from .memory import STATUS, number_in

# Codes of the errors of a case that more memory would mend.
MEMORY_CODES = ("out_of_memory", "too_large")
_LEAST_MB = 1000
# What Keras needs; with 2000 MB TensorFlow crashes in mid-training.
KERAS_MB = 2400
# Words in errors about a lack of memory: from TensorFlow and JAX, PyTorch, CUDA, C++ (OpenVINO,
# ONNX Runtime), the system, the dynamic loader, and from threads that get no stack.
_NO_MEMORY = (
    "resourceexhausted",
    "resource_exhausted",
    "outofmemory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "cannot allocate memory",
    "failed to map segment",
    "can't start new thread",
)
# Errors in which libraries say in words of their own that they got no memory; others, such as
# ValueError, complain about what they were given.
_VAGUE = (RuntimeError, ImportError, SystemError)
# The share of a limit on memory that a process has asked for if the limit is why it failed.
_FULL = 0.9


def require_memory(
    least_mb: float = _LEAST_MB, needs: str = "the libraries of voxtile need"
) -> None:
    """Refuse a limit on memory (``ulimit -v``) in which a library would not end with an error.

    Without memory OpenBLAS tries to start for ever; OpenVINO and TensorFlow end the process.
    """
    limit = limit_mb()
    if limit < least_mb:
        raise EnvironmentFault(
            f"memory is limited to {limit:.0f} MB (ulimit -v), but {needs} {least_mb:.0f} MB to "
            "start; raise the limit"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception of any library, or one of its causes, says that memory ran out.

    An error without such words counts too if the process has reached its limit (``ulimit -v``).
    """
    while error is not None:
        words = f"{type(error).__name__} {error}".lower()
        if isinstance(error, MemoryError) or any(sign in words for sign in _NO_MEMORY):
            return True
        if isinstance(error, _VAGUE) and _peak_mb() > _FULL * limit_mb():
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_mb() -> float:
    """Return the limit on what this process may ask for (``ulimit -v``), in MB."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit / 1e6


def _peak_mb() -> float:
    """Return the most memory that this process has asked for, in MB; 0 if not reported."""
    return (number_in(STATUS, "VmPeak") or 0.0) * 1024 / 1e6
