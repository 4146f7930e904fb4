"""An RT structure set (RTSTRUCT): contours filled on the slices of a scan.

PS3.3 A.19 and C.8.8.6. A contour is a closed polygon in the patient, drawn on
one slice. A pixel belongs to a region if its centre does, by the even-odd
rule over all contours of the region on the slice:

    +-----------+        a ray from a pixel's centre crosses the contours an odd
    |  +-----+  |        number of times inside, an even number outside and in holes,
  ..|..|.....|..|...     whether the hole is a second contour or reached by a
    |  +-----+  |        keyhole, a slit that leads in and out again
    +-----------+

A contour that is there twice would be its own hole, so it is taken once, but
where its kind, CLOSEDPLANAR_XOR, says that it is one. What two contours that
cross have in common the rule leaves out, and what two holes that cross have in
common it fills; whoever drew them may have meant otherwise, so that is counted
and said, unless it is the kind of all of them.

A centre exactly on a left or upper edge is inside, on a right or lower edge
outside, so that regions that share an edge share no pixel.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice

from .drawing import Grid, Segment
from .segmentation import coded

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# In voxels. A contour lies on a slice; planning systems round its height to hundredths of a mm.
_OFF_SLICE = 0.2
# How far a contour may reach over the edge of the image, in pixels.
_OVER_EDGE = 1.0
_Outline = tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]


class StructureSet:
    """An RTSTRUCT.

    Parameters
    ----------
    dataset : Dataset
    grid : Grid
        Where masks are to lie; contours must lie on its slices.
    """

    what = "ROI"

    def __init__(self, dataset: Dataset, grid: Grid) -> None:
        self._grid = grid
        codes = {
            int(item.ReferencedROINumber): _identification(item)
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
        self._unfilled: Counter[str] = Counter()
        self._repeated = 0
        self._between = 0
        self._crossed = self._outside = 0

    def mask(self, number: int) -> np.ndarray:
        """Return the voxels of a region, bool, on the grid."""
        polygons = []
        seen: set[_Outline] = set()
        for contour in self._contours.get(number, []):
            kind = str(contour.get("ContourGeometricType", ""))
            points = np.array(contour.get("ContourData") or (), np.float64).reshape(-1, 3)
            if kind not in _CLOSED or len(points) < 3:
                self._unfilled["other" if kind in _CLOSED else "open"] += 1
                continue
            if kind == "CLOSED_PLANAR":
                outline = _outline(points)
                if outline in seen:
                    self._repeated += 1
                    continue
                seen.add(outline)
            polygons.append(self._grid.indices(points))
        mask, between = rasterise(polygons, self._grid.shape)
        self._between += between
        if seen:  # of contours that are all CLOSEDPLANAR_XOR it is meant
            crossed, outside = count_crossed(polygons, mask)
            self._crossed += crossed
            self._outside += outside
        return mask

    def notices(self) -> list[Notice]:
        """Return what was odd so far."""
        notices = []
        count = sum(self._unfilled.values())
        if count:
            notices.append(
                Notice(
                    "label_contours",
                    f"{count} contours of the label are points or lines, not closed; left out",
                )
            )
        if self._repeated:
            notices.append(
                Notice(
                    "label_repeated",
                    f"{self._repeated} contours of the label are there more than once in their "
                    "ROI; each was filled once",
                )
            )
        if self._crossed:
            notices.append(
                Notice(
                    "label_crossing",
                    f"{self._crossed} voxels lie within contours of an ROI of the label that cross "
                    f"each other; the even-odd rule leaves {self._outside} of them out",
                )
            )
        if self._between:
            notices.append(
                Notice(
                    "label_gaps",
                    f"{self._between} slices between contours of an ROI of the label have none; "
                    "taken as empty",
                )
            )
        return notices


def _outline(points: np.ndarray) -> _Outline:
    """Return the edges of a closed polygon, the same wherever it begins and whichever way it turns.

    A corner that follows itself, such as a last point that repeats the first, adds no edge.
    """
    corners = [tuple(point) for point in points.tolist()]
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges if edge[0] != edge[1]))


def rasterise(
    polygons: Sequence[np.ndarray], shape: tuple[int, int, int]
) -> tuple[np.ndarray, int]:
    """Fill polygons by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 3)
        Voxel indices of corners; each lies in one slice along one axis, the
        same for all.
    shape : (i, j, k)

    Returns
    -------
    mask : ndarray of bool, shape (i, j, k)
    between : int
        Slices without a polygon between the first and the last with one.

    Raises
    ------
    CaseError
        If a polygon lies between slices, across them, or outside the image,
        or polygons are on every other slice, or every third, for the most part.
    """
    if not polygons:
        return np.zeros(shape, bool), 0
    axis, by_slice = _on_slices(polygons, shape)
    between = _slices_between(sorted(by_slice))
    rows, columns = np.delete(np.array(shape), axis).tolist()
    planes = np.zeros((shape[axis], rows, columns), bool)
    for plane, flats in by_slice.items():
        planes[plane] = fill(flats, (rows, columns))
    return np.moveaxis(planes, 0, axis), between


def count_crossed(polygons: Sequence[np.ndarray], mask: np.ndarray) -> tuple[int, int]:
    """Count the voxels that lie in two polygons neither of which is within the other.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 3)
        As for `rasterise`.
    mask : ndarray of bool, shape (i, j, k)
        What it made of them.

    Returns
    -------
    crossed, outside : int
        All of them, and those that the mask leaves out.
    """
    if len(polygons) < 2:
        return 0, 0
    axis, by_slice = _on_slices(polygons, mask.shape)
    crossed = outside = 0
    for plane, flats in by_slice.items():
        inside = np.moveaxis(mask, axis, 0)[plane]
        both = _crossed(flats, inside.shape)
        crossed += int(np.count_nonzero(both))
        outside += int(np.count_nonzero(both & ~inside))
    return crossed, outside


def _crossed(polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels of a slice in two polygons neither of which is within the other."""
    size = np.array(shape)
    # The pixels whose centres a polygon may hold, from low to below high.
    low = np.array([np.ceil(one.min(axis=0)).clip(0, size) for one in polygons], int)
    high = np.array([(np.floor(one.max(axis=0)) + 1).clip(0, size) for one in polygons], int)
    crossed = np.zeros(shape, bool)
    begin = np.maximum(low[:, np.newaxis], low)
    end = np.minimum(high[:, np.newaxis], high)
    meet = np.triu((begin < end).all(axis=-1), 1)
    filled = {
        index: fill([polygons[index] - low[index]], tuple((high - low)[index].tolist()))
        for index in np.flatnonzero(meet.any(axis=0) | meet.any(axis=1)).tolist()
    }
    for one, other in np.argwhere(meet).tolist():
        joint = begin[one, other], end[one, other]
        first, second = (
            filled[index][tuple(map(slice, joint[0] - low[index], joint[1] - low[index]))]
            for index in (one, other)
        )
        both = first & second
        count = np.count_nonzero(both)
        if count and count < min(np.count_nonzero(filled[one]), np.count_nonzero(filled[other])):
            crossed[tuple(map(slice, *joint))] |= both
    return crossed


