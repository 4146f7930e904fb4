"""The user's cache folder, for files that can be created again: exported networks, measurements.

Cached files are run, so nobody else may have written them. A folder is used only
if it belongs to the user, and nobody else can write to it or replace it.
"""

import atexit
import functools
import os
import shutil
import stat
import tempfile
from pathlib import Path

from voxtile.errors import EnvironmentFault


def cache_folder(part: str = "") -> Path:
    """Return the user's cache folder, or a folder in it; it is created if it is missing.

    It is ``$VOXTILE_CACHE``, else ``$XDG_CACHE_HOME/voxtile``, else ``~/.cache/voxtile`` (XDG Base
    Directory Specification 0.8). If it cannot be used (see `cache_problem`), a private temporary
    folder replaces it: after a restart its files may have to be created again, but nothing else
    changes. EnvironmentFault if there is no folder for temporary files either.
    """
    if not cache_problem(part):
        for folder in _candidates():
            return folder / part
    folder = _temporary(tempfile.gettempdir()) / part
    problem = _problem(folder)
    if problem:
        raise EnvironmentFault(f"{folder} cannot be used as a cache: {problem}")
    return folder


def cache_problem(part: str = "") -> str:
    """Return why the user's cache folder, or a folder in it, is not used; empty if it is used."""
    for folder in _candidates():
        above = folder.parent
        named = [above] if str(above) == os.environ.get("XDG_CACHE_HOME") else []
        for one in dict.fromkeys((*named, folder, folder / part)):
            problem = _problem(one)
            if problem:
                return f"the cache {one} is not used: {problem}"
        return ""
    return "there is no cache: the home folder does not exist; set VOXTILE_CACHE to a folder"


def is_private(path: Path) -> bool:
    """Whether only the user can write to a folder or file (a link itself, not its target)."""
    try:
        found = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return plain and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _candidates() -> list[Path]:
    """Return the folder that the environment names; an empty list without a home folder."""
    named = os.environ.get("VOXTILE_CACHE")
    if named:
        return [Path(named).absolute()]
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117, the specification ignores relative paths
        return [Path(base, "voxtile")]
    home = Path(os.path.expanduser("~"))  # noqa: PTH111, Path's raises without a home
    # A missing home folder is not created: it may be a disk that is mounted later.
    return [home / ".cache/voxtile"] if home.is_absolute() and home.is_dir() else []


def _problem(folder: Path) -> str:
    """Return why a folder, or the target of a link, cannot be used; empty if it exists now."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = folder.resolve(strict=True)
        if not is_private(place):
            if place.stat().st_uid != os.getuid():
                return "it belongs to another user; set VOXTILE_CACHE to a folder of your own"
            return f"others can write to it; chmod go-w {place}"
        for above in dict.fromkeys((*place.parents, *folder.absolute().parents)):
            mode = above.stat().st_mode
            # In a sticky folder, such as /tmp, nobody can replace files of another user.
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return f"others can write to {above}, and replace it; chmod o-w {above}"
    except (OSError, RuntimeError) as error:  # RuntimeError for links in a circle
        reason = getattr(error, "strerror", None) or "links in a circle"
        return f"it cannot be created ({reason}); set VOXTILE_CACHE to a folder of your own"
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return "you cannot write to it; set VOXTILE_CACHE to a folder of your own"
    return ""


def _temporary(parent: str) -> Path:
    """Return a private folder among the temporary files, the same for every process if possible."""
    shared = Path(parent, f"voxtile-{os.getuid()}")
    if not _problem(shared) and is_private(shared):
        return shared
    return _own_temporary(parent)


@functools.cache
def _own_temporary(parent: str) -> Path:
    """Return a private temporary folder, which is removed when this process ends."""
    try:
        folder = tempfile.mkdtemp(prefix="voxtile-", dir=parent)
    except OSError as error:
        raise EnvironmentFault(
            f"{parent} cannot be written ({error.strerror}); free space there, or set "
            "VOXTILE_CACHE to a folder of your own"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
