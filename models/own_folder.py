"""The user's own folder of voxtile, where downloaded models and cached files are.

It is used only if nobody else can write to it or replace it: networks and exported
programs in it are run. This module is on the ground floor, because a model is found by name there.
"""

import os
import stat
from pathlib import Path


def is_private(path: Path) -> bool:
    """Whether only the user can write to a folder or file (a link itself, not its target)."""
    try:
        found = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
    return plain and found.st_uid == os.getuid() and not found.st_mode & 0o022


def own_folders() -> list[Path]:
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


def folder_problem(folder: Path) -> str:
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
