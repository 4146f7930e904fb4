"""List the DICOM files of a folder in name order. Messages give a file's number, not its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from voxtile.errors import CaseError, counted
from voxtile.machine.files import files_below, regular
from voxtile.reading.isolation import Workspace

from .kinds import is_dicomdir

# Files with such names must be DICOM.
_DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".ima")


@dataclass(frozen=True, slots=True)
class Place:
    """One file with the name that messages give it, which identifies nobody."""

    path: Path
    number: int  # among all files of the scan, in name order, from 1
    count: int

    def __str__(self) -> str:
        return f"file {self.number} of {self.count}" if self.count > 1 else "the file"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to read, and the number of others, which are clearly not DICOM."""

    files: tuple[Place, ...]
    ignored: int = 0


def list_files(path: Path, looking_at: Callable[[str], None]) -> Listing:
    """Find the DICOM files that a path stands for.

    It is a folder with all folders below it, one file, or a DICOMDIR, which
    stands for the files that it names (PS3.10 section 8). `looking_at` is called
    with each file's name for messages before the file is opened.

    Raises
    ------
    CaseError
        If no file is DICOM, or a file that should be DICOM is not.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                raise CaseError("unreadable", "the DICOM file or folder does not exist")
            regular(path)
            if is_dicomdir(path):
                return _listing(list(_in_dicomdir(path)), looking_at)
            _require_dicom(Place(path, 1, 1))
            return Listing((Place(path, 1, 1),))
        return _listing(sorted(_below(path)), looking_at)
    except OSError as error:
        raise CaseError(
            "unreadable", f"the DICOM folder cannot be read ({error.strerror})"
        ) from error


def named_here(workspace: Workspace, path: Path) -> list[str]:
    """Return the files that a DICOMDIR stands for, relative to its folder."""
    listing = list_files(path, workspace.at)
    return [str(place.path.relative_to(path.parent)) for place in listing.files]


def _listing(paths: list[Path], looking_at: Callable[[str], None]) -> Listing:
    """Return the files that are DICOM, numbered among all files."""
    places = [Place(path, number, len(paths)) for number, path in enumerate(paths, start=1)]
    found = []
    for place in places:
        looking_at(str(place))
        if is_dicom(place):
            found.append(place)
    if not found:
        raise CaseError(
            "not_dicom",
            f"none of the {counted(len(paths), 'file')} in the folder is DICOM; name the folder of "
            "a series",
        )
    return Listing(tuple(found), len(paths) - len(found))


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that may be DICOM."""

    def refuse(error: OSError) -> None:
        raise error

    for path in files_below(folder, refuse):
        if path.name.upper() != "DICOMDIR":
            yield path


def _in_dicomdir(path: Path) -> Iterator[Path]:
    """Yield the files that a DICOMDIR names, in its order."""
    missing = 0
    try:
        records = dcmread(path, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        names = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
        parts = [[name] if isinstance(name, str) else list(name) for name in names]
    except Exception as error:  # pydicom raises anything on a damaged file
        raise CaseError(
            "damaged", f"the DICOMDIR cannot be read ({type(error).__name__}); name the folder"
        ) from error
    for components in parts:
        # A component is a single name (PS3.10 section 8.2), so files outside are never read.
        file = path.parent.joinpath(*components)
        outside = any(part in ("", ".", "..") or set(part) & set("/\\\0") for part in components)
        if not outside and file.is_file():
            yield file
        else:
            missing += 1
    if missing:
        raise CaseError(
            "missing_files",
            f"the DICOMDIR names {counted(len(parts), 'file')}, but {missing} of them cannot be "
            "found; copy the medium again, or name the folder to read the other files",
        )


def is_dicom(place: Place) -> bool:
    """Whether a file of a folder is DICOM; refuses one that should be DICOM and is not."""
    if not place.path.exists():
        raise CaseError(
            "unreadable",
            f"{place} is a link to a missing file; fetch that file, for instance with "
            "`git annex get` or `dvc pull`",
        )
    with place.path.open("rb") as file:
        head = file.read(4096)
    if head[128:132] == b"DICM":
        return True
    # A damaged slice must not be ignored, so only files that are clearly something else are:
    # those with a suffix of letters (.txt, .json, .nii.gz), and text.
    suffix = place.path.suffix.lower()
    if suffix not in _DICOM_SUFFIXES and suffix[1:2].isalpha():
        return False
    # ASCII without control characters.
    if suffix == "" and head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return False
    _require_dicom(place)
    return True


def _require_dicom(place: Place) -> None:
    """Refuse a file without the preamble of PS3.10 section 7.1."""
    with place.path.open("rb") as file:
        head = file.read(132)
    if head[128:132] == b"DICM":
        return
    if not head:
        raise CaseError("empty_file", f"{place} has 0 bytes; copy or download it again")
    raise CaseError(
        "not_dicom",
        f"{place} is not a DICOM file (bytes 129 to 132 are not DICM); copy it again if it should "
        "be one, convert it if it is DICOM without a file header, else move it away",
    )
