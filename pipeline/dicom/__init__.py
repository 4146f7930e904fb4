"""DICOM series: read exactly, or refused with the reason. Nobody else reads with pydicom.

folder.py     a folder, file or DICOMDIR -> the files, in name order
header.py     a file -> its images: where they lie, how they are stored
mosaic.py     a picture tiled with slices -> where each slice lies
selection.py  images -> the one series that is meant
stack.py      the images of a series -> one volume's slices, in order, with the affine
pixels.py     slices -> voxels, rescaled
repair.py     gaps filled and tilt undone, where the policy says so
series.py     all of it, in the child process
catalogue.py  which series and patient each file of a tree belongs to
sources.py    the file and frame of each slice, for those who refer to them

annotation.py     a SEG or RTSTRUCT that is the reference of a scan -> a label map
segmentation.py   SEG: frames laid on the scan's grid
structure_set.py  RTSTRUCT: contours filled on the scan's slices
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import Notice
from voxtile.isolation import ask_isolated, run_isolated
from voxtile.models.spec import Label
from voxtile.scan import ReadPolicy, Scan
from voxtile.volume import Volume

__all__ = [
    "SourceSlice",
    "annotation_file",
    "catalogue",
    "dicomdir_files",
    "is_dicomdir",
    "read_annotation",
    "read_series",
    "read_sources",
    "survey_series",
]

# Segmentation, Label Map Segmentation, RT Structure Set (PS3.4 B.5).
_ANNOTATIONS = (
    b"1.2.840.10008.5.1.4.1.1.66.4",
    b"1.2.840.10008.5.1.4.1.1.66.7",
    b"1.2.840.10008.5.1.4.1.1.481.3",
)


def read_series(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read the one volume that a folder of DICOM holds.

    Headers and pixels are read in a child process with a memory cap, so that
    a damaged file cannot end the caller.

    Parameters
    ----------
    path : Path
        A folder, searched with all below it; one DICOM file; or a DICOMDIR.
    policy : ReadPolicy, optional
        What to do where the series leaves a choice; refuses by default.

    Returns
    -------
    Scan
        Array of shape (columns, rows, slices) in storage order: int16 where
        every rescaled value is an integer and fits, else int32, else float32.
        The affine is in RAS+ millimetres, exactly as the slices' positions
        say.

    Raises
    ------
    CaseError
        With the reason; ``docs/ingest.md`` has the table of codes. Files are
        named by their place in name order.
    """
    return run_isolated("voxtile.dicom.series:read_here", path.absolute(), policy or ReadPolicy())


