"""Files that are written whole or not at all; every file of voxtile is written here.

A temporary name in the same folder, fsync, rename, fsync of the folder: after
a crash at any moment there is the old file or the new one, never part of one.
A crash may leave a temporary file, which `clear_temporary` removes.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from voxtile.errors import EnvironmentFault, UsageError

_TEMPORARY = ".tmp"
# Errors of file systems that cannot sync a folder, and need not.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` if the block ends without an error.

    Its folder is created if it is missing. If `private`, only the user may read
    it, whatever the umask. EnvironmentFault if the disk refuses; `path` is then
    as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _fault(path, error) from error
    finally:
        if temporary is not None:
            # On a broken disk this fails too, and the first error is the one to report.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8, whole or not at all; if `private`, only the user may read it."""
    with replacing(path, private=private) as file:
        file.write(text.encode())


def json_text(value: Any) -> str:
    """Return a JSON value as the text of a file."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, whole or not at all."""
    write_text(path, json_text(value))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that replaces `path` when the block ends without an error.

    What an earlier call left after a kill is removed. EnvironmentFault if it
    cannot be written; `path` is then unchanged.
    """
    new, old = (path.absolute().with_name(f".{path.name}.{kind}") for kind in ("new", "old"))
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        new.rename(path)
        sync_folder(new.parent)
    except OSError as error:
        raise _fault(path, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def append_line(path: Path, line: str) -> None:
    """Add one line to a file of lines, in one write; EnvironmentFault if the disk refuses.

    After a crash the last line may be incomplete; the next one begins on a new
    line anyway.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link that somebody has put under this name is not followed.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path, flags, 0o666)
        try:
            size = os.fstat(handle).st_size
            incomplete = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            content = (("\n" if incomplete else "") + line + "\n").encode()
            if os.write(handle, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise _fault(path, error) from error


def remove(path: Path) -> None:
    """Remove a file, if it exists; EnvironmentFault if it cannot be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be removed ({error.strerror or error}); check permissions"
        ) from error


def refuse_source(source: Path, out: Path) -> None:
    """Refuse to write over the file that is read, under any of its names."""
    # Through links of both kinds; a broken link is not the source.
    if source.exists() and out.exists() and out.samefile(source):
        raise UsageError(f"{out} is the scan itself and would be overwritten; name another file")


def clear_temporary(folder: Path, names: Container[str] | None = None) -> None:
    """Remove the temporary files for some names (or all) of writers that were killed.

    No process may be writing them.
    """
    for path in folder.glob(f".*{_TEMPORARY}"):
        # .<name>.<random>.tmp, and the random part has no dot.
        if names is None or path.name[1:].rsplit(".", 2)[0] in names:
            remove(path)


def _fault(path: Path, error: OSError) -> EnvironmentFault:
    """Return the error for a file that could not be written."""
    return EnvironmentFault(
        f"{path} cannot be written ({error.strerror or error}); "
        "check free space and permissions, then run the same command again"
    )


def _umask() -> int:
    """Return the process's umask; temporary files are private until they are renamed."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make a rename durable, if the file system can sync a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written but not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def files_below(folder: Path, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield every visible file below a folder; follow links, and enter each folder once.

    `on_error` gets the error of a folder that cannot be listed; if it returns,
    the walk goes on without that folder.
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link back up, or a second path to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in files if not name.startswith("."))
