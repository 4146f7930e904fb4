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


def made_by_main_thread() -> bool:
    """Whether a child that is made now may hold on to this thread: it lives as long as Python."""
    return threading.current_thread() is threading.main_thread()


def die_with_parent(*, of_main_thread: bool) -> None:
    """Let this process be killed when its parent is gone.

    Parameters
    ----------
    of_main_thread : bool
        `made_by_main_thread` as the parent saw it. The kernel takes the end
        of the thread that made this process for the end of the parent.
    """
    parent = os.getppid()
    if of_main_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process as soon as its parent is another."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)
