"""Networks that were made here, kept in folders of the cache: written whole, verified when read.

<folder>/<key>/
...                 what was made
entry.json          SHA-256 of each file, and what else is known of it
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import write_json

ENTRY = "entry.json"
_MOST_BYTES = 2 * 10**9
# What was used so recently may be about to be read by another process.
_IN_USE_S = 3600.0


def sound(place: Path) -> dict[str, Any] | None:
    """Return what is known of a kept network; None if it is not there or not what was written."""
    try:
        entry = json.loads((place / ENTRY).read_bytes())
        for name, digest in entry["sha256"].items():
            with (place / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return None
        with suppress(OSError):
            os.utime(place)  # the oldest are removed first
        return dict(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def keep(place: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Put a network in its place whole, instead of any that is there.

    Parameters
    ----------
    place : Path
    make : callable
        Writes files into the folder that it is given, and returns what shall
        be known of them.

    Returns
    -------
    dict
        That, and the files' digests.

    Raises
    ------
    EnvironmentFault
        If the disk refuses.
    """
    try:
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
        try:
            entry = make(work)
            entry["sha256"] = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in work.iterdir()
            }
            write_json(work / ENTRY, entry)
            shutil.rmtree(place, ignore_errors=True)  # a damaged one, or an older
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{place.parent} cannot be written ({error.strerror or error}); free space there, or "
            "set VOXTILE_CACHE to another folder"
        ) from error
    _trim(place.parent, place)
    return entry


@contextmanager
def alone(folder: Path, timeout_s: float) -> Iterator[None]:
    """Keep other processes from making something in a folder, which is made where it is missing.

    Raises
    ------
    EnvironmentFault
        If another does so for too long.
    """
    import filelock

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".lock", timeout=timeout_s):
            yield
    except filelock.Timeout as error:
        raise EnvironmentFault(
            f"another process holds {folder / '.lock'} for longer than any export takes; "
            "end it, or set VOXTILE_CACHE to another folder"
        ) from error


def _trim(folder: Path, kept: Path) -> None:
    """Remove what was not used for longest, until the rest is small enough."""
    entries = []
    for place in folder.iterdir():
        with suppress(OSError):  # another process may remove it
            if place.is_dir():
                size = sum(file.stat().st_size for file in place.iterdir())
                entries.append((place.stat().st_mtime, size, place))
    total = sum(size for _, size, _ in entries)
    for used, size, place in sorted(entries):
        if total <= _MOST_BYTES:
            return
        if place != kept and time.time() - used > _IN_USE_S:
            shutil.rmtree(place, ignore_errors=True)
            total -= size
