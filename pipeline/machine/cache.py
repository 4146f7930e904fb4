"""The folder in which voxtile keeps what it can make again: exported networks, measurements."""

import os
import stat
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder, made where it is missing.

    ``$VOXTILE_CACHE``, else ``$XDG_CACHE_HOME/voxtile``, else
    ``~/.cache/voxtile`` (XDG Base Directory Specification 0.8). Where none can
    be written, a private folder among the temporary files: what is kept there
    may have to be made again after a restart, and nothing else changes.
    """
    for place in _places():
        if _usable(place):
            return place
    shared = Path(tempfile.gettempdir(), f"voxtile-{os.getuid()}")
    if _usable(shared) and _private(shared):
        return shared
    return Path(tempfile.mkdtemp(prefix="voxtile-"))


def _places() -> list[Path]:
    """Return where the cache may be, most wanted first."""
    named = os.environ.get("VOXTILE_CACHE")
    if named:
        return [Path(named).absolute()]
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117, the specification ignores relative ones
        return [Path(base, "voxtile")]
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, Path's raises where there is no home
    # A home that is not there is not made: it may be a disk that is mounted later.
    return [home / ".cache/voxtile"] if home.is_absolute() and home.is_dir() else []


def _usable(folder: Path) -> bool:
    """Whether a folder is there, or could be made, and may be written to; for the user's eyes."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _private(folder: Path) -> bool:
    """Whether a folder is the user's own and nobody else may write: others share its parent."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
