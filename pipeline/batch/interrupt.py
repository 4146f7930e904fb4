"""End a run after Ctrl-C or SIGTERM (from a job scheduler) so that it can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; the message says how to continue."""


class Stop:
    """Whether a signal asks the run to stop.

    With `at_once` a signal raises KeyboardInterrupt at once, for work in this process. A second
    signal always raises it.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.requested = False
        self._at_once = at_once

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        again, self.requested = self.requested, True
        if again or self._at_once:
            raise KeyboardInterrupt


@contextmanager
def listening(*, at_once: bool) -> Iterator[Stop]:
    """Handle signals while the block runs; outside the main thread, handle none."""
    stop = Stop(at_once=at_once)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
