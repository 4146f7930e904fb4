"""A child process that ends when its parent does, however the parent died.

Three ways, because each has a gap. The kernel's (Linux) works even while C
code holds the interpreter, but follows the *thread* that made the child. A
thread that looks for the parent works everywhere, but needs the interpreter.
The end of the line to the parent wakes a child that waits for work.
"""

import ctypes
import os
import signal
import sys
import threading
import time

_LOOK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1  # prctl(2)


def command(statement: str) -> str:
    """Return Python code that runs a statement in a child which ends with this process.

    It holds on to its parent first: imports take a while, and a parent may
    die in the meantime.
    """
    # The kernel takes the end of the thread that made a child for the end of its parent; only
    # the main thread lives as long as the process.
    lasting = threading.current_thread() is threading.main_thread()
    hold = (
        f"from voxtile.machine.lifeline import die_with; die_with({os.getpid()}, kernel={lasting})"
    )
    return f"{hold}; {statement}"


def die_with(parent: int, *, kernel: bool) -> None:
    """Let this process be killed when its parent is gone.

    Parameters
    ----------
    parent : int
        Its process number.
    kernel : bool
        Whether the kernel is asked too.
    """
    if kernel and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before anybody looked
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process as soon as its parent is another."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
