"""A process that fits one network, from its own side."""

from multiprocessing.connection import Connection
from time import monotonic

from voxtile.child import settle_child
from voxtile.errors import EnvironmentFault

# How often a process says how far it is, in seconds.
_TELL_EVERY_S = 0.5


class _Told:
    """What a fit shows, told to the training."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._told = -_TELL_EVERY_S

    def at(self, completed: float, words: str) -> None:
        """Tell it, but not at every step."""
        if monotonic() - self._told >= _TELL_EVERY_S:
            self._told = monotonic()
            self._line.send(("at", (completed, words)))

    def line(self, words: str) -> None:
        """Tell a line."""
        self._line.send(("line", words))


def serve(descriptor: int) -> None:
    """Fit what the training asks for, and end."""
    settle_child(descriptor)
    try:
        with Connection(descriptor) as line:
            _serve(line)
    except (EOFError, OSError):
        return  # the training is gone


def _serve(line: Connection) -> None:
    """Answer the training."""
    from .networks import fit_network

    this, until_s = line.recv()
    try:
        fit_network(this, until_s, _Told(line), lambda row: line.send(("row", row)))
    except (EnvironmentFault, ValueError) as error:
        line.send(("failed", error))
        return
    line.send(("done", None))
