"""One hash of everything that decides the result of a case: inputs, model, settings, code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import files_below, regular
from voxtile.reading.dicom import dicomdir_files, is_dicomdir
from voxtile.reading.formats import files_of
from voxtile.version import __version__


def case_fingerprint(case: Case, settings: Mapping[str, Any], *, images: bool = True) -> str:
    """Return the fingerprint of a case, hexadecimal.

    Parameters
    ----------
    case : Case
        The contents of its files count; their names and the case id do not.
    settings : mapping
        JSON values; what else changes the result: model, plan, policies.
    images : bool, default True
        Whether the scans count; an evaluation reads none.

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
    """Return the SHA-256 of a file, or one hash of all files below a folder, in name order.

    Links to folders are followed as the DICOM reader does. The two files of a
    ``.hdr``/``.img`` pair count together, and so do a DICOMDIR and the files
    that it names.

    Raises
    ------
    CaseError
        If a file cannot be read, or a DICOMDIR names a missing file.
    """
    digests = []
    try:
        files = _files(path)
        for file in files:
            with regular(file).open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256"))
    except OSError as error:
        sentence = f"an input cannot be read ({error.strerror}); check its path and permissions"
        raise CaseError("unreadable", sentence) from error
    if files == [path]:  # equal to what other programs compute
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _files(path: Path) -> list[Path]:
    """Return the files that belong to an input."""
    if path.is_dir():
        # What the reader sees, also through links; and hidden files, as in earlier versions.
        found = {*files_below(path, _refuse), *path.rglob("*")}
        return sorted(file for file in found if file.is_file())
    if is_dicomdir(path):
        return [path, *dicomdir_files(path)]
    return files_of(path)


def _refuse(error: OSError) -> None:
    """Raise at a folder that cannot be read, as the reader does."""
    raise error
