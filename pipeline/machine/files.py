"""Files that are written completely or not at all; every file of voxtile is written here.

A file gets a temporary name in the same folder, then fsync, rename, and fsync of
the folder. After a crash there is the old file or the new one, never part of a
file. A crash may leave a temporary file, which `clear_temporary` removes.
"""

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from voxtile.errors import EnvironmentFault

_TEMPORARY = ".tmp"
# .<name>.<random>.tmp; `tempfile` draws the random part.
_TEMPORARY_NAME = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")
# Errors of file systems that cannot sync a folder; they can be ignored.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
# Errors of file systems that have no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def replacing(
    path: Path, *, private: bool = False, publish: Callable[[Path, Path], object] | None = None
) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` if the block ends without an error.

        Its folder is created if it is missing. If `private`, only the user may read
        it, whatever the umask. `publish` gives the temporary file its name, by a
    rename unless given. EnvironmentFault if writing fails; `path` is then
    unchanged.
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
        (publish or Path.replace)(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            # On a broken disk this fails too, but the first error is reported.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8, completely or not at all; if `private`, only the user may read it."""
    with replacing(path, private=private) as file:
        file.write(text.encode())


def write_new(path: Path, text: str) -> bool:
    """Write a file unless one of its name exists; return whether it was written.

    Of several writers, also on several machines, only one succeeds, if the file
    system has hard links. EnvironmentFault if the disk refuses.
    """
    is_first = True

    def link(temporary: Path, path: Path) -> None:
        nonlocal is_first
        try:
            os.link(temporary, path)
        except (FileExistsError, FileNotFoundError):  # the first may have cleared this one
            is_first = False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            temporary.replace(path)

    with replacing(path, publish=link) as file:
        file.write(text.encode())
    return is_first


def json_text(value: Any) -> str:
    """Return a JSON value as the text of a file."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, completely or not at all."""
    write_text(path, json_text(value))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that replaces `path` when the block ends without an error.

    Folders that an earlier, killed call left are removed, by their names:
    ``.<name>.<random>.new`` and ``.old``. EnvironmentFault if the folder
    cannot be written; `path` is then unchanged.
    """
    parent = path.absolute().parent
    new: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in folders_left(path):
            shutil.rmtree(left, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".new", dir=parent))
        new.chmod(0o777 & ~_umask())
        yield new
        old = new.with_suffix(".old")
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        sync_folder(parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(new.with_suffix(".old"), ignore_errors=True)


def folders_left(path: Path) -> list[Path]:
    """Return the folders that `replacing_folder` left beside a path because it was killed."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.(?:new|old)")
    return [left for left in path.absolute().parent.glob(".*") if name.fullmatch(left.name)]


def append_line(path: Path, line: str) -> None:
    """Add one line to a file of lines, in one write; EnvironmentFault if writing fails.

    After a crash the last line may be incomplete; even then, the next line
    begins on a new line.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # If somebody has put a link under this name, the link is not followed.
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
        raise unwritable(path, error) from error


def remove(path: Path) -> None:
    """Remove a file, if it exists; EnvironmentFault if it cannot be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be removed ({error.strerror or error}); check permissions"
        ) from error


def regular(path: Path) -> Path:
    """Return the path of a file that can be read to its end.

    OSError if it is missing, or a folder, pipe, socket or device, whose reading may never end.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file is needed", str(path))
    if not stat.S_ISREG(mode):
        kind = "it is a pipe, socket or device, and a file is needed"
        raise OSError(errno.EINVAL, kind, str(path))
    return path


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, socket or device; False for a broken link."""
    return path.exists() and not path.is_file() and not path.is_dir()


def clear_temporary(folder: Path, names: Container[str] | None = None) -> None:
    """Remove the temporary files that killed writers left, for some names or for all.

    No process may be writing these files.
    """
    for path in folder.glob(f".*{_TEMPORARY}"):
        name = temporary_for(path)
        if name is not None and (names is None or name in names):
            remove(path)


def temporary_for(path: Path) -> str | None:
    """Return the name of the file that a temporary file of `replacing` would become.

    It is None for any other file, such as a user's own ``.x.tmp``.

    Examples
    --------
    >>> temporary_for(Path(".report.csv.k3_0abcd.tmp")), temporary_for(Path(".x.tmp"))
    ('report.csv', None)
    """
    match = _TEMPORARY_NAME.fullmatch(path.name)
    return None if match is None else match[1]


def unwritable(path: Path, error: OSError) -> EnvironmentFault:
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
    except PermissionError:  # the folder may be written but not read
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

    Pipes, sockets and devices are left out, because reading them may never end.
    `on_error` gets the error of a folder that cannot be listed; if `on_error`
    returns, the walk goes on without that folder.
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        real = Path(root).resolve()
        if real in seen:  # a link back up, or a second path to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(root, name) for name in files if not name.startswith("."))
        yield from (path for path in paths if not is_special(path))