def survey_series(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_series` would, from headers alone: its voxels are zeros.

    Parameters and errors are those of `read_series`, but for what only the
    pixels can tell.
    """
    return run_isolated("voxtile.dicom.series:survey_here", path.absolute(), policy or ReadPolicy())


def is_dicomdir(path: Path) -> bool:
    """Whether a path is a DICOMDIR, by its name (PS3.10 section 8)."""
    return path.name.upper() == "DICOMDIR" and not path.is_dir()


def dicomdir_files(path: Path) -> list[Path]:
    """Return the files that `read_series` reads where a DICOMDIR is named, in its order.

    Raises
    ------
    CaseError
        As `read_series`: the DICOMDIR is damaged, or names files that are not there.
    """
    names = ask_isolated("voxtile.dicom.folder:named_here", path.absolute())
    return [path.parent / name for name in names]


def catalogue(files: Sequence[Path], *, identify: bool = False) -> list[dict[str, Any] | None]:
    """Return what each file is a part of; None for one that is not DICOM.

    Parameters
    ----------
    files : sequence of Path
    identify : bool, default False
        Whether identifiers of patient and study are returned as they are,
        which is for a key file alone.

    Returns
    -------
    list of dict
        ``kind``: "image", "scout", "picture" (an image that lies nowhere),
        "other" or "damaged"; ``series`` and ``instance``: UIDs; ``label``:
        the series' pseudonym; ``modality``; ``slices``; ``patient``, ``issuer``
        and ``study``: hashes of PatientID, of its issuer and of the study's UID,
        empty where there is none; and ``identity``: (PatientID,
        StudyInstanceUID) where asked for.
    """
    paths = [str(path.absolute()) for path in files]
    found: list[dict[str, Any] | None] = ask_isolated(
        "voxtile.dicom.catalogue:catalogue_here", paths, identify
    )
    return found


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """Where a plane of a volume came from.

    Parameters
    ----------
    file : Path
        Never to be shown.
    frame : int
        Of the file, from 0.
    """

    file: Path
    frame: int


def read_sources(
    path: Path, policy: ReadPolicy | None = None
) -> tuple[Volume, tuple[SourceSlice | None, ...], tuple[Notice, ...]]:
    """Find the file and frame behind each plane of the volume that `read_series` gives.

    Returns
    -------
    grid : Volume
        On the grid of the series as it lies, all voxels 0, without memory of
        their own.
    slices : tuple of SourceSlice or None
        For each plane along k; None where a slice is missing.
    notices : tuple of Notice

    Raises
    ------
    CaseError
        As `read_series`; ``mosaic_source`` where slices are parts of a picture.
    """
    from .folder import list_files

    scan = run_isolated(
        "voxtile.dicom.sources:sources_here", path.absolute(), policy or ReadPolicy()
    )
    files = {
        place.number: place.path for place in list_files(path.absolute(), lambda _: None).files
    }
    table = scan.volume.array[0, 0]
    slices = tuple(
        SourceSlice(files[number], frame) if number else None
        for number, frame in table[:, :2].tolist()
    )
    rows, columns = table[0, 2:].tolist()
    empty = np.broadcast_to(np.uint8(0), (columns, rows, len(slices)))
    return Volume(empty, scan.volume.affine), slices, scan.notices


def annotation_file(path: Path) -> Path | None:
    """Return the DICOM SEG or RTSTRUCT that a path stands for, if so.

    The file itself, or the only file in a folder, as a PACS exports a series.
    """
    if path.is_dir():
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        path = files[0] if len(files) == 1 else path
    return path if _is_annotation(path) else None


def _is_annotation(path: Path) -> bool:
    """Whether a file is a SEG or RTSTRUCT, by its file header (PS3.10 section 7.1)."""
    try:
        with path.open("rb") as file:
            head = file.read(2048)
    except OSError:
        return False
    # Media Storage SOP Class UID, always explicit little endian.
    at = head.find(b"\x02\x00\x02\x00UI")
    if head[128:132] != b"DICM" or not 0 <= at <= len(head) - 8:
        return False
    (length,) = struct.unpack_from("<H", head, at + 6)
    return head[at + 8 : at + 8 + length].rstrip(b"\0") in _ANNOTATIONS


def read_annotation(
    path: Path,
    image: Volume,
    labels: Sequence[Label],
    numbers: Mapping[int, int] | None = None,
) -> Scan:
    """Read a SEG or RTSTRUCT as a label map on the grid of a scan.

    Parameters
    ----------
    path : Path
    image : Volume
        The scan; its voxels do not matter.
    labels : sequence of Label
        What segments are matched to, by name or code.
    numbers : mapping of int to int, optional
        Numbers of segments or ROIs to label values, before names and codes; 0
        leaves one out.

    Returns
    -------
    Scan of int16 or int32, shape (i, j, k)

    Raises
    ------
    CaseError
        If it does not lie on the image's voxels, its segments cannot be
        matched, or they overlap in a way that a label map cannot hold.
    """
    from .drawing import Grid

    return run_isolated(
        "voxtile.dicom.annotation:annotation_here",
        path.absolute(),
        Grid(image.shape, image.affine),
        tuple(labels),
        dict(numbers or {}),
    )