def _on_slices(
    polygons: Sequence[np.ndarray], shape: tuple[int, int, int]
) -> tuple[int, dict[int, list[np.ndarray]]]:
    """Return the axis across polygons, and those of each slice, shape (n, 2); as `rasterise`."""
    spread = np.max([np.ptp(polygon, axis=0) for polygon in polygons], axis=0)
    axis = int(np.argmin(spread))
    by_slice: dict[int, list[np.ndarray]] = defaultdict(list)
    for polygon in polygons:
        height = polygon[:, axis]
        plane = int(np.rint(height.mean()))
        off = float(np.abs(height - plane).max())
        if off > _OFF_SLICE:
            raise CaseError(
                "label_grid",
                f"a contour of the label lies {off:.3g} slices beside the nearest slice of the "
                "image; name the series it was drawn on",
            )
        flat = np.delete(polygon, axis, axis=1)
        size = np.delete(np.array(shape), axis)
        over = float(max((-0.5 - flat).max(), (flat - (size - 0.5)).max()))
        if not 0 <= plane < shape[axis] or over > _OVER_EDGE:
            raise CaseError(
                "label_grid",
                "a contour of the label reaches beyond the image; name the series it was drawn on",
            )
        by_slice[plane].append(flat)
    return axis, by_slice


def _slices_between(planes: Sequence[int]) -> int:
    """Return how many slices between contours have none.

    Contours drawn on thicker slices than the image's would leave stripes, and
    are refused: no contour has a neighbour, or most are equally far from the
    next. Lesions far apart are not, whatever lies between them; two contoured
    slices tell nothing.
    """
    gaps = np.diff(planes)
    _, alike = Counter(gaps[gaps > 1].tolist()).most_common(1)[0] if (gaps > 1).any() else (0, 0)
    if len(gaps) >= 2 and (gaps.min() > 1 or 2 * alike > len(gaps)):
        raise CaseError(
            "label_grid",
            f"contours of an ROI of the label lie on {len(planes)} slices of the image and leave "
            f"out {int((gaps - 1).sum())} between them, which would leave stripes; interpolate "
            "them first, or name the series they were drawn on",
        )
    return int((gaps - 1).sum())


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a slice inside polygons, by the even-odd rule over all of them.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 2)
        Corners as (row, column); centres of pixels are whole numbers.
    shape : (rows, columns)

    Returns
    -------
    ndarray of bool

    Examples
    --------
    A square from 0.5 to 3.5 holds the centres 1, 2 and 3:

    >>> square = np.array([[0.5, 0.5], [0.5, 3.5], [3.5, 3.5], [3.5, 0.5]])
    >>> fill([square], (5, 5)).sum()
    np.int64(9)
    """
    ends = [np.stack([polygon, np.roll(polygon, -1, axis=0)], axis=1) for polygon in polygons]
    edges = np.concatenate(ends)  # (edge, from and to, row and column)
    upward = edges[:, 0, 0] > edges[:, 1, 0]
    edges[upward] = edges[upward, ::-1]
    (row, column), (row_to, column_to) = edges[:, 0].T, edges[:, 1].T
    # Rows with row <= centre < row_to: a corner between two edges counts once.
    begin = np.ceil(row).clip(0, shape[0]).astype(int)
    count = np.ceil(row_to).clip(0, shape[0]).astype(int) - begin
    edge = np.repeat(np.arange(len(edges)), count)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + begin[edge]
    along = (rows - row[edge]) / (row_to - row)[edge]
    at = column[edge] + along * (column_to - column)[edge]
    columns = np.ceil(at).clip(0, shape[1]).astype(int)
    # How many edges a ray along the row first meets between a column's centre and the one before.
    # Only odd or even counts, which uint8 keeps when it overflows.
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)
    np.add.at(crossings, (rows, columns), 1)
    odd = np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) & 1
    inside: np.ndarray = odd.view(bool)
    return inside


def _identification(item: Dataset) -> Code | None:
    """Return the code of what a region is (PS3.3 C.8.8.8)."""
    codes = item.get("RTROIIdentificationCodeSequence")
    return coded(codes[0]) if codes else None
