"""Total, free and used memory of the machine, or of its control groups.

A container or a job of a cluster has a control group, in one of two layouts of
the kernel: cgroup v2 (``memory.max``) or v1 (``memory.limit_in_bytes``). Groups
are nested, and each may have a limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# The file has lines "number:controllers:path"; v2 has no controllers.
_OWN_GROUPS = Path("/proc/self/cgroup")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")
STATUS = Path("/proc/self/status")


def total_memory_mb() -> float:
    """Return the memory of the machine, or of its control group, in MB (10^6 bytes)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    return min([total, *(limit for limit, _ in _groups())])


def free_memory_mb() -> float:
    """Return the memory that can be used now without swapping, in MB (10^6 bytes)."""
    free = total_memory_mb()
    available = number_in(Path("/proc/meminfo"), "MemAvailable")
    if available is not None:
        free = min(free, available * 1024 / 1e6)
    return max(0.0, min([free, *(limit - used for limit, used in _groups())]))


def resident_memory_mb() -> float:
    """Return the resident memory of this process, in MB (10^6 bytes); 0 if not reported."""
    return (number_in(STATUS, "VmRSS") or 0.0) * 1024 / 1e6


def number_in(path: Path, name: str) -> float | None:
    """Return the number after a name in a file such as ``/proc/meminfo``, or None."""
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0].rstrip(":") == name:
                return float(words[1])
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    return None


def _groups() -> Iterator[tuple[float, float]]:
    """Yield limit and used memory, in MB, of each control group of this process with a limit."""
    places = [(_CGROUP, "", _V2)]
    try:
        for line in _OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                places += [(_CGROUP, path, _V2), (_CGROUP / "unified", path, _V2)]
            elif "memory" in controllers.split(","):
                places.append((_CGROUP / "memory", path, _V1))
    except (OSError, ValueError):
        pass  # not Linux
    for root, path, names in places:
        # In a container, the path may be the host's path: then only the root exists here.
        for depth in range(len(parts := [part for part in path.split("/") if part]), -1, -1):
            yield from _limit_and_use(root.joinpath(*parts[:depth]), *names)


def _limit_and_use(group: Path, most: str, used: str, cached: str) -> Iterator[tuple[float, float]]:
    """Yield a group's limit and used memory, if known; cached files do not count as used."""
    try:
        limit, use = (int((group / name).read_text()) for name in (most, used))
    except (OSError, ValueError):  # no control group, or "max"
        return
    freeable = number_in(group / "memory.stat", cached) or 0.0
    yield limit / 1e6, (use - freeable) / 1e6
