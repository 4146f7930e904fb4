"""Read an RT structure set (RTSTRUCT): the contours of its regions, filled on a scan's slices.

PS3.3 A.19 and C.8.8.6. A contour is a closed polygon in the patient, drawn on
one slice. `polygons` fills it by the even-odd rule.

By that rule a contour that occurs twice would be its own hole, so repeated
contours are used once, unless their type, CLOSEDPLANAR_XOR, asks for the hole.
The rule leaves out where two contours cross, and fills where two holes cross.
The author may have meant something else, so these voxels are counted in a
notice, unless all contours are of the type CLOSEDPLANAR_XOR.
"""

from collections import Counter

import numpy as np
from pydicom import Dataset

from voxtile.errors import Notice, counted

from .drawing import Grid, Segment
from .polygons import count_crossed, rasterise
from .segmentation import coded

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_Outline = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


class StructureSet:
    """An RTSTRUCT, whose contours must be on the slices of the masks' grid."""

    what = "ROI"

    def __init__(self, dataset: Dataset, grid: Grid) -> None:
        self._grid = grid
        codes = {
            int(item.ReferencedROINumber): coded(item, "RTROIIdentificationCodeSequence")
            for item in dataset.get("RTROIObservationsSequence") or ()
        }
        self._contours: dict[int, list[Dataset]] = {
            int(item.ReferencedROINumber): list(item.get("ContourSequence") or ())
            for item in dataset.get("ROIContourSequence") or ()
        }
        self.segments = tuple(
            Segment(int(item.ROINumber), str(item.get("ROIName", "")), codes.get(item.ROINumber))
            for item in dataset.StructureSetROISequence
        )
        # What notices count: contours that are not closed or repeated, voxels, slices.
        self._counts: Counter[str] = Counter()

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a region, bool, on the grid."""
        polygons = []
        seen: set[_Outline] = set()
        for contour in self._contours.get(number, []):
            kind = str(contour.get("ContourGeometricType", ""))
            points = np.array(contour.get("ContourData") or (), np.float64).reshape(-1, 3)
            if kind not in _CLOSED or len(points) < 3:
                self._counts["open"] += 1
                continue
            if kind == "CLOSED_PLANAR":
                outline = _outline(points)
                if outline in seen:
                    self._counts["repeated"] += 1
                    continue
                seen.add(outline)
            polygons.append(self._grid.indices(points))
        mask, between = rasterise(polygons, self._grid.shape)
        self._counts["between"] += between
        if seen:  # if all contours are CLOSEDPLANAR_XOR, crossings are intended
            crossed, outside = count_crossed(polygons, mask)
            self._counts["crossed"] += crossed
            self._counts["outside"] += outside
        return mask

    def notices(self) -> list[Notice]:
        """Return notices about the regions drawn so far."""
        count = self._counts
        possible = {
            "open": Notice(
                "label_contours",
                f"{counted(count['open'], 'contour')} of the reference with only a point or an "
                "open line; left out",
            ),
            "repeated": Notice(
                "label_repeated",
                f"{counted(count['repeated'], 'repeated contour')} in an ROI of the reference; "
                "each contour was filled once",
            ),
            "crossed": Notice(
                "label_crossing",
                f"{counted(count['crossed'], 'voxel')} of the reference inside contours of an ROI "
                f"that cross each other; the even-odd rule leaves {count['outside']} of them out",
            ),
            "between": Notice(
                "label_gaps",
                f"{counted(count['between'], 'slice')} without a contour between contours of an "
                "ROI of the reference; taken as empty",
            ),
        }
        return [notice for what, notice in possible.items() if count[what]]


def _outline(points: np.ndarray) -> _Outline:
    """Return the edges of a closed polygon, independent of its first point and its direction.

    A corner that is repeated, such as a last point equal to the first, adds no edge.
    """
    corners = [tuple(point) for point in points.tolist()]
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges if edge[0] != edge[1]))
