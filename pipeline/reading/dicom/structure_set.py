"""Read an RT structure set (RTSTRUCT): the contours of its regions, filled on a scan's slices.

PS3.3 A.19 and C.8.8.6. A contour is a closed polygon in the patient, drawn on
one slice. `polygons` fills it by the even-odd rule.

By that rule a contour that occurs twice would be its own hole, so repeated
contours are used once, unless their type, CLOSEDPLANAR_XOR, asks for the hole.
The rule leaves out voxels where two contours cross, and fills voxels where two
holes cross. The author may have meant something else, so these voxels are counted
in a notice, unless all contours are of the type CLOSEDPLANAR_XOR.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from voxtile.errors import CaseError, Notice, counted

from .drawing import Grid, Segment
from .polygons import count_crossed, place, rasterise
from .segmentation import coded

# Types of contours that are not closed. Contours of all other types are: some programs write no
# type, or types of their own, such as INTERPOLATED_PLANAR.
_OPEN = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
# In voxels. An open contour whose ends are no further apart is closed.
_CLOSE = 0.1
_Outline = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


class StructureSet:
    """An RTSTRUCT, whose contours must be on the slices of the masks' grid."""

    what = "ROI"

    def __init__(self, dataset: Dataset, grid: Grid, at: Callable[[str], None]) -> None:
        self._grid = grid
        self._at = at
        codes = {
            int(item.ReferencedROINumber): coded(item, "RTROIIdentificationCodeSequence")
            for item in dataset.get("RTROIObservationsSequence") or ()
        }
        # The contours of an ROI may be in several items.
        self._items: dict[int, list[Dataset]] = {}
        for item in dataset.get("ROIContourSequence") or ():
            self._items.setdefault(int(item.ReferencedROINumber), []).append(item)
        systems = dataset.get("ReferencedFrameOfReferenceSequence") or ()
        named = {str(system.get("FrameOfReferenceUID", "")) for system in systems}
        only = named.pop() if len(named) == 1 else str(dataset.get("FrameOfReferenceUID", ""))
        self.segments = tuple(
            Segment(
                int(item.ROINumber),
                str(item.get("ROIName", "")),
                codes.get(item.ROINumber),
                str(item.get("ReferencedFrameOfReferenceUID") or only),
            )
            for item in dataset.StructureSetROISequence
        )
        self.series = frozenset(
            str(series.SeriesInstanceUID)
            for system in systems
            for study in system.get("RTReferencedStudySequence") or ()
            for series in study.get("RTReferencedSeriesSequence") or ()
        )
        # The numbers for notices: of contours of several kinds, of voxels, of slices.
        self._counts: Counter[str] = Counter()

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a region, bool, on the grid."""
        polygons, ambiguous = self._polygons(number)
        placed = place(polygons, self._grid.shape)
        mask, between = rasterise(placed, self._grid.shape, self._at)
        self._counts.update(
            between=between,
            beyond=placed.beyond,
            away=placed.outside,
            inside=len(polygons) - placed.outside,
        )
        if ambiguous:
            crossed, outside = count_crossed(placed, mask, self._at)
            self._counts.update(crossed=crossed, outside=outside)
        return mask

    def _polygons(self, number: int) -> tuple[list[np.ndarray], bool]:
        """Return the closed contours of a region, and whether their crossings may be mistakes."""
        polygons = []
        seen: set[_Outline] = set()
        contours = [
            contour
            for item in self._items.get(number, [])
            for contour in item.get("ContourSequence") or ()
        ]
        for index, contour in enumerate(contours, start=1):
            if index % 1000 == 1:
                self._at(f"contour {index} of {len(contours)} of ROI {number}")
            kind = str(contour.get("ContourGeometricType") or "").strip().upper()
            points = _points(contour)
            indices = self._grid.indices(points)
            if len(points) > 3 and kind in _OPEN[1:]:
                closes = float(np.abs(indices[0] - indices[-1]).max()) <= _CLOSE
                self._counts["closed"] += closes
                kind = "" if closes else kind
            if kind in _OPEN or len(points) < 3:
                self._counts["open"] += 1
                continue
            if kind != "CLOSEDPLANAR_XOR":  # if all are, crossings are intended
                outline = _outline(points)
                if outline in seen:
                    self._counts["repeated"] += 1
                    continue
                seen.add(outline)
            polygons.append(indices)
        return polygons, bool(seen)

    def notices(self) -> list[Notice]:
        """Return notices about the regions drawn so far.

        Raises
        ------
        CaseError
            If all contours of the regions are outside the image.
        """
        count = self._counts
        if count["away"] and not count["inside"]:
            raise CaseError(
                "label_grid",
                f"the reference has {counted(count['away'], 'contour')}, but none in the image; "
                "name the series it was drawn on",
            )
        possible = {
            "open": Notice(
                "label_contours",
                f"{counted(count['open'], 'contour')} of the reference with only a point or an "
                "open line; left out",
            ),
            "closed": Notice(
                "label_closed",
                f"{counted(count['closed'], 'contour')} of the reference called open, but with "
                "its first point as its last; filled",
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
            "beyond": Notice(
                "label_clipped",
                f"{counted(count['beyond'], 'contour')} of the reference beyond the edge of the "
                f"image, {count['away']} of them wholly; only what is in the image was filled",
            ),
        }
        return [notice for what, notice in possible.items() if count[what]]


def _points(contour: Dataset) -> np.ndarray:
    """Return the points of a contour, LPS in mm, shape (n, 3).

    This reads the bytes of the element: pydicom's own conversion takes ten times as long.
    """
    if "ContourData" not in contour:
        return np.zeros((0, 3))
    element = contour.get_item("ContourData")
    value = element.value
    numbers: Sequence[bytes | float] = value or ()
    if isinstance(element, RawDataElement) and isinstance(value, bytes):
        numbers = value.split(b"\\") if value.strip() else ()
    points = np.array(numbers, np.float64).reshape(-1, 3)
    if not np.isfinite(points).all():
        raise ValueError("a contour has a point that is not finite")
    return points


def _outline(points: np.ndarray) -> _Outline:
    """Return the edges of a closed polygon, independent of its first point and its direction.

    A corner that is repeated, such as a last point equal to the first, adds no edge.
    """
    corners = [tuple(point) for point in points.tolist()]
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges if edge[0] != edge[1]))
