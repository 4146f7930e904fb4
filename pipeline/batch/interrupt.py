"""Ctrl-C and SIGTERM (a scheduler takes the machine back) end a run where it can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run that was told to stop, and did; says how to go on."""


class Stop:
    """Whether the run was told to stop.

    Parameters
    ----------
    at_once : bool
        Whether the signal raises KeyboardInterrupt where it strikes, for
        work in this process. A second signal always does.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.requested = False
        self._at_once = at_once

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        again, self.requested = self.requested, True
        if again or self._at_once:
            raise KeyboardInterrupt


@contextmanager
def listening(*, at_once: bool) -> Iterator[Stop]:
    """Listen for signals while the block runs; only the main thread of a process can."""
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
