"""The user's cache folder, for files that can be made again: exported networks, measurements."""

import os
import stat
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder, created if it is missing.

    ``$VOXTILE_CACHE``, else ``$XDG_CACHE_HOME/voxtile``, else
    ``~/.cache/voxtile`` (XDG Base Directory Specification 0.8). If none can be
    written, a private folder among the temporary files: its files may have to
    be made again after a restart, and nothing else changes.
    """
    for folder in _candidates():
        if _usable(folder):
            return folder
    shared = Path(tempfile.gettempdir(), f"voxtile-{os.getuid()}")
    if _usable(shared) and _private(shared):
        return shared
    return Path(tempfile.mkdtemp(prefix="voxtile-"))


def _candidates() -> list[Path]:
    """Return the folders that the environment names, in order."""
    named = os.environ.get("VOXTILE_CACHE")
    if named:
        return [Path(named).absolute()]
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117, the specification ignores relative ones
        return [Path(base, "voxtile")]
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, Path's raises without a home
    # A missing home is not created: it may be a disk that is mounted later.
    return [home / ".cache/voxtile"] if home.is_absolute() and home.is_dir() else []


def _usable(folder: Path) -> bool:
    """Whether a folder exists or was created, and may be written to; others cannot read it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def _private(folder: Path) -> bool:
    """Whether a folder in a shared one is the user's own, and nobody else may write to it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
