"""Place the segments of a 3D Slicer segmentation on a scan's grid."""

from collections.abc import Container
from pathlib import Path

import numpy as np
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice
from voxtile.reading.slicer import Layered, LayeredSegment
from voxtile.volume import OFF_GRID

from .drawing import Grid, Segment


class SlicerSegmentation:
    """A ``.seg.nrrd``, read from its file; its masks are on the grid.

    The number of a segment is its value or, if values repeat, its place in the
    file, from 1. `values` are the values of the labels.
    """

    what = "segment"
    series: frozenset[str] = frozenset()  # the file names no series

    def __init__(self, path: Path, grid: Grid, values: Container[int]) -> None:
        self._grid = grid
        self._found = Layered(path)
        unique = self._found.has_unique_values
        self._segments: dict[int, LayeredSegment] = {
            segment.value if unique else place: segment
            for place, segment in enumerate(self._found.segments, start=1)
        }
        self.segments = tuple(
            Segment(number, one.name, None if one.code is None else _code(one.code))
            for number, one in self._segments.items()
        )
        # Without names, segments are known by value only, as in any label map.
        self.values = (
            {number: number for number in self._segments if number in values}
            if unique and self._found.is_unnamed
            else {}
        )

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a segment, bool, on the grid."""
        part = self._found.mask(self._segments[number])
        inside = np.argwhere(part)
        mask = np.zeros(self._grid.shape, bool)
        # From the file's voxels to the scan's: a permutation, flips and a shift by whole voxels.
        between = np.linalg.solve(self._grid.affine, self._found.volume.affine)
        whole = np.rint(between)
        reach = np.append(np.array(part.shape), 1)
        off = float((np.abs(between - whole)[:3] @ reach).max())
        steps = np.abs(whole[:3, :3])
        if off > OFF_GRID or any((steps.sum(axis=axis) != 1).any() for axis in (0, 1)):
            raise CaseError(
                "label_grid",
                "the reference is not on the voxels of the image (spacing, direction or position "
                "differ); resample it to the image first",
            )
        places = (inside @ whole[:3, :3].T + whole[:3, 3]).astype(int)
        if (places < 0).any() or (places >= self._grid.shape).any():
            raise CaseError(
                "label_grid",
                "a segment of the reference has voxels outside the image; name the scan that it "
                "was drawn on",
            )
        mask[tuple(places.T)] = True
        return mask

    def notices(self) -> list[Notice]:
        """Return notices about the file."""
        return self._found.notices


def _code(code: tuple[str, str, str]) -> Code:
    """Return a code as pydicom compares it."""
    scheme, value, meaning = code
    return Code(value, scheme, meaning)
