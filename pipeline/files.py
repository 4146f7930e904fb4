"""Write a file whole or not at all: every write of voxtile goes through here.

A temporary name in the same folder, fsync, rename, fsync of the folder: after
a crash at any moment there is the old file or the new one, never a torn one.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import EnvironmentFault


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    private : bool, default False
        Whether only the user may read it, whatever the umask.

    Raises
    ------
    EnvironmentFault
        If the disk refuses; `path` is then as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent
        )
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written ({error.strerror or error}); "
            "check free space and permissions, then run the same command again"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8, whole or not at all; for the user's eyes only where `private`."""
    with replacing(path, private=private) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _umask() -> int:
    """Return the process's umask; temporary files are private until they are renamed."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; some file systems cannot sync a folder, and need not."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
