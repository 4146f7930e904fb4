"""Download a file whose checksum is known: whole and right, or not at all.

    .NAME.part        what has come so far
    .NAME.part.json   of which file: address, validator, size
    NAME              the file, once its checksum is right

A connection may break at any byte and the process may end at any moment: the
next call asks for the rest (RFC 9110, section 14, range requests). If-Range
(section 13.1.5) makes a server whose file has changed, or that knows no
ranges, send all of it, and then the beginning is dropped.
"""

import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from voxtile.errors import EnvironmentFault, SourceError
from voxtile.machine.files import remove, sync_folder, write_json

_PIECE = 1 << 18
# Connections in a row that bring nothing before it is given up.
_ATTEMPTS = 5
# Answers that another attempt may mend: too many requests, and the server's own troubles.
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_RANGE_NOT_SATISFIABLE = 416


@dataclass(frozen=True, slots=True)
class _Origin:
    """Which file a beginning is of: equal origins may be joined."""

    url: str
    validator: str
    size: int | None


class _CutOff(Exception):
    """A connection that ended before the file did."""


def download(
    url: str,
    path: Path,
    *,
    md5: str,
    say: Callable[[str], None] = lambda _: None,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> bool:
    """Bring a file from a server, or the rest of it, unless it is here.

    Parameters
    ----------
    url : str
        ``http`` or ``https``; proxies are those of the environment.
    path : Path
        Where the file goes. Nothing is written outside its folder, and under
        its name only the whole, verified file. Nobody else may be
        downloading to it; see `alone`.
    md5 : str
        What its MD5 must be, in hexadecimal. It finds damage; against a
        forger it is no defence.
    say : callable
        Gets a sentence when something is worth knowing.
    pause_s : float, default 1
        Before the second attempt, and as much longer before each further one.
    timeout_s : float, default 30
        Of silence, after which a connection counts as broken.

    Returns
    -------
    bool
        Whether anything was downloaded; False if the file was here.

    Raises
    ------
    SourceError
        If the file under `path` or the one that came has another checksum.
    EnvironmentFault
        If the server cannot be reached or refuses, or the disk does. What has
        come is kept, and the next call goes on from there.
    ValueError
        If `url` is not one of http or https.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"address {url!r} must begin with http:// or https://")
    part = path.with_name(f".{path.name}.part")
    note = path.with_name(f".{path.name}.part.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _verify_present(path, md5)
            return False
        for again in (True, False):
            joined = _bring(url, part, note, pause_s, timeout_s, say)
            size, digest = part.stat().st_size, _md5(part)
            if digest == md5.lower():
                break
            remove(part)
            remove(note)
            if not (joined and again):
                raise SourceError(
                    f"{url} gave {size:,} bytes with MD5 {digest}, but {md5} is needed; nothing "
                    "was kept. The file has changed or something on the way changes it: try "
                    "another network, or ask whoever publishes it"
                )
            say("the pieces do not make the file that is needed; starting over")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written ({error.strerror or error}); check free space and "
            "permissions, then run the same command again: it goes on where it stopped"
        ) from error
    remove(note)
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold what is to be made under a name, so that no other process makes it meanwhile.

    Parameters
    ----------
    path : Path
        A file or folder that need not exist. ``.NAME.lock`` stays beside it.

    Raises
    ------
    EnvironmentFault
        If another process holds it, or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        lock.acquire()
    except Timeout:
        raise EnvironmentFault(
            f"another process is bringing {path}; wait for it, or end it"
        ) from None
    except OSError as error:
        raise EnvironmentFault(
            f"{path.parent} cannot be written ({error.strerror or error}); name another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _bring(
    url: str, part: Path, note: Path, pause_s: float, timeout_s: float, say: Callable[[str], None]
) -> bool:
    """Fill `part` up to the end of the file; return whether it was joined from pieces."""
    failures = 0
    joined = False
    while True:
        before = _beginning(part, note, url)[1]
        try:
            joined |= _connect(url, part, note, timeout_s, say)
            return joined
        except _CutOff as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= _ATTEMPTS:
                raise EnvironmentFault(
                    f"{url} could not be downloaded ({error}); {after:,} bytes are here. Check the "
                    "network, then run the same command again: it goes on where it stopped"
                ) from error
            say(f"the connection broke after {after:,} bytes ({error}); trying again")
            time.sleep(pause_s * failures)


def _connect(
    url: str, part: Path, note: Path, timeout_s: float, say: Callable[[str], None]
) -> bool:
    """Ask for what is missing and write it; return whether a beginning was there and kept."""
    origin, have = _beginning(part, note, url)
    if origin is not None and have and have == origin.size:
        return True  # ended between the last byte and the new name
    headers = {"Accept-Encoding": "identity", "User-Agent": "voxtile"}
    if origin is not None and have:
        headers["Range"] = f"bytes={have}-"
        if origin.validator:
            headers["If-Range"] = origin.validator
    with _opened(url, headers, part, timeout_s) as answer:
        now = _origin(url, answer)
        if answer.status == http.client.PARTIAL_CONTENT:
            if now != origin or _range_start(answer) != have:
                remove(part)
                raise _CutOff("the file on the server is another one now")
        else:
            if have:
                why = "knows no ranges" if now == origin else "has another file now"
                say(f"the server {why}; {have:,} bytes are dropped, and it starts over")
            have = 0
            remove(part)
            write_json(note, asdict(now))
        if now.size is not None:
            _check_space(part.parent, now.size - have)
        _write(answer, part, have, now.size)
    return have > 0


def _write(answer: Any, part: Path, have: int, size: int | None) -> None:
    """Append what comes to `part`, up to the promised size."""
    # A link that somebody planted under the name is not followed.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o666), "ab") as file:
        for piece in _pieces(answer):
            have += len(piece)
            if size is not None and have > size:
                break
            file.write(piece)
    if size is not None and have != size:
        raise _CutOff(f"{have:,} of {size:,} bytes came")


def _pieces(answer: Any) -> Iterator[bytes]:
    """Yield the body; a trouble of the network is a `_CutOff`, so that the disk's stay OSError."""
    while True:
        try:
            piece = answer.read1(_PIECE)  # what is there, so that silence loses nothing
        except (OSError, http.client.HTTPException) as error:
            raise _CutOff(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


@contextmanager
def _opened(url: str, headers: dict[str, str], part: Path, timeout_s: float) -> Iterator[Any]:
    """Open a connection and read the head of the answer."""
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE:
            remove(part)  # more is here than there is: the file is another one
            raise _CutOff("the file on the server is shorter than what is here") from error
        if error.code in _PASSING:
            raise _CutOff(f"the server answered {error.code} {error.reason}") from error
        target = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
        raise EnvironmentFault(
            f"{url}: the server answered {error.code} {error.reason}; check whether the address "
            f"still holds, or bring the file from elsewhere and put it at {target}"
        ) from error
    except urllib.error.URLError as error:
        raise _CutOff(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutOff(str(error) or type(error).__name__) from error
    with answer:
        yield answer


def _origin(url: str, answer: Any) -> _Origin:
    """Return which file an answer is of."""
    tag = answer.headers.get("ETag", "")
    # A weak tag may stay when bytes change (RFC 9110, section 8.8.1).
    strong = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    if answer.status == http.client.PARTIAL_CONTENT:
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        length = answer.headers.get("Content-Length", "")
    return _Origin(url, strong, int(length) if length.isdecimal() else None)


def _range_start(answer: Any) -> int | None:
    """Return the first byte of an answer to a range request: ``bytes 100-199/200``."""
    first = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else None


def _beginning(part: Path, note: Path, url: str) -> tuple[_Origin | None, int]:
    """Return what is known of the beginning that is here, and its size; 0 where it is of no use."""
    with suppress(OSError, ValueError, TypeError):
        origin = _Origin(**json.loads(note.read_text()))
        if origin.url == url and not part.is_symlink():
            return origin, part.stat().st_size
    return None, 0


def _verify_present(path: Path, md5: str) -> None:
    """Refuse a file that is not the one that is needed."""
    if not path.is_file():
        raise EnvironmentFault(f"{path} is not a file; name another folder")
    digest = _md5(path)
    if digest != md5.lower():
        raise SourceError(
            f"{path} is here with MD5 {digest}, but {md5} is needed; it is damaged or another "
            "file. Remove it and run the same command again"
        )


def _check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentFault(
            f"{folder} has {free:,} bytes free, but {needed:,} are still to come; make room and "
            "run the same command again"
        )


def _md5(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
