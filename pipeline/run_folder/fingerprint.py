"""One hash of all that decides a case's result: inputs, model, settings, code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import files_below
from voxtile.reading.dicom import dicomdir_files, is_dicomdir
from voxtile.version import __version__


def case_fingerprint(case: Case, settings: Mapping[str, Any], *, images: bool = True) -> str:
    """Return the fingerprint of a case, hexadecimal.

    Parameters
    ----------
    case : Case
        Its files' contents count; their names and the case's id do not.
    settings : mapping
        What else changes the result: model, plan, policies. JSON values.
    images : bool, default True
        Whether the scans count; scoring finished masks reads none.

    Raises
    ------
    CaseError
        If an input cannot be read.
    """
    parts = {
        "images": {channel: content_hash(path) for channel, path in case.images if images},
        "series": case.series,
        "volume": case.volume,
        "label": None if case.label is None else content_hash(case.label),
        "settings": dict(settings),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or one of those of every file below a folder, by their names.

    Links to folders are followed as the DICOM reader does. The two files of a
    ``.hdr``/``.img`` pair count together, and a DICOMDIR with the files that
    it names.

    Raises
    ------
    CaseError
        If a file cannot be read, or a DICOMDIR names what is not there.
    """
    digests = []
    try:
        files = _files(path)
        for file in files:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256"))
    except OSError as error:
        raise CaseError("unreadable", f"an input cannot be read ({error.strerror})") from error
    if files == [path]:  # what other programs call the hash of the file
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the files that belong to an input."""
    if path.is_dir():
        # What the reader sees, through links too; and what is hidden from it, as it always was.
        found = {*files_below(path, _refuse), *path.rglob("*")}
        return sorted(file for file in found if file.is_file())
    if is_dicomdir(path):
        return [path, *dicomdir_files(path)]
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".hdr", ".img")):
        stem = name[:-4]
        return sorted(
            file
            for file in path.parent.iterdir()
            if file.name.lower().removesuffix(".gz") in (f"{stem}.hdr", f"{stem}.img")
        )
    return [path]


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be read, as the reader does."""
    raise error
