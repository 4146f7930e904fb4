"""What happened to one case: its stages with their seconds, its notices, its peak memory."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtile.errors import Notice

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Journal:
    """A record that fills while a case runs, and holds what there is when it fails.

    Parameters
    ----------
    on_stage : callable, optional
        Called with the name of each stage as it begins.
    """

    def __init__(self, on_stage: Callable[[str], None] | None = None) -> None:
        self._on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.notices: list[Notice] = []
        self.stage_name = "start"
        self._begin = time.perf_counter()
        _reset_peak_memory()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; a name used again adds up."""
        self.stage_name = name
        if self._on_stage is not None:
            self._on_stage(name)
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def note(self, notices: Iterable[Notice]) -> None:
        """Keep notices, each once."""
        self.notices.extend(notice for notice in notices if notice not in self.notices)

    @property
    def total_seconds(self) -> float:
        """Seconds since the case began."""
        return time.perf_counter() - self._begin


def peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process since the case began, in MB (10^6 bytes).

    Since the process began where the system cannot reset the peak; None where
    it does not tell.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _reset_peak_memory() -> None:
    """Let the kernel forget the peak so far (Linux, proc(5): writing 5 to clear_refs)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
