"""Total, free and used memory: the machine's, or its container's."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
STATUS = Path("/proc/self/status")


def total_memory_mb() -> float:
    """Return the memory of the machine, or of its container, in MB (10^6 bytes)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    limit = _cgroup("memory.max")
    return total if limit is None else min(total, limit)


def free_memory_mb() -> float:
    """Return the memory that can be used now without swapping, in MB (10^6 bytes)."""
    free = total_memory_mb()
    available = number_in(Path("/proc/meminfo"), "MemAvailable")
    if available is not None:
        free = min(free, available * 1024 / 1e6)
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        # The system frees its cache of files when memory is needed.
        cached = number_in(_CGROUP / "memory.stat", "inactive_file") or 0.0
        free = min(free, limit - used + cached / 1e6)
    return max(free, 0.0)


def resident_memory_mb() -> float:
    """Return the resident memory of this process, in MB (10^6 bytes); 0 if not reported."""
    return (number_in(STATUS, "VmRSS") or 0.0) * 1024 / 1e6


def number_in(path: Path, name: str) -> float | None:
    """Return the number after a name in a file such as ``/proc/meminfo``; None without one."""
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0].rstrip(":") == name:
                return float(words[1])
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    return None


def _cgroup(name: str) -> float | None:
    """Return a limit or counter of the control group, in MB; None without a limit or counter."""
    try:
        return int((_CGROUP / name).read_text()) / 1e6
    except (OSError, ValueError):  # no control group, or "max"
        return None
