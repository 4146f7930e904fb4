"""Find the data file that a header names; it must be in the same folder as the header."""

from pathlib import Path

from voxtile.errors import CaseError


def data_file(header: Path, named: str) -> Path:
    """Return the data file that a header names, in the folder of that header.

    Raises
    ------
    CaseError
        If the header names a path to another folder, or a list or pattern of
        files, or if the file is missing.
    """
    name = named.strip().removeprefix("./")
    if not name or name in (".", "..") or any(mark in name for mark in "/\\%\0") or _lists(name):
        raise CaseError(
            "bad_header",
            f"{header.name} must name one file in its own folder for its voxels, without a path or "
            "pattern; save it as one file",
        )
    path = header.with_name(name)
    if not path.is_file():
        raise CaseError(
            "missing_pair",
            f"{header.name} needs the file of its voxels in the same folder; copy both",
        )
    return path


def _lists(name: str) -> bool:
    """Whether a name begins a list of files."""
    return name.upper() == "LIST" or name.upper().startswith("LIST ")
