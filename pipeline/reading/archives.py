"""Read a zip or tar archive of one DICOM series.

Its files are unpacked into a temporary folder, which only the user may read and
which is removed after the series was read. Names in the archive are never used
as paths: files are numbered in the order of names. Every checksum is checked.
"""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import IO

from voxtile.errors import CaseError

from .dicom import read_series, survey_series
from .scan import ReadPolicy, Scan
from .stream import Stream

# Deflate compresses at most 1032:1.
_MOST_INFLATION = 1100
_MOST_BYTES = 2**35
_MOST_FILES = 10**6
_BLOCK = 512
# Maximum bytes of zeros after the end of a tar archive; records may have any size.
_TAR_SLACK = 2**24


def read_archive(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read the DICOM series in an archive, as `read_series` reads one in a folder.

    Raises
    ------
    CaseError
        As `read_series`; also if the archive is damaged, encrypted, or holds
        links or too many bytes.
    """
    with _unpacked(path) as folder:
        return read_series(folder, policy)


def survey_archive(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_archive` would; all voxels are 0, but the archive is unpacked."""
    with _unpacked(path) as folder:
        return survey_series(folder, policy)


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Lend a folder with the files of an archive."""
    with TemporaryDirectory(prefix="voxtile-") as temporary:
        folder = Path(temporary, "files")
        folder.mkdir()
        try:
            with Stream(path, "not_an_archive", "a zip or tar archive", compression="none") as file:
                is_zip = file.read(4) in (b"PK\3\4", b"PK\5\6")
            names = _unzip(path, folder) if is_zip else _untar(path, folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, tarfile.TarError) as error:
            raise CaseError(
                "corrupt", f"{path.name}: the archive is damaged or cut short; copy it again"
            ) from error
        except (NotImplementedError, RuntimeError) as error:
            raise CaseError(
                "not_an_archive",
                f"{path.name}: the archive is encrypted or has an unusual compression; unpack it "
                "and name the folder",
            ) from error
        except OSError as error:
            raise CaseError(
                "unreadable", f"{path.name} cannot be unpacked ({error.strerror or error})"
            ) from error
        for number, (_, unpacked) in enumerate(sorted(names), start=1):
            unpacked.rename(folder / f"{number:07d}{''.join(unpacked.suffixes)}")
        yield folder


def _unzip(path: Path, folder: Path) -> list[tuple[PurePosixPath, Path]]:
    """Unpack a zip archive, and return each file's name in it and its path."""
    found = []
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.is_dir() and _counts(one.filename)]
        _limit(path, len(members), sum(one.file_size for one in members))
        for number, member in enumerate(members):
            if (member.external_attr >> 28) == 0o12:
                raise _linked(path)
            if member.file_size > member.compress_size * _MOST_INFLATION + _BLOCK:
                _limit(path, 0, _MOST_BYTES + 1)
            name = PurePosixPath(member.filename)
            with archive.open(member) as source:
                found.append((name, _copied(source, folder, number, name)))
    return found


def _untar(path: Path, folder: Path) -> list[tuple[PurePosixPath, Path]]:
    """Unpack a tar archive, compressed or not, as `_unzip` does."""
    found: list[tuple[PurePosixPath, Path]] = []
    size = 0
    with Stream(path, "not_an_archive", "a zip or tar archive") as stream:
        reader = _Counting(stream)
        try:
            archive = tarfile.open(fileobj=reader, mode="r|")  # type: ignore[call-overload]  # noqa: SIM115
        except tarfile.TarError as error:
            raise CaseError(
                "not_an_archive", f"{path.name} is not a zip or tar archive; name another file"
            ) from error
        with archive:
            for member in archive:
                if member.isdir() or not _counts(member.name):
                    continue
                source = archive.extractfile(member) if member.isreg() else None
                if source is None:
                    raise _linked(path)
                size += member.size
                _limit(path, len(found), size)
                name = PurePosixPath(member.name)
                found.append((name, _copied(source, folder, len(found), name)))
            # Without the block of zeros at its end, files may be missing.
            if reader.count < archive.offset + _BLOCK:
                raise CaseError("truncated", f"{path.name}: the archive has no end; copy it again")
        stream.finish(reader.count, _TAR_SLACK)
    return found


class _Counting:
    """A stream for tarfile, which counts the bytes that are read from it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        content = self._stream.read(size)
        self.count += len(content)
        return content


def _counts(name: str) -> bool:
    """Whether a file of an archive is read; hidden files, macOS copies and DICOMDIRs are not."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in parts)
    return not hidden and parts[-1:] not in (("DICOMDIR",), ("dicomdir",))


def _copied(source: IO[bytes], folder: Path, number: int, name: PurePosixPath) -> Path:
    """Return a new file with the content and the suffixes of a member."""
    suffixes = "".join(name.suffixes[-2:])
    kept = suffixes if re.fullmatch(r"(\.[A-Za-z0-9]{1,12}){0,2}", suffixes) else ""
    target = folder / f"in_{number:07d}{kept}"
    with target.open("wb") as file:
        copyfileobj(source, file, 2**20)
    return target


def _limit(path: Path, files: int, size: int) -> None:
    """Refuse an archive of too many files or bytes."""
    if files > _MOST_FILES or size > min(
        _MOST_BYTES, path.stat().st_size * _MOST_INFLATION + _MOST_FILES
    ):
        raise CaseError(
            "too_large",
            f"{path.name}: the archive says that it holds {files} files of {size} bytes, which is "
            "more than a series has or the archive can hold; unpack it and name the folder",
        )


def _linked(path: Path) -> CaseError:
    """Return the error for a member that is not a file."""
    return CaseError(
        "not_an_archive",
        f"{path.name}: the archive holds links or devices, which are not followed; unpack it and "
        "name the folder",
    )
