"""A process that fits one network, from its own side."""

import pickle
from multiprocessing.connection import Connection
from time import monotonic

from voxtile.errors import EnvironmentFault
from voxtile.machine.processes import serve_line

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
    serve_line(descriptor, _fit)


def _fit(line: Connection) -> None:
    """Fit one network."""
    task = line.recv_bytes()  # before libraries are loaded: the training waits until it is taken
    try:
        from .networks import fit_network

        this, until_s = pickle.loads(task)
        fit_network(this, until_s, _Told(line), lambda row: line.send(("row", row)))
    except ConnectionError:
        raise  # the training is gone
    except Exception as error:
        # Others may not survive the way: what they say does.
        known = type(error) in (EnvironmentFault, ValueError)
        named = RuntimeError(f"{type(error).__name__}: {error}")
        line.send(("failed", error if known else named))
        return
    line.send(("done", None))
