"""Read DICOM series exactly, or refuse them with the reason. Only this package reads with pydicom.

kinds.py      whether a path is a DICOMDIR, a SEG or RTSTRUCT
folder.py     a folder, file or DICOMDIR -> the files, in name order
header.py     a file -> its slices: their geometry, and how they are stored
elements.py   values of elements, standard and private
attributes.py what may distinguish volumes at the same places, in one slice
real_world.py the values of a map
mosaic.py     an image tiled with slices -> the position of each slice
tomography.py reconstructed nuclear medicine in one file -> the position of each frame
selection.py  images -> the series to read
volumes.py    slices at the same places -> volumes, by the attributes that differ
stack.py      the images of a series -> one volume's slices, in order, with the affine
pixels.py     slices -> voxels, rescaled
repair.py     fill gaps and undo tilt, if the policy says so
series.py     all of these steps, in the child process
catalogue.py  which series and patient each file of a tree belongs to
glance.py     whether a file is like another file that was read completely
drawn_on.py   the series that a SEG or RTSTRUCT was drawn on
sources.py    the file and frame of each slice, for objects that refer to them

annotation.py     a SEG or RTSTRUCT that is the reference of a scan -> a label map
segmentation.py   SEG: frames placed on the scan's grid
structure_set.py  RTSTRUCT: contours on the scan's slices
provenance.py     the coordinate system and series of a scan and of a label, compared
polygons.py       polygons -> voxels, by the even-odd rule
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
    a damaged file cannot crash the caller's process.

    Parameters
    ----------
    path : Path
        A folder with all folders below it; one DICOM file; or a DICOMDIR.

    Returns
    -------
    Scan
        Array of shape (columns, rows, slices) in storage order: int16 if
        every rescaled value is an integer and fits, else int32, else float32.
        The affine, in RAS+ mm, follows exactly from the slices' positions.

    Raises
    ------
    CaseError
        With the reason; ``docs/errors.md`` has the table of codes. Files are
        named by their number in name order.
    """
    return run_isolated(
        "voxtile.reading.dicom.series:read_here", path.absolute(), policy or ReadPolicy()
    )


def survey_series(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_series` would, from headers alone: its voxels are zeros."""
    return run_isolated(
        "voxtile.reading.dicom.series:read_here", path.absolute(), policy or ReadPolicy(), True
    )


def dicomdir_files(path: Path) -> list[Path]:
    """Return the files that `read_series` reads for a DICOMDIR, in its order."""
    names = ask_isolated("voxtile.reading.dicom.folder:named_here", path.absolute())
    return [path.parent / name for name in names]


def catalogue(files: Sequence[Path], *, identify: bool = False) -> list[dict[str, Any] | None]:
    """Return the series and patient of each file; None for a file that is not DICOM.

    An entry has ``kind``: "image", "scout", "picture" (an image without a
    position), "annotation" (a SEG or RTSTRUCT), "other" or "damaged"; ``series``
    and ``instance``: UIDs; ``label``: the series' pseudonym; ``modality``;
    ``slices``; ``frame``: UID of the frame of reference; ``patient``, ``issuer``
    and ``study``: hashes of PatientID, of its issuer and of the study's UID, empty
    if missing; for an annotation, ``drawn_on`` and ``frames``: UIDs of series and
    frames of reference that it names; and with `identify`, which is for a key file
    only, ``identity``: (PatientID, StudyInstanceUID).
    """
    paths = [str(path.absolute()) for path in files]
    found: list[dict[str, Any] | None] = ask_isolated(
        "voxtile.reading.dicom.catalogue:catalogue_here", paths, identify
    )
    return found


@dataclass(frozen=True, slots=True)
class SourceSlice:
    """The file and frame of a slice of a volume."""

    file: Path  # never shown, because its name may identify a patient
    frame: int  # from 0


def read_sources(
    path: Path, policy: ReadPolicy | None = None
) -> tuple[Volume, tuple[SourceSlice | None, ...], tuple[Notice, ...]]:
    """Find the file and frame of each slice of the volume that `read_series` gives.

    Returns
    -------
    grid : Volume
        The grid of the series as acquired; all voxels are 0 and take no memory.
    slices : tuple of SourceSlice or None
        For each plane along k; None if the slice is missing.

    Raises
    ------
    CaseError
        As `read_series`; ``mosaic_source`` if slices are tiles of one image.
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
    image : Volume
        The scan; its voxels are not used.
    numbers : mapping of int to int, optional
        Label values by number of segment or ROI; these take precedence over
        names and codes. 0 leaves a segment out.

    Raises
    ------
    CaseError
        If its voxels are not those of the image, its segments cannot be
        matched, or a label map cannot hold their overlap.
    """
    from .drawing import Grid

    return run_isolated(
        "voxtile.reading.dicom.annotation:annotation_here",
        path.absolute(),
        Grid(image.shape, image.affine, image.source),
        tuple(labels),
        dict(numbers or {}),
    )
