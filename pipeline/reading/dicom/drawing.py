"""What SEG and RTSTRUCT have in common: segments drawn on the grid of a scan."""

from dataclasses import dataclass

import numpy as np
from pydicom.sr.coding import Code

from voxtile.volume import Shape3D, Source


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The grid of a mask: that of the scan."""

    shape: Shape3D
    affine: np.ndarray
    source: Source

    def indices(self, points_lps: np.ndarray) -> np.ndarray:
        """Return voxel indices, shape (n, 3), of points in the patient (LPS, mm)."""
        points = np.asarray(points_lps, np.float64) * (-1, -1, 1)
        inverse = np.linalg.inv(self.affine)
        found: np.ndarray = points @ inverse[:3, :3].T + inverse[:3, 3]
        return found


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment or region of interest."""

    number: int
    name: str  # compared with the names of labels, never shown
    # Segmented Property Type (PS3.3 C.8.20.4) or RT ROI Identification Code (C.8.8.8).
    code: Code | None
    frame: str = ""  # its FrameOfReferenceUID; empty if missing
