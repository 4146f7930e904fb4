"""Nothing at import needs POSIX: a system without it gets sentences, not errors of Python."""

import subprocess
import sys

# Imported once as it is, so that other packages are loaded; then again without POSIX.
_PROGRAM = """
import builtins, importlib, os, pkgutil, signal, socket, sys
import voxtile

names = [one.name for one in pkgutil.walk_packages(voxtile.__path__, "voxtile.")]
names.remove("voxtile.__main__")
for name in names:
    importlib.import_module(name)
for name in names:
    del sys.modules[name]
real = builtins.__import__

def without_posix(name, globals=None, *rest, **words):
    ours = (globals or {}).get("__name__", "").startswith("voxtile")
    if ours and name.partition(".")[0] in ("fcntl", "resource", "pwd", "grp", "termios", "posix"):
        raise ImportError(name)
    return real(name, globals, *rest, **words)

builtins.__import__ = without_posix
for module, hidden in (
    (os, "fork getuid geteuid memfd_create sched_getaffinity pread sysconf O_NOFOLLOW O_NONBLOCK "
         "O_CLOEXEC MFD_CLOEXEC"),
    (signal, "SIGKILL SIGHUP pthread_sigmask"),
    (socket, "send_fds recv_fds AF_UNIX"),
):
    for name in hidden.split():
        delattr(module, name)
for name in names:
    importlib.import_module(name)
assert len(names) > 200
"""


def test_every_module_can_be_imported_without_posix() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
