"""Three sections through a case, with the contours of its masks: the montage of the page.

A section is a small PNG and contours as SVG paths in millimetres, so that it
is sharp at every size and on paper, and each contour can be hidden.

Seen as radiologists do: the patient's right on the left of axial and coronal
sections, anterior on the left of sagittal ones.
"""

import base64
import struct
import zlib
from typing import Any

import numpy as np
from skimage.measure import find_contours

from voxtile.volume import Volume

from .pictures import Picture

# View, axis it cuts across, axes to the left and up, what the left and right side are called.
_VIEWS = (
    ("axial", 2, (0, 1), ("R", "L")),
    ("coronal", 1, (0, 2), ("R", "L")),
    ("sagittal", 0, (1, 2), ("A", "P")),
)
# Pixels along the longer side of a section; more is not seen in a montage.
_MOST_PIXELS = 320


def make_sections(picture: Picture) -> list[dict[str, Any]]:
    """Return the axial, coronal and sagittal section that show most, as JSON values.

    Where prediction and reference differ most; without a reference, or where
    they agree everywhere, where the masks are largest; the middle of the scan
    where both are empty.

    Returns
    -------
    list of dict
        ``view``, ``slice`` (from 1, in RAS order) ``of`` how many, ``why``;
        ``width_mm``, ``height_mm``, ``png`` (base64); ``prediction`` and
        ``reference``: a list of ``[position of the label, SVG path]``, the
        latter null without a reference; ``left`` and ``right``.
    """
    prediction = picture.prediction.array
    reference = None if picture.reference is None else picture.reference.array
    sections = []
    for view, axis, (across, up), (left, right) in _VIEWS:
        number, why = _telling_slice(prediction, reference, axis)
        spacing_mm = picture.image.spacing_mm
        size_mm = (spacing_mm[across], spacing_mm[up])
        plane = _plane(picture.image, axis, number)
        sections.append(
            {
                "view": view,
                "slice": number + 1,
                "of": prediction.shape[axis],
                "why": why,
                "width_mm": round(plane.shape[1] * size_mm[0], 2),
                "height_mm": round(plane.shape[0] * size_mm[1], 2),
                "png": base64.b64encode(_png(_small(plane))).decode(),
                "prediction": _contours(_plane(picture.prediction, axis, number), size_mm),
                "reference": None
                if picture.reference is None
                else _contours(_plane(picture.reference, axis, number), size_mm),
                "left": left,
                "right": right,
            }
        )
    return sections


def _telling_slice(
    prediction: np.ndarray, reference: np.ndarray | None, axis: int
) -> tuple[int, str]:
    """Return the slice to show across an axis, and why it is that one."""
    others = tuple(other for other in range(3) if other != axis)
    if reference is not None:
        wrong = (prediction != reference).sum(axis=others)
        if wrong.any():
            return int(wrong.argmax()), "prediction and reference differ most"
    labelled = (prediction > 0).sum(axis=others)
    if labelled.any():
        return int(labelled.argmax()), "the prediction is largest"
    return prediction.shape[axis] // 2, "no label anywhere"


def _plane(volume: Volume, axis: int, number: int) -> np.ndarray:
    """Return a plane as rows from the top and columns from the left of the screen."""
    plane: np.ndarray = np.take(volume.array, number, axis=axis)[::-1, ::-1].T
    return plane


def _small(plane: np.ndarray) -> np.ndarray:
    """Return a plane of at most so many pixels a side, by leaving some out."""
    step = -(-max(plane.shape) // _MOST_PIXELS)
    return plane[::step, ::step]


def _contours(plane: np.ndarray, size_mm: tuple[float, float]) -> list[list[Any]]:
    """Return the outline of each label on a plane as ``[position, SVG path in mm]``."""
    width_mm, height_mm = size_mm
    outlines: list[list[Any]] = []
    for position in np.unique(plane[plane > 0]).tolist():
        # A border of background closes the contours of what touches the edge.
        inside = np.pad(plane == position, 1)
        path = "".join(
            "M"
            + "L".join(
                f"{(column - 0.5) * width_mm:.4g} {(row - 0.5) * height_mm:.4g}"
                for row, column in contour[:-1]
            )
            + "Z"
            for contour in find_contours(inside.astype(np.float32), 0.5)
        )
        outlines.append([position, path])
    return outlines


def _png(plane: np.ndarray) -> bytes:
    """Return an 8-bit grey PNG (PNG specification, third edition, sections 5 and 11.2)."""
    rows, columns = plane.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    # Each line begins with the number of its filter; 0 is none.
    lines = np.pad(plane, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )
