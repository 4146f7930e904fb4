"""The formats that scans and masks are read from: which file belongs to which reader.

To read another format, write a module with two functions like `read_nifti`
and `survey_nifti`, and add a row to `FILES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from voxtile.errors import CaseError
from voxtile.machine.files import regular

from .scan import ReadPolicy, Scan

Family = Literal["volume", "picture", "archive"]
Reader = Callable[[Path, ReadPolicy], Scan]


@dataclass(frozen=True, slots=True)
class Format:
    """A format, its suffixes and its reader."""

    name: str
    module: str  # below `voxtile.reading`; imported when a file needs it
    # Functions of the module: `read` reads a scan, `survey` only its headers, with voxels of 0.
    read: str
    survey: str
    suffixes: tuple[str, ...]  # in lower case, the usual one first
    # For each suffix, the suffix of a pair's second file; empty if a volume is one file.
    seconds: tuple[str, ...] = ()
    # A folder is searched for volumes first, then for pictures, then for archives.
    family: Family = "volume"
    # Function that reads a label map, if `read` does not: (path, policy, survey) -> scan.
    mask: str = ""
    # Function that returns all files of a volume whose header names other files.
    files: str = ""

    def reader(self, function: str) -> Reader:
        """Return a function of the module, imported now."""
        found: Reader = self._function(function)
        return found

    def mask_reader(self, *, survey: bool) -> Reader:
        """Return the function that reads a label map, or only its header."""
        if not self.mask:
            return self.reader(self.survey if survey else self.read)
        return partial(self._function(self.mask), survey=survey)

    def all_files(self, path: Path) -> list[Path]:
        """Return the files of a volume, also those its header names; only `path` if damaged."""
        try:
            found: list[Path] = self._function(self.files)(path)
        except (CaseError, OSError):
            return [path]
        return found

    def _function(self, name: str) -> Any:
        """Return a function of the module, imported now."""
        return getattr(import_module(f"voxtile.reading.{self.module}"), name)


# DICOM is a folder, or files that hold one or more slices each; also recognised by content.
DICOM = Format("DICOM", "dicom", "read_series", "survey_series", (".dcm", ".ima"))

# In these formats a volume is a file or a pair of files.
FILES = (
    Format(
        "NIfTI",
        "nifti",
        "read_nifti",
        "survey_nifti",
        (".nii.gz", ".nii", ".hdr.gz", ".hdr", ".nii.zst", ".nii.bz2"),
        ("", "", ".img.gz", ".img"),
    ),
    Format(
        "3D Slicer segmentation",
        "slicer",
        "read_nrrd",
        "survey_nrrd",
        (".seg.nrrd", ".seg.nhdr"),
        mask="read_segmentation",
        files="files_of_nrrd",
    ),
    Format("NRRD", "nrrd", "read_nrrd", "survey_nrrd", (".nrrd", ".nhdr"), files="files_of_nrrd"),
    Format(
        "MetaImage",
        "metaimage",
        "read_metaimage",
        "survey_metaimage",
        (".mha", ".mhd"),
        files="files_of_metaimage",
    ),
    Format("FreeSurfer", "mgh", "read_mgh", "survey_mgh", (".mgz", ".mgh", ".mgh.gz")),
    Format(
        "picture",
        "pictures",
        "read_picture",
        "survey_picture",
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
        family="picture",
        mask="read_picture_mask",
    ),
    Format(
        "DICOM archive",
        "archives",
        "read_archive",
        "survey_archive",
        (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst"),
        family="archive",
    ),
)
SUFFIXES = tuple(suffix for each in FILES for suffix in each.suffixes)
_SECONDS = tuple(second for each in FILES for second in each.seconds if second)


def format_of(path: Path) -> Format:
    """Return the format that a path is read as: DICOM, the format of its suffix, or NIfTI.

    An unknown suffix needs no error here, because the reader of NIfTI says what the file is.
    """
    if is_dicom(path):
        return DICOM
    suffix = split_suffix(path.name)[1]
    named = (each for each in FILES if suffix and suffix in (*each.suffixes, *each.seconds))
    return next(named, FILES[0])


def is_dicom(path: Path) -> bool:
    """Whether a path is read as DICOM: a folder, or a file by its preamble or its name.

    The preamble is that of PS3.10 section 7.1.
    """
    if path.is_dir() or path.name.lower().removesuffix(".gz").endswith(DICOM.suffixes):
        return True
    try:
        with regular(path).open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def split_suffix(name: str) -> tuple[str, str]:
    """Return a file's name without the suffix of a volume, and that suffix in lower case.

    Examples
    --------
    >>> split_suffix("c1.NII.gz"), split_suffix("c1.txt")
    (('c1', '.nii.gz'), ('c1.txt', ''))
    """
    for suffix in (*SUFFIXES, *_SECONDS):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def is_volume(path: Path) -> bool:
    """Whether a file is a volume by its name; the first file of a pair stands for both."""
    return split_suffix(path.name)[1] in SUFFIXES


def family_of(path: Path) -> Family | None:
    """Return the family of a file's format by its name; None for other files."""
    suffix = split_suffix(path.name)[1]
    return next((each.family for each in FILES if suffix in each.suffixes), None)


def volumes_among(paths: Sequence[Path]) -> list[Path]:
    """Return the files of one family: volumes if there are any, else pictures, else archives.

    A picture beside volumes is a figure, and an archive beside them is a copy.
    """
    families = {path: family_of(path) for path in paths}
    for family in get_args(Family):
        if found := [path for path in paths if families[path] == family]:
            return found
    return []


def find_volume(folder: Path, name: str) -> Path | None:
    """Return the file in a folder that has a name and any suffix of a volume; None if missing."""
    candidates = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def files_of(path: Path) -> list[Path]:
    """Return the files of a volume: the file itself, or both files of a pair, in order.

    `path` may be either file of a pair, and either file may be compressed.
    """
    stem, suffix = split_suffix(path.name.lower())
    plain = suffix.removesuffix(".gz")
    for each in FILES:
        if each.files and suffix in each.suffixes:
            return each.all_files(path)
        for pair in zip(each.suffixes, each.seconds, strict=False):
            if pair[1] and plain in pair:
                names = [stem + end for end in pair]
                return sorted(
                    file
                    for file in path.parent.iterdir()
                    if file.name.lower().removesuffix(".gz") in names
                )
    return [path]
