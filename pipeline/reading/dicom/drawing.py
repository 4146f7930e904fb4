"""What SEG and RTSTRUCT have in common: segments drawn on the grid of a scan."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydicom.sr.coding import Code

from voxtile.errors import Notice
from voxtile.volume import Shape3D


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The grid of a mask: that of the scan."""

    shape: Shape3D
    affine: np.ndarray

    def indices(self, points_lps: np.ndarray) -> np.ndarray:
        """Return voxel indices, shape (n, 3), of points in the patient (LPS, mm)."""
        points = np.asarray(points_lps, np.float64) * (-1, -1, 1)
        inverse = np.linalg.inv(self.affine)
        found: np.ndarray = points @ inverse[:3, :3].T + inverse[:3, 3]
        return found


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment or region of interest.

    Parameters
    ----------
    number : int
        SegmentNumber or ROINumber.
    name : str
        Compared with the names of labels, never shown.
    code : Code or None
        What the segment is (PS3.3 C.8.20.4, Segmented Property Type; C.8.8.8, RT ROI
        Identification Code).
    """

    number: int
    name: str
    code: Code | None


class Drawing(Protocol):
    """The segments of a SEG or RTSTRUCT; `what` is their name in messages."""

    what: str
    segments: tuple[Segment, ...]

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a segment, bool, on the grid."""
        ...

    def notices(self) -> list[Notice]:
        """Return notices about the masks drawn so far."""
        ...
