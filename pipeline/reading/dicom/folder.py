"""List the DICOM files of a folder in name order. Messages give a file's number, not its name."""

import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from isal import igzip
from pydicom import dcmread

from voxtile.errors import CaseError, counted
from voxtile.machine.files import files_below, regular
from voxtile.reading.isolation import Workspace

from .kinds import GZIP, GZIP_ERRORS, first_bytes, is_dicomdir

# Files with such names must be DICOM.
_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
# Deflate compresses at most 1032:1, and pixel data have at most 4 GiB.
_MOST_BYTES = 2**32
_CHUNK = 2**22


@dataclass(frozen=True, slots=True)
class Place:
    """One file with the name that messages give it, which identifies nobody."""

    path: Path
    number: int  # among all files of the scan, in name order, from 1
    count: int

    def __str__(self) -> str:
        return f"file {self.number} of {self.count}" if self.count > 1 else "the file"

    def head(self) -> bytes:
        """Return the first bytes, decompressed if the file is gzipped and that is possible."""
        return first_bytes(self.path)

    def open(self) -> BinaryIO:
        """Return the opened file; one that is gzipped is decompressed to its checksum."""
        file = self.path.open("rb")
        if file.read(2) != GZIP:
            file.seek(0)
            return file
        file.close()
        content = bytearray()
        try:
            with igzip.open(self.path) as unzipped:
                while len(content) <= _MOST_BYTES and (chunk := unzipped.read(_CHUNK)):
                    content += chunk
        except GZIP_ERRORS as error:
            raise CaseError(
                "corrupt", f"{self} is gzipped but damaged or cut short; copy it again"
            ) from error
        if len(content) > _MOST_BYTES:
            raise CaseError("too_large", f"{self} has more than 4 GiB when decompressed")
        return BytesIO(content)


@dataclass(frozen=True, slots=True)
class Listing:
    """The files to read, and the number of other files, which are clearly not DICOM."""

    files: tuple[Place, ...]
    ignored: int = 0


def list_files(path: Path, looking_at: Callable[[str], None]) -> Listing:
    """Find the DICOM files that a path stands for.

    The path is a folder with all folders below it, one file, or a DICOMDIR, which
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
    found: list[Place] = []
    others: list[Place] = []
    for place in places:
        looking_at(str(place))
        (found if _has_preamble(place) else others).append(place)
    own = {_suffix(place.path) for place in found} - {""}
    for place in others:
        is_dicom(place, own)
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
    folders: dict[Path, dict[str, list[Path]]] = {}
    try:
        records = dcmread(path, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        names = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
        parts = [[name] if isinstance(name, str) else list(name) for name in names]
    except Exception as error:  # pydicom raises anything on a damaged file
        raise CaseError(
            "damaged", f"the DICOMDIR cannot be read ({type(error).__name__}); name the folder"
        ) from error
    for components in parts:
        # A component is a single name (PS3.10 section 8.2), so no file outside the folder is read.
        outside = any(part in ("", ".", "..") or set(part) & set("/\\\0") for part in components)
        file = None if outside else _on_disc(path.parent, components, folders)
        if file is not None:
            yield file
        else:
            missing += 1
    if missing:
        raise CaseError(
            "missing_files",
            f"the DICOMDIR names {counted(len(parts), 'file')}, but {missing} of them cannot be "
            "found; copy the medium again, or name the folder to read the other files",
        )


def _on_disc(
    folder: Path, components: list[str], names: dict[Path, dict[str, list[Path]]]
) -> Path | None:
    """Return a file of a DICOMDIR; on a disc its name may differ in case, a dot or ;1 (version)."""
    path = folder
    for component in components:
        if not (path / component).exists():
            if path not in names:
                names[path] = {}
                for other in path.iterdir() if path.is_dir() else ():
                    key = other.name.lower().removesuffix(";1").rstrip(".")
                    names[path].setdefault(key, []).append(other)
            (component, *more) = [one.name for one in names[path].get(component.lower(), [])] or [
                ""
            ]
            if more or not component:
                return None
        path = path / component
    return path if path.is_file() else None


def is_dicom(place: Place, suffixes: Collection[str] = ()) -> bool:
    """Whether a file of a folder is DICOM; refuse a file that should be DICOM and is not.

    A damaged slice must not be ignored, so only files that are clearly something
    else are: those with a suffix of letters (.txt, .json, .nii.gz) that none of
    the DICOM files has (`suffixes`), and text without a suffix.
    """
    if _has_preamble(place):
        return True
    head, suffix = place.head(), _suffix(place.path)
    named = {part.lower().rstrip("~") for part in place.path.suffixes} & _DICOM_SUFFIXES
    if not named and suffix not in suffixes and not _is_headerless(head):
        if suffix[1:2].isalpha():
            return False
        # ASCII without control characters.
        if suffix == "" and head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
            return False
    _require_dicom(place)
    return True


def _suffix(path: Path) -> str:
    """Return a file's suffix in lower case, without that of gzip if there is another."""
    name = Path(path.name.lower())
    inner = Path(name.stem).suffix if name.suffix == ".gz" else ""
    return inner or name.suffix


def _has_preamble(place: Place) -> bool:
    """Whether a file is DICOM by the preamble of PS3.10 section 7.1."""
    if not place.path.exists():
        raise CaseError(
            "unreadable",
            f"{place} is a link to a missing file; fetch that file, for instance with "
            "`git annex get` or `dvc pull`",
        )
    return place.head()[128:132] == b"DICM"


def _is_headerless(head: bytes) -> bool:
    """Whether a file begins with an element of group 2 or 8, as DICOM without a preamble does."""
    for order in ("<", ">"):
        if len(head) >= 8:
            group, element, length = struct.unpack_from(f"{order}HHI", head)
            if group not in (2, 8) or element >= 0x20:
                continue
            if head[4:6].isalpha() and head[4:6].isupper():
                return True  # an explicit VR
            # Voxels may look like one element by chance, but hardly like two in order.
            if length % 2 == 0 and 12 + length <= len(head):
                after = struct.unpack_from(f"{order}HH", head, 8 + length)
                if after[0] == group and element < after[1] < 0x2000:
                    return True
    return False


def _require_dicom(place: Place) -> None:
    """Refuse a file without the preamble of PS3.10 section 7.1."""
    head = place.head()
    if head[128:132] == b"DICM":
        return
    if not head:
        raise CaseError("empty_file", f"{place} has 0 bytes; copy or download it again")
    if head.startswith(GZIP):
        place.open().close()  # says what is wrong with the gzip stream
    if _is_headerless(head):
        raise CaseError(
            "not_dicom",
            f"{place} is DICOM without a file header (bytes 129 to 132 are not DICM); convert it, "
            "for instance with dcmconv (DCMTK) or gdcmconv",
        )
    raise CaseError(
        "not_dicom",
        f"{place} is not a DICOM file (bytes 129 to 132 are not DICM); copy it again if it should "
        "be one, else move it away",
    )
