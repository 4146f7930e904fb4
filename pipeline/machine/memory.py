"""Total, free and used memory: the machine's, or its container's."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")


def total_memory_mb() -> float:
    """Return the memory of the machine, or of its container, in MB (10^6 bytes)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    limit = _cgroup("memory.max")
    return total if limit is None else min(total, limit)


def free_memory_mb() -> float:
    """Return the memory that can be used now without swapping, in MB (10^6 bytes)."""
    free = total_memory_mb()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = min(free, float(available.split()[1]) * 1024 / 1e6)
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        # The system frees its cache of files when memory is needed.
        free = min(free, limit - used + (_cached_mb() or 0.0))
    return max(free, 0.0)


def resident_memory_mb() -> float:
    """Return the resident memory of this process, in MB (10^6 bytes); 0 if not reported."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass  # not Linux
    return 0.0


def _cgroup(name: str) -> float | None:
    """Return a limit or counter of the control group, in MB; None without a limit or counter."""
    try:
        return int((_CGROUP / name).read_text()) / 1e6
    except (OSError, ValueError):  # no control group, or "max"
        return None


def _cached_mb() -> float | None:
    """Return the cached files of the control group that it can free, in MB."""
    try:
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value) / 1e6
    except (OSError, ValueError):
        pass
    return None
