"""What happened to one case: seconds of each stage, warnings, fingerprint, peak memory."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtile.errors import Notice

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Journal:
    """A record that is filled while a case runs, and complete so far whenever it fails.

    `on_stage` is called with the name of each stage as it begins.
    """

    def __init__(self, on_stage: Callable[[str], None] | None = None) -> None:
        self._on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.notices: list[Notice] = []
        # Hash of everything that decides the result, once it is known.
        self.fingerprint = ""
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
        """Add notices that are not recorded yet."""
        self.notices.extend(notice for notice in notices if notice not in self.notices)

    @property
    def total_seconds(self) -> float:
        """Seconds since the case began."""
        return time.perf_counter() - self._begin


def peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process since the case began, in MB (10^6 bytes).

    Where the system cannot reset the peak, it is that since the process began;
    None if the system does not report it.
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
    """Reset the kernel's peak (Linux, proc(5): write 5 to clear_refs)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
