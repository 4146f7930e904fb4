"""Make three sections through a case, with the contours of its masks.

A section is a small PNG with contours as SVG paths in millimetres, so that it
is sharp at every size and on paper, and each contour can be hidden.

Sections are oriented as radiologists see them: the patient's right is on the
left of axial and coronal sections, anterior is on the left of sagittal ones.
"""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from skimage.measure import find_contours

from voxtile.report.montage import shown_plane

from .pictures import Picture

# View, axis perpendicular to it, axes to the left and up, names of the left and right side.
_VIEWS = (
    ("axial", 2, (0, 1), ("R", "L")),
    ("coronal", 1, (0, 2), ("R", "L")),
    ("sagittal", 0, (1, 2), ("A", "P")),
)
# Maximum pixels along the longer side of a section; more cannot be seen on the page.
_MOST_PIXELS = 320


def make_sections(picture: Picture) -> list[dict[str, Any]]:
    """Return the most informative axial, coronal and sagittal section, as JSON values.

    The slice is the one in which prediction and reference differ most, or in a comparison the
    masks of the runs; if they agree or there is no reference, the slice with the largest
    prediction; if the prediction is empty, the middle slice.

    ``view``; ``slice`` (from 1, in RAS order), ``of`` (number of slices) and ``why`` it was chosen;
    ``width_mm``, ``height_mm``, ``png`` (base64); ``prediction`` and ``reference``: lists of
    ``[position of the label, SVG path]``, the latter null without a reference; ``left`` and
    ``right``. A picture with masks of other runs also gives ``others``.
    """
    prediction = picture.prediction.array
    reference = None if picture.reference is None else picture.reference.array
    others = [mask.array for mask in picture.others]
    compared = others or ([] if reference is None else [reference])
    whose = "the masks of the runs" if others else "prediction and reference"
    sections = []
    for view, axis, (across, up), (left, right) in _VIEWS:
        number, why = _chosen_slice(prediction, compared, axis, whose)
        spacing_mm = picture.image.spacing_mm
        size_mm = (spacing_mm[across], spacing_mm[up])
        plane = shown_plane(picture.image.array, axis, number)
        step = -(-max(plane.shape) // _MOST_PIXELS)  # pixels are left out
        sections.append(
            {
                "view": view,
                "slice": number + 1,
                "of": prediction.shape[axis],
                "why": why,
                "width_mm": round(plane.shape[1] * size_mm[0], 2),
                "height_mm": round(plane.shape[0] * size_mm[1], 2),
                "png": base64.b64encode(_png(plane[::step, ::step])).decode(),
                "prediction": _contours(shown_plane(prediction, axis, number), size_mm),
                "reference": None
                if reference is None
                else _contours(shown_plane(reference, axis, number), size_mm),
                "left": left,
                "right": right,
            }
        )
        if others:
            sections[-1]["others"] = [
                _contours(shown_plane(mask, axis, number), size_mm) for mask in others
            ]
    return sections


def _chosen_slice(
    prediction: np.ndarray, compared: Sequence[np.ndarray], axis: int, whose: str
) -> tuple[int, str]:
    """Return the slice to show perpendicular to an axis, and why."""
    in_plane = tuple(other for other in range(3) if other != axis)
    wrong = sum((prediction != mask).sum(axis=in_plane) for mask in compared)
    if np.any(wrong):
        return int(np.argmax(wrong)), f"{whose} differ most"
    labelled = (prediction > 0).sum(axis=in_plane)
    if labelled.any():
        return int(labelled.argmax()), "the prediction is largest"
    return prediction.shape[axis] // 2, "there is no label"


def _contours(plane: np.ndarray, size_mm: tuple[float, float]) -> list[list[Any]]:
    """Return the outline of each label on a plane as ``[position, SVG path in mm]``."""
    width_mm, height_mm = size_mm
    outlines: list[list[Any]] = []
    for position in np.unique(plane[plane > 0]).tolist():
        # A border of background closes the contours of masks that touch the edge.
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
    """Return a grey plane of uint8 as PNG."""
    content = BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(content, "PNG", compress_level=9)
    return content.getvalue()
