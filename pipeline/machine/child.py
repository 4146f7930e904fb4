"""A child process that computes, and the line to it.

It is a plain subprocess: the caller's main script is not run again, and
nothing is shared with other children, so that one that is killed at any
moment harms no other. (Pools share a pipe and its locks: one killed while it
holds them stops all.)
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from .lifeline import command

# How long the end of a child that closed its line may take, in seconds.
_DYING_S = 1.0


class Child:
    """A child process, which ends with this one, and the line to it.

    Parameters
    ----------
    module : str
        Its ``serve`` is called with the descriptor of the child's end.
    threads : int
        Processors that it may use.

    Raises
    ------
    OSError
        If the system refuses.
    """

    def __init__(self, module: str, threads: int) -> None:
        self._process, channel = spawn(
            f"{module}:serve",
            {
                "OMP_NUM_THREADS": str(threads),
                "OPENBLAS_NUM_THREADS": str(threads),
                "TF_NUM_INTRAOP_THREADS": str(threads),
                "TF_NUM_INTEROP_THREADS": "1",
                # Children share a GPU: the first would otherwise take all of its memory.
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            },
        )
        self.line = Connection(channel.detach())

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self.line.close()

    def how_it_died(self) -> str:
        """Return how it ended by itself, such as ``exit code 1``, after its line was closed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_S)  # its own end says more than ours
        self.end()
        how = ending(self._process.returncode)
        return f"{how}; perhaps the system ran out of memory" if how == "SIGKILL" else how


def spawn(
    entry: str, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process that ends with this one, and return it with this end of a line to it.

    Parameters
    ----------
    entry : str
        ``module:function``, called with the descriptor of the other end.
    environment : dict of str to str
        Beside this process' own.

    Raises
    ------
    OSError
        If the system refuses.
    """
    module, function = entry.split(":")
    near, far = socket.socketpair()
    program = command(f"from {module} import {function}; {function}({far.fileno()})")
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        with far:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                env={**os.environ, "PYTHONPATH": paths, **environment},
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                # Libraries print what they read, and that may name a patient.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    except OSError:
        near.close()
        raise
    return process, near


def serve_line(descriptor: int, answer: Callable[[Connection], None]) -> None:
    """Live as a child: answer what comes on the line until either side ends it.

    Parameters
    ----------
    descriptor : int
        The child's end of the line.
    answer : callable
        Gets the line; EOFError, which reading it raises when the parent is
        gone, ends the child.
    """
    settle_child(descriptor)
    # A line that breaks while something is sent (EPIPE, ECONNRESET) is a parent that is gone, too.
    with suppress(EOFError, ConnectionError), Connection(descriptor) as line:
        answer(line)


def settle_child(descriptor: int) -> None:
    """Make a fresh child quiet, deaf to signals that its parent decides on, and sole owner.

    Parameters
    ----------
    descriptor : int
        Its end of the line, which its own children must not keep open.
    """
    os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # pydicom's quote tag values
    logging.disable(logging.CRITICAL)


def ending(code: int) -> str:
    """Return how a process ended: the signal's name, or the exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
