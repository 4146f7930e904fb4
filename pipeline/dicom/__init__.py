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
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxtile.isolation import ask_isolated, run_isolated
from voxtile.scan import ReadPolicy, Scan

__all__ = ["catalogue", "read_series", "survey_series"]


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
        the series' pseudonym; ``modality``; ``slices``; ``patient``: a hash; and
        ``identity``: (PatientID, StudyInstanceUID) where asked for.
    """
    paths = [str(path.absolute()) for path in files]
    found: list[dict[str, Any] | None] = ask_isolated(
        "voxtile.dicom.catalogue:catalogue_here", paths, identify
    )
    return found
