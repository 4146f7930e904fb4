"""Child processes: each has a connection (line) to its parent, and ends when its parent ends.

A child is a plain subprocess: the caller's main script is not run again, and
nothing is shared with other children, so that a child can be killed at any moment
without harm to the others. (The workers of a pool share a pipe and its locks: a
worker that is killed while it holds a lock stops all workers.)

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
    """A child process, which ends with this process, and the line to the child.

    The child calls ``serve`` of `module` with the descriptor of its end of the line.
    OSError if the system cannot start a process.
    """

    def __init__(self, module: str, threads: int) -> None:
        self._process, channel = spawn(
            f"{module}:serve",
            {
                "OMP_NUM_THREADS": str(threads),
                "OPENBLAS_NUM_THREADS": str(threads),
                "TF_NUM_INTRAOP_THREADS": str(threads),
                "TF_NUM_INTEROP_THREADS": "1",
                # Children share a GPU; otherwise the first child would take all of its memory.
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            },
        )
        self.line = Connection(channel.detach())

    @property
    def pid(self) -> int:
        """Process number of the child."""
        return self._process.pid

    def end(self) -> None:
        """End the child, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self.line.close()

    def how_it_died(self) -> str:
        """Return how the child ended, such as ``exit code 1``, after it closed its line."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_S)  # before `end` kills it and hides its own exit code
        self.end()
        how = ending(self._process.returncode)
        return f"{how}; perhaps the system ran out of memory" if how == "SIGKILL" else how


def spawn(
    entry: str, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child that ends with this process; return the child and this end of its line.

    The child calls `entry`, ``module:function``, with the descriptor of the other end.
    `environment` is added to this process's. OSError if the child cannot be started.
    """
    near, far = socket.socketpair()
    try:
        with far:
            process = start(entry, far.fileno(), environment, lent=(far.fileno(),))
    except OSError:
        near.close()
        raise
    return process, near


def start(
    entry: str, argument: object, environment: Mapping[str, str], lent: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a child that ends with this process; it calls `entry` with the argument.

    It may use the descriptors `lent`, which only POSIX systems have. OSError if it cannot start.
    """
    module, function = entry.split(":")
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-c"),
            command(f"from {module} import {function}; {function}({argument!r})"),
        ],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        pass_fds=lent,
        stdin=subprocess.DEVNULL,
        # Libraries print what they read, and this text may name a patient.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def needing_threads() -> Iterator[None]:
    """Raise EnvironmentFault if the system cannot start another thread while the block runs."""
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):  # threading has no special error
            raise
        raise EnvironmentFault(
            "no further thread can be started; use fewer --workers, or raise the limit of "
            "processes (ulimit -u), then run the same command again"
        ) from error


def serve_line(descriptor: int, answer: Callable[[Connection], None]) -> None:
    """Run as a child: answer messages on the line until either side closes the line.

    `answer` gets the line. When the parent has ended, reading the line raises
    EOFError, which ends the child.
    """
    settle_child(descriptor)
    # A line that breaks while something is sent (EPIPE, ECONNRESET) also means: the parent ended.
    with suppress(EOFError, ConnectionError), Connection(descriptor) as line:
        answer(line)


def settle_child(descriptor: int | None) -> None:
    """Silence a new child, and leave signals such as Ctrl-C to its parent.

    `descriptor` is the child's end of the line, which further children must not keep open.
    """
    if descriptor is not None:
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # pydicom's warnings quote tag values
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
    """Return Python code that runs a statement in a child that ends with this process.

    The child watches its parent before it imports anything else: imports take
    a while, and the parent may die in the meantime.
    """
    # For the kernel, the parent ends when the thread that started the child ends; only the main
    # thread lives as long as the process.
    lasting = threading.current_thread() is threading.main_thread()
    watch = f"from {__name__} import die_with; die_with({os.getpid()}, kernel={lasting})"
    return f"{watch}; {statement}"


def die_with(parent: int, *, kernel: bool) -> None:
    """Let this process be killed when its parent ends; if `kernel`, also by the kernel."""
    if kernel and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before prctl
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process as soon as its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
