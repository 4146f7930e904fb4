"""What happened to one case: seconds of each stage, warnings, fingerprint, peak memory."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voxtile.errors import Notice
from voxtile.machine.memory import STATUS, number_in

_CLEAR = Path("/proc/self/clear_refs")


class Journal:
    """A record that is filled while a case runs; if the case fails, it is complete up to there.

    `on_stage` is called with the name of each stage as it begins.
    """

    def __init__(self, on_stage: Callable[[str], None] | None = None) -> None:
        self._on_stage = on_stage
        self.seconds: dict[str, float] = {}
        self.notices: list[Notice] = []
        # Hash of everything that decides the result; empty until it is known.
        self.fingerprint = ""
        self.stage_name = "start"
        self._begin = time.perf_counter()
        with suppress(OSError):  # resets the kernel's peak (Linux, proc(5))
            _CLEAR.write_text("5")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; the times of stages with the same name are added."""
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

    If the system cannot reset the peak, it is the peak since the process began;
    None if the system does not report a peak.
    """
    kilobytes = number_in(STATUS, "VmHWM")
    if kilobytes is not None:
        return kilobytes * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
