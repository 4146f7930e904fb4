"""Download one file whose checksum is known; an interrupted download goes on where it ended."""

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from voxtile.errors import EnvironmentFault, SourceError, UsageError

from .files import remove, sync_folder, unwritable

_PIECE = 2**18
# Whoever put a link under the name of a part does not choose the file that is written.
_MODE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
# Bytes of a file of unknown size.
MOST_BYTES = 2**35


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock a path, so that two processes do not make the same file or folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise EnvironmentFault(
            f"another process is downloading {path}; wait until it ends, or stop it"
        ) from None
    except OSError as error:
        raise unwritable(path, error) from error


def download(
    url: str,
    path: Path,
    checksum: str,
    *,
    most_bytes: int = MOST_BYTES,
    timeout_s: float = 30.0,
    on_bytes: Callable[[int, int], None] | None = None,
) -> bool:
    """Download a file unless it is there; return whether it was downloaded.

    `checksum` is such as ``sha256:2c26...``; the file gets its name only after it was verified.
    (``md5`` finds damage; it does not protect from forgery.) Until then it is ``.<name>.part``,
    where the next call goes on if the server can send the rest of a file. The proxies of the
    environment are used. `on_bytes` is called with (bytes so far, all bytes; 0 if unknown).

    Raises
    ------
    UsageError
        If the address is not one of the web.
    SourceError
        If the file, or one that is already there, is another one or too large.
    EnvironmentFault
        If the network or the disk fails.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"address {url!r} must begin with http:// or https://")
    part = path.with_name(f".{path.name}.part")
    if path.exists():
        if (found := _sum(path, checksum)) != checksum:
            raise SourceError(
                f"{path} has {_words(found)}, but {_words(checksum)} is needed; it is damaged or "
                "another file. Remove it and run the same command again"
            )
        return False
    begun = part.is_file() and part.stat().st_size
    _fetch(url, part, path, most_bytes, timeout_s, on_bytes)
    if begun and _sum(part, checksum) != checksum:  # the first bytes were of another file
        remove(part)
        _fetch(url, part, path, most_bytes, timeout_s, on_bytes)
    if (found := _sum(part, checksum)) != checksum:
        size = part.stat().st_size
        remove(part)
        raise SourceError(
            f"{url} gave {size:,} bytes with {_words(found)}, but {_words(checksum)} is needed; "
            "nothing was saved. The file on the server has changed, or the network changes "
            "it: try another network, or ask the publisher"
        )
    part.replace(path)
    sync_folder(path.parent)
    return True


def _fetch(
    url: str,
    part: Path,
    path: Path,
    most_bytes: int,
    timeout_s: float,
    on_bytes: Callable[[int, int], None] | None,
) -> None:
    """Download the bytes that a file lacks; remove it if there are too many."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, _MODE, 0o666), "r+b") as file:
            start = file.seek(0, os.SEEK_END)
            for place, piece, size in _pieces(url, path, start, timeout_s):
                if max(size, place + len(piece)) > most_bytes:
                    remove(part)
                    raise SourceError(
                        f"{url} has more than the {most_bytes:,} bytes that were expected; nothing "
                        "was saved. Check the address, or ask the publisher"
                    )
                file.seek(place)
                file.write(piece)
                file.truncate()
                if on_bytes is not None:
                    on_bytes(place + len(piece), size)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if part.is_file() and not part.stat().st_size:
            remove(part)


def _pieces(url: str, path: Path, start: int, timeout_s: float) -> Iterator[tuple[int, bytes, int]]:
    """Yield the bytes that a server sends, the place of each in the file, and the file's size."""
    wanted = {"Range": f"bytes={start}-"} if start else {}
    try:
        request = urllib.request.Request(url, headers=wanted)
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            begins = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            place = start if answer.status == 206 and begins else 0
            left = int(answer.headers.get("Content-Length", 0))
            size = place + left if left else 0
            free = shutil.disk_usage(path.parent).free
            if left > free:
                raise EnvironmentFault(
                    f"{path.parent} has {free:,} bytes free, but the download needs {left:,}; make "
                    "room and run the same command again"
                )
            yield place, b"", size
            while piece := answer.read1(_PIECE):
                yield place, piece, size
                left -= len(piece)
                place += len(piece)
            if left > 0:
                raise http.client.HTTPException(f"{left:,} bytes are missing at the end")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            yield from _pieces(url, path, 0, timeout_s)
            return
        raise EnvironmentFault(
            f"{url}: the server answered {error.code} {error.reason}; check the address, or "
            f"download the file in another way and save it as {path}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(
            f"{url} could not be downloaded ({getattr(error, 'reason', error)}); check the network "
            "and run the same command again"
        ) from error


def _sum(path: Path, checksum: str) -> str:
    """Return the checksum of a file, of the same kind as another one."""
    kind = checksum.partition(":")[0]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


def _words(checksum: str) -> str:
    """Return a checksum for people, such as SHA-256 2c26..."""
    kind, _, digest = checksum.partition(":")
    return f"{'SHA-256' if kind == 'sha256' else kind.upper()} {digest}"
