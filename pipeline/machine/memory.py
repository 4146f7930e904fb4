"""Total, free and used memory: the machine's, or that of its control groups.

A container or a job of a cluster has a control group, in one of two layouts of
the kernel: cgroup v2 (``memory.max``) or v1 (``memory.limit_in_bytes``). Groups
lie in each other, and each may have a limit.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# Lines "number:controllers:path"; v2 has no controllers.
_OWN_GROUPS = Path("/proc/self/cgroup")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")
_STATUS = Path("/proc/self/status")


def total_memory_mb() -> float:
    """Return the memory of the machine, or of its control group, in MB (10^6 bytes)."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    return min([total, *(limit for limit, _ in _groups())])


def free_memory_mb() -> float:
    """Return the memory that can be used now without swapping, in MB (10^6 bytes)."""
    free = total_memory_mb()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = min(free, float(available.split()[1]) * 1024 / 1e6)
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux
    return max(0.0, min([free, *(limit - used for limit, used in _groups())]))


def resident_memory_mb() -> float:
    """Return the resident memory of this process, in MB (10^6 bytes); 0 if not reported."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass  # not Linux
    return 0.0


def _groups() -> Iterator[tuple[float, float]]:
    """Yield limit and use, in MB, of each control group of this process that has a limit."""
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
        # In a container, the path may be that on the host: then only the root is here.
        for depth in range(len(parts := [part for part in path.split("/") if part]), -1, -1):
            yield from _limit_and_use(root.joinpath(*parts[:depth]), *names)


def _limit_and_use(group: Path, most: str, used: str, cached: str) -> Iterator[tuple[float, float]]:
    """Yield limit and use of a group, if it has both; files that the system can free are unused."""
    try:
        limit, use = (int((group / name).read_text()) for name in (most, used))
    except (OSError, ValueError):  # no control group, or "max"
        return
    try:
        lines = (group / "memory.stat").read_text().splitlines()
        use -= next((int(line.split()[1]) for line in lines if line.startswith(f"{cached} ")), 0)
    except (OSError, ValueError, IndexError):
        pass
    yield limit / 1e6, use / 1e6
