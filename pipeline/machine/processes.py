"""Child processes: each has a line to its parent, and ends when its parent does.

A child is a plain subprocess: the caller's main script is not run again, and
nothing is shared with other children, so that killing one at any moment harms
no other. (The workers of a pool share a pipe and its locks: one that is killed
while it holds a lock stops them all.)

A child ends with its parent, however the parent died, in one of three ways,
because each has a gap. The kernel's signal (Linux) works even while C code
holds the interpreter, but follows the *thread* that started the child. A
thread that watches for the parent works everywhere, but needs the interpreter.
The end of the line to the parent wakes a child that waits for work.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from voxtile.errors import EnvironmentFault

# How long a child that closed its line may take to end, in seconds.
_DYING_S = 1.0
_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Child:
    """A child process, which ends with this one, and the line to it.

    It calls ``serve`` of `module` with the descriptor of its end. OSError if the
    system cannot start a process.
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
            self._process.wait(_DYING_S)  # before `end` kills it and hides its own exit code
        self.end()
        how = ending(self._process.returncode)
        return f"{how}; perhaps the system ran out of memory" if how == "SIGKILL" else how


def spawn(
    entry: str, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process that ends with this one; return it and this end of the line to it.

    It calls `entry`, ``module:function``, with the descriptor of the other end.
    `environment` is added to this process's. OSError if the system cannot start it.
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


@contextmanager
def needing_threads() -> Iterator[None]:
    """Raise EnvironmentFault if the system cannot start another thread while the block runs."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):  # threading has no error of its own
            raise
        raise EnvironmentFault(
            "no further thread can be started; use fewer --workers, or raise the limit of "
            "processes (ulimit -u), then run the same command again"
        ) from error


def serve_line(descriptor: int, answer: Callable[[Connection], None]) -> None:
    """Run as a child: answer what comes on the line until either side ends it.

    `answer` gets the line. When the parent is gone, reading the line raises
    EOFError, which ends the child.
    """
    settle_child(descriptor)
    # A line that breaks while something is sent (EPIPE, ECONNRESET) also means a parent is gone.
    with suppress(EOFError, ConnectionError), Connection(descriptor) as line:
        answer(line)


def settle_child(descriptor: int) -> None:
    """Silence a new child, and leave signals such as Ctrl-C to its parent.

    `descriptor` is its end of the line, which its own children must not keep open.
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


def command(statement: str) -> str:
    """Return Python code that runs a statement in a child which ends with this process.

    The child watches its parent before it imports anything else: imports take
    a while, and the parent may die in the meantime.
    """
    # The kernel takes the end of the thread that started a child for the end of its parent; only
    # the main thread lives as long as the process.
    lasting = threading.current_thread() is threading.main_thread()
    watch = f"from {__name__} import die_with; die_with({os.getpid()}, kernel={lasting})"
    return f"{watch}; {statement}"


def die_with(parent: int, *, kernel: bool) -> None:
    """Let this process be killed when its parent is gone, if `kernel` by the kernel too."""
    if kernel and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process as soon as its parent is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
