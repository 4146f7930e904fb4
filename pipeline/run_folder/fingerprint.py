"""One hash of everything that decides the result of a case: inputs, model, settings, code."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import files_below, regular
from voxtile.machine.memory import total_memory_mb
from voxtile.reading.dicom import dicomdir_files, is_dicomdir
from voxtile.reading.formats import files_of
from voxtile.version import __version__

# Code of the reason if an input of a case was changed while it was read.
CHANGED = "input_changed"
UNREADABLE = "unreadable"


def case_fingerprint(case: Case, settings: Mapping[str, Any], *, images: bool = True) -> str:
    """Return the fingerprint of a case, hexadecimal.

    The contents of the case's files count, but not their names and not the case id. Scans count
    only with `images`, because an evaluation reads no scan. `settings` has all other JSON values
    that change the result: model, plan, policies. CaseError if an input cannot be read.
    """
    parts = {
        "images": {channel: content_hash(path) for channel, path in case.images if images},
        "series": case.series,
        "volume": case.volume,
        "pages": case.pages,
        "pixel_mm": case.pixel_mm,
        "label": None if case.label is None else content_hash(case.label),
        "settings": dict(settings),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class InputWatch:
    """The state of the files of a case before they are read.

    If a file is changed while it is read, or restored afterwards, its time of
    change differs. Reading these times is fast compared with reading the
    files.
    """

    # Name of each input for people, and its file or folder.
    inputs: tuple[tuple[str, Path], ...]
    # For each input: path, size, times and inode number of each of its files.
    signatures: tuple[tuple[tuple[str, int, int, int, int], ...], ...]

    @classmethod
    def of(cls, inputs: Mapping[str, Path | None]) -> "InputWatch":
        """Record the state of some inputs before they are read.

        CaseError if an input cannot be found.
        """
        present = tuple((name, path) for name, path in inputs.items() if path is not None)
        return cls(present, tuple(_signature(path) for _, path in present))

    @classmethod
    def of_case(cls, case: Case) -> "InputWatch":
        """Watch the scans and the reference of a case for changes."""
        scans = {
            "scan" if len(case.images) == 1 else f"scan of channel {channel}": path
            for channel, path in case.images
        }
        return cls.of({**scans, "label": case.label})

    def check(self) -> None:
        """Raise CaseError if a file has been changed, added or removed since then."""
        for (name, path), before in zip(self.inputs, self.signatures, strict=True):
            try:
                same = _signature(path) == before
            except CaseError:
                same = False
            if not same:
                raise CaseError(
                    CHANGED,
                    f"the {name} was changed by another program while it was read; run the case "
                    "again when nothing writes it",
                )


def _signature(path: Path) -> tuple[tuple[str, int, int, int, int], ...]:
    """Return path, size, times of content and of change, and inode of each file of an input."""
    try:
        found = [(str(file), file.stat()) for file in _files(path)]
    except OSError as error:
        raise _unreadable(error) from error
    return tuple(
        (name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for name, one in found
    )


def _unreadable(error: OSError) -> CaseError:
    """Return the error for an input that cannot be read."""
    sentence = f"an input cannot be read ({error.strerror}); check its path and permissions"
    return CaseError(UNREADABLE, sentence)


def _larger_than_memory(size: int) -> CaseError:
    """Return the error for a file larger than memory, before hours are spent on its hash."""
    return CaseError(
        "too_large",
        f"an input has {size / 2**30:.1f} GiB, which is more than the memory of this machine or "
        "job; read it on a larger machine, or crop it",
    )


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or one hash of all files below a folder, in name order.

    Links to folders are followed, as the DICOM reader follows them. The two files of a
    ``.hdr``/``.img`` pair count together, and so do a DICOMDIR and the files that it names.
    CaseError if a file cannot be read or is larger than the memory, or a DICOMDIR names a
    missing file.
    """
    digests = []
    try:
        files = _files(path)
        for file in files:
            with regular(file).open("rb") as stream:
                if file.stat().st_size > total_memory_mb() * 1e6:
                    raise _larger_than_memory(file.stat().st_size)
                digests.append(hashlib.file_digest(stream, "sha256"))
    except OSError as error:
        raise _unreadable(error) from error
    if files == [path]:  # equal to what other programs compute
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the files that belong to an input."""
    if path.is_dir():
        # The files that the reader finds, also through links; and hidden files, as earlier.
        found = {*files_below(path, _refuse), *path.rglob("*")}
        return sorted(file for file in found if file.is_file())
    if is_dicomdir(path):
        return [path, *dicomdir_files(path)]
    return files_of(path)


def _refuse(error: OSError) -> None:
    """Raise the error of a folder that cannot be read, as the reader does."""
    raise error
