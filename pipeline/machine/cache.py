"""The user's cache folder, for files that can be created again: exported networks, measurements.

Cached files are run, so nobody else may have written them. A folder is used only
if it belongs to the user, and nobody else can write to it or replace it.
"""

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from voxtile.errors import EnvironmentFault
from voxtile.models.own_folder import folder_problem, is_private, own_folders


def cache_folder(part: str = "") -> Path:
    """Return the user's cache folder, or a folder in it; it is created if it is missing.

    It is ``$VOXTILE_CACHE``, else ``$XDG_CACHE_HOME/voxtile``, else ``~/.cache/voxtile`` (XDG Base
    Directory Specification 0.8). If it cannot be used (see `cache_problem`), a private temporary
    folder replaces it: after a restart its files may have to be created again, but nothing else
    changes. EnvironmentFault if there is no folder for temporary files either.
    """
    if not cache_problem(part):
        for folder in own_folders():
            return folder / part
    folder = _temporary(tempfile.gettempdir()) / part
    problem = folder_problem(folder)
    if problem:
        raise EnvironmentFault(f"{folder} cannot be used as a cache: {problem}")
    return folder


def cache_problem(part: str = "") -> str:
    """Return why the user's cache folder, or a folder in it, is not used; empty if it is used."""
    for folder in own_folders():
        above = folder.parent
        named = [above] if str(above) == os.environ.get("XDG_CACHE_HOME") else []
        for one in dict.fromkeys((*named, folder, folder / part)):
            problem = folder_problem(one)
            if problem:
                return f"the cache {one} is not used: {problem}"
        return ""
    return "there is no cache: the home folder does not exist; set VOXTILE_CACHE to a folder"


def trim(entries: Iterable[Path], most_bytes: int, *, idle_s: float = 0.0) -> None:
    """Remove the least recently used of some files or folders, until the others are small enough.

    Entries that were used in the last `idle_s` seconds stay: another process may be about to read
    them.
    """
    found = []
    for path in entries:
        with suppress(OSError):  # another process may remove it
            files = list(path.iterdir()) if path.is_dir() else [path]
            found.append((path.stat().st_mtime, sum(one.stat().st_size for one in files), path))
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        if total <= most_bytes or time.time() - used < idle_s:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        total -= size


def _temporary(parent: str) -> Path:
    """Return a private folder among the temporary files, the same for every process if possible."""
    shared = Path(parent, f"voxtile-{os.getuid()}")
    if not folder_problem(shared) and is_private(shared):
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
