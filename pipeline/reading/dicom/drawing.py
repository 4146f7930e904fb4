"""What a DICOM object draws on the grid of a scan, whichever kind of object it is."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydicom.sr.coding import Code

from voxtile.errors import Notice
from voxtile.volume import Shape3D


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where a mask is to lie: the scan's voxels without their values."""

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
    """One thing that an object draws.

    Parameters
    ----------
    number : int
        SegmentNumber or ROINumber.
    name : str
        Compared with the labels' names, never shown.
    code : Code or None
        What it is (PS3.3 C.8.20.4, Segmented Property Type; C.8.8.8, RT ROI
        Identification Code).
    """

    number: int
    name: str
    code: Code | None


class Drawing(Protocol):
    """What a SEG and an RTSTRUCT have in common."""

    what: str
    segments: tuple[Segment, ...]

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a segment, bool, on the grid."""
        ...

    def notices(self) -> list[Notice]:
        """Return what was odd so far."""
        ...
