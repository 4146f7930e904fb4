"""Networks that were made here, cached in folders: written whole, verified when read.

An entry is valid only if it holds exactly the files of a network, each file has
the recorded digest, and only the user can write to the files.

<folder>/<key>/
...                 the files of the network
entry.json          SHA-256 of each file, and facts about the network
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import trim
from voxtile.machine.files import write_json
from voxtile.machine.json_objects import ANY_KEY, read_object
from voxtile.models.own_folder import is_private

ENTRY = "entry.json"
REFUSED = "refused"
_SHAPE = {"sha256": {ANY_KEY: str}, REFUSED: str, "difference": float}
_MOST_BYTES = 2 * 10**9
# Another process may be about to read an entry that was used within this time.
_IN_USE_S = 3600.0


def read_entry(path: Path, files: Collection[str]) -> dict[str, Any] | None:
    """Return the facts about a cached network; None if it is missing or was altered.

    `files` are the names of its files; a network that was refused has none.
    """
    try:
        if not is_private(path) or not all(map(is_private, path.iterdir())):
            return None
        entry = read_object(path / ENTRY, _SHAPE, required=("sha256",))
        expected = set() if REFUSED in entry else set(files)
        if set(entry["sha256"]) != expected:
            return None
        if {file.name for file in path.iterdir()} != {*expected, ENTRY}:
            return None
        for name, digest in entry["sha256"].items():
            with (path / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return None
    except (OSError, ValueError):
        return None
    with suppress(OSError):
        os.utime(path)  # the least recently used entries are removed first
    return entry


def digest_of(entries: Iterator[dict[str, Any]]) -> str:
    """Return one digest of the files of some entries."""
    parts = [
        f"{name} {digest}" for entry in entries for name, digest in sorted(entry["sha256"].items())
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def write_entry(path: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Cache a network, completely or not at all, and replace an earlier one.

    `make` writes files into the folder that it is given, and returns facts about the network. The
    digest of each file is added to them as ``sha256``. EnvironmentFault if writing fails.
    """
    try:
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
        try:
            entry = make(work)
            if REFUSED in entry:
                for file in work.iterdir():
                    file.unlink()
            entry["sha256"] = {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in work.iterdir()
            }
            write_json(work / ENTRY, entry)
            shutil.rmtree(path, ignore_errors=True)  # a damaged or older entry
            work.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path.parent} cannot be written ({error.strerror or error}); free space there, or "
            "set VOXTILE_CACHE to another folder"
        ) from error
    trim(filter(Path.is_dir, path.parent.iterdir()), _MOST_BYTES, idle_s=_IN_USE_S)
    return entry


@contextmanager
def alone(folder: Path, timeout_s: float) -> Iterator[None]:
    """Keep other processes from adding to a folder, which is created if it is missing.

    EnvironmentFault if another process holds the folder for too long, or the folder cannot be
    created or locked.
    """
    import filelock

    lock = filelock.FileLock(folder / ".lock", timeout=timeout_s)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise EnvironmentFault(
            f"another process has held {folder / '.lock'} for longer than any export takes; "
            "end it, or set VOXTILE_CACHE to another folder"
        ) from error
    except OSError as error:
        raise EnvironmentFault(
            f"{folder} cannot be locked ({error.strerror or type(error).__name__}); set "
            "VOXTILE_CACHE to a folder of your own on another disk"
        ) from error
    try:
        yield
    finally:
        lock.release()
