"""Download one archive whose checksum is known, and unpack it completely or not at all."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from voxtile.errors import EnvironmentFault, SourceError
from voxtile.machine.files import clear_temporary, replacing, sync_folder


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
        raise _unwritable(path, error) from error


def download(url: str, path: Path, *, md5: str, timeout_s: float = 30.0) -> bool:
    """Download a file unless it is there; return whether it was downloaded.

    The file gets its name only after its MD5 was verified. (MD5 finds damage;
    it does not protect from forgery.) The proxies of the environment are used.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"address {url!r} must begin with http:// or https://")
    if path.exists():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise SourceError(
                f"{path} has MD5 {found}, but {md5} is needed; it is damaged or another file. "
                "Remove it and run the same command again"
            )
        return False
    clear_temporary(path.parent, {path.name})
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with replacing(path) as file:
        for piece in _pieces(url, path, timeout_s):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        if digest.hexdigest() != md5:
            raise SourceError(
                f"{url} gave {size:,} bytes with MD5 {digest.hexdigest()}, but {md5} is needed; "
                "nothing was saved. The file on the server has changed, or the network changes "
                "it: try another network, or ask the publisher"
            )
    return True


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a tar whose members are all in a folder named like `folder`; return its file count.

    `folder` must not exist. It appears in one step, complete. AppleDouble files
    (``._name``, which macOS adds) are left out.
    """
    if folder.exists():
        raise EnvironmentFault(f"{folder} exists; remove it or name another folder")
    work = folder.with_name(f".{folder.name}.unpacking")
    try:
        shutil.rmtree(work, ignore_errors=True)  # left by a process that was killed
        work.mkdir(parents=True)
        with tarfile.open(archive, "r:") as tar:
            members = [member for member in tar if _wanted(member, folder.name)]
            tar.extractall(work, members, filter="data")
        (work / folder.name).rename(folder)
        sync_folder(folder.parent)
        return sum(member.isreg() for member in members)
    except tarfile.TarError as error:
        raise SourceError(
            f"{archive} cannot be unpacked ({error}); remove it and download it again"
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pieces(url: str, path: Path, timeout_s: float) -> Iterator[bytes]:
    """Yield the bytes that a server sends."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            left = int(answer.headers.get("Content-Length", 0))
            free = shutil.disk_usage(path.parent).free
            if left > free:
                raise EnvironmentFault(
                    f"{path.parent} has {free:,} bytes free, but the download needs {left:,}; make "
                    "room and run the same command again"
                )
            while piece := answer.read(1 << 18):
                left -= len(piece)
                yield piece
            if left > 0:
                raise http.client.HTTPException(f"{left:,} bytes are missing at the end")
    except urllib.error.HTTPError as error:
        error.close()
        raise EnvironmentFault(
            f"{url}: the server answered {error.code} {error.reason}; check the address, or "
            f"download the file in another way and save it as {path}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(
            f"{url} could not be downloaded ({getattr(error, 'reason', error)}); check the network "
            "and run the same command again"
        ) from error


def _wanted(member: tarfile.TarInfo, top: str) -> bool:
    """Whether a member is to be unpacked; refuse members that a data set never has."""
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    inside = not path.is_absolute() and ".." not in parts and parts[:1] in ([], [top], [f"._{top}"])
    # A sparse file of a few bytes may claim any size.
    plain = member.isdir() or (member.isreg() and not member.issparse())
    if not inside or not plain:
        raise SourceError(
            f"archive member {member.name!r} is not a plain file or folder inside {top}/; do not "
            "trust this archive"
        )
    return bool(parts) and not parts[-1].startswith("._")


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    """Return the error for a path that cannot be written."""
    return EnvironmentFault(
        f"{path} cannot be written ({error.strerror or error}); check free space and permissions, "
        "then run the same command again"
    )
