"""Read pictures (PNG, JPEG, TIFF, BMP) as volumes of one plane, or of a stack of pages.

Column, row and page are the axes i, j and k. As in ITK, the world of a picture
is LPS: columns go to the patient's left, rows to the back. The file does not say
says so, and voxtile does not depend on it; it needs only that pictures of the same
size are on the same grid. Decoding is done in the child process.
"""

from dataclasses import replace
from pathlib import Path

from .isolation import run_isolated
from .scan import COLOURS, ReadPolicy, Scan


def read_picture(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read a picture: grey has shape (i, j, k), colours have (i, j, k, 3) as red, green, blue.

    Raises
    ------
    CaseError
        If it cannot be decoded exactly, or has several pages.
    """
    return _read(path, policy or ReadPolicy())


def survey_picture(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_picture` would, from the header alone: all voxels are 0."""
    return _read(path, policy or ReadPolicy(), survey=True)


def read_picture_mask(path: Path, policy: ReadPolicy, survey: bool = False) -> Scan:
    """Read a picture as a label map: grey values, or the numbers of a coloured palette.

    Several pages are read as a stack. The spacing is that of the image.

    Raises
    ------
    CaseError
        If the picture has colours without a palette, transparency or lossy
        compression, because its values are then not labels.
    """
    return _read(path, policy, survey=survey, mask=True)


def _read(path: Path, policy: ReadPolicy, *, survey: bool = False, mask: bool = False) -> Scan:
    """Return the scan that the child process reads."""
    scan = run_isolated(
        "voxtile.reading.picture_file:picture_here", path.absolute(), policy, survey, mask
    )
    volume = replace(scan.volume, codes=(2, 2), is_picture=True)
    return replace(scan, volume=volume, channels=COLOURS if volume.array.ndim == 4 else ())
