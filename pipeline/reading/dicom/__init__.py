"""DICOM series: read exactly, or refused with the reason. Nobody else reads with pydicom.

kinds.py      what a path is: a DICOMDIR, a SEG or RTSTRUCT
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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import Notice
from voxtile.models.spec import Label
from voxtile.reading.isolation import ask_isolated, run_isolated
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume

from .kinds import annotation_file, is_dicomdir

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
    return run_isolated(
        "voxtile.reading.dicom.series:read_here", path.absolute(), policy or ReadPolicy()
    )


def survey_series(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_series` would, from headers alone: its voxels are zeros.

    Parameters and errors are those of `read_series`, but for what only the
    pixels can tell.
    """
    return run_isolated(
        "voxtile.reading.dicom.series:survey_here", path.absolute(), policy or ReadPolicy()
    )


def dicomdir_files(path: Path) -> list[Path]:
    """Return the files that `read_series` reads where a DICOMDIR is named, in its order.

    Raises
    ------
    CaseError
        As `read_series`: the DICOMDIR is damaged, or names files that are not there.
    """
    names = ask_isolated("voxtile.reading.dicom.folder:named_here", path.absolute())
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
        "voxtile.reading.dicom.catalogue:catalogue_here", paths, identify
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
        "voxtile.reading.dicom.sources:sources_here", path.absolute(), policy or ReadPolicy()
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
        "voxtile.reading.dicom.annotation:annotation_here",
        path.absolute(),
        Grid(image.shape, image.affine),
        tuple(labels),
        dict(numbers or {}),
    )
