"""How many processors an engine may use."""

import os


def thread_count() -> int:
    """Return ``OMP_NUM_THREADS`` where it is a number (a run sets it for its workers), else all.

    "All" are the processors that this process may run on.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if named.isdecimal() and int(named) > 0:
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
