"""The child process that fits one network."""

import pickle
from multiprocessing.connection import Connection
from time import monotonic

from voxtile.errors import EnvironmentFault, UsageError, place_of
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.machine.processes import serve_line

# Seconds between two messages about progress.
_EVERY_S = 0.5


class _Sender:
    """Sends the progress of a fit to the parent process."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._sent = -_EVERY_S

    def at(self, completed: float, words: str) -> None:
        """Send the progress, if the last message was long enough ago."""
        if monotonic() - self._sent >= _EVERY_S:
            self._sent = monotonic()
            self._line.send(("at", (completed, words)))

    def line(self, words: str) -> None:
        """Send a line."""
        self._line.send(("line", words))


def serve(descriptor: int) -> None:
    """Fit one network and end."""
    serve_line(descriptor, _fit)


def _fit(line: Connection) -> None:
    """Fit one network."""
    task = line.recv_bytes()  # before libraries are loaded, because the parent waits for this
    try:
        from .networks import fit_network

        this, until_s = pickle.loads(task)
        fit_network(this, until_s, _Sender(line), lambda row: line.send(("row", row)))
    except ConnectionError:
        raise  # the parent has ended
    except Exception as error:
        if is_out_of_memory(error):
            error = EnvironmentFault(
                "memory ran out while a network was fitted; end other programs, then continue "
                "with --resume"
            )
        # Other errors may be impossible to pickle, and their text may quote a patient's data.
        known = type(error) in (EnvironmentFault, UsageError)
        named = RuntimeError(f"{type(error).__name__} at {place_of(error)}")
        line.send(("failed", error if known else named))
        return
    line.send(("done", None))
