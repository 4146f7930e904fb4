"""The processors of this machine: how many may be used, and of which kind."""

import os
import platform
from pathlib import Path


def processor_count() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Return the number of threads that an engine may use.

    It is ``OMP_NUM_THREADS`` if that is a number (a run sets it for its workers),
    else `processor_count`.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(named) if named.isdecimal() and int(named) > 0 else processor_count()


def processor_model() -> tuple[str, frozenset[str]]:
    """Return the name of the processor and its flags, such as ``avx2``, as Linux calls them."""
    name = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                return name, frozenset(value.split())
    except OSError:  # not Linux
        name = platform.processor() or name
    return name, frozenset()


def gpu_model(number: int = 0) -> str:
    """Return the name of an NVIDIA GPU, as its driver names it; "GPU" if unknown."""
    try:
        files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in files[number].read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "Model":
                return value.strip()
    except (OSError, IndexError):
        pass
    return "GPU"
