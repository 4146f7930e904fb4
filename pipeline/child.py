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
from multiprocessing.connection import Connection

from .lifeline import command


def start_child(module: str, threads: int) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a child, which ends with this process, and return it with the line to it.

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
    near, far = socket.socketpair()
    program = command(f"from {module} import serve; serve({far.fileno()})")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        # Children share a GPU: the first would otherwise take all of its memory.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    try:
        with far:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                env=environment,
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                # Libraries print what they read, and that may name a patient.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    except OSError:
        near.close()
        raise
    return process, Connection(near.detach())


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
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def ending(code: int) -> str:
    """Return how a process ended: the signal's name, or the exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
