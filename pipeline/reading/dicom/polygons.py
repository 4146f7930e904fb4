"""Fill polygons on the slices of a grid, by the even-odd rule.

A pixel is inside if its centre is, counting all polygons of the slice:

    +-----------+        a ray from a pixel's centre crosses the polygons an odd
    |  +-----+  |        number of times inside, an even number outside and in holes,
  ..|..|.....|..|...     whether the hole is a second polygon or connected by a
    |  +-----+  |        keyhole, a slit that leads in and out again
    +-----------+

A centre exactly on a left or upper edge is inside, on a right or lower edge
outside, so that polygons that share an edge share no pixel.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from voxtile.errors import CaseError

# In voxels. A contour is on a slice; planning systems round its height to hundredths of a mm.
_OFF_SLICE = 0.2
# How far a contour may reach over the edge of the image, in pixels.
_OVER_EDGE = 1.0


def rasterise(
    polygons: Sequence[np.ndarray], shape: tuple[int, int, int]
) -> tuple[np.ndarray, int]:
    """Fill polygons by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 3)
        Voxel indices of corners; each polygon is in one slice, across an axis
        that is the same for all.

    Returns
    -------
    mask : ndarray of bool, shape (i, j, k)
    between : int
        Number of slices without a polygon between the first and the last with one.

    Raises
    ------
    CaseError
        If a polygon is between slices, across them, or outside the image, or
        most polygons are on every second, or every third slice.
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
    """Count the voxels in two polygons that overlap and neither of which is inside the other.

    Parameters
    ----------
    polygons, mask
        As for `rasterise`, and its result.

    Returns
    -------
    crossed, outside : int
        All such voxels, and those of them that are not in the mask.
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
    """Return the pixels of a slice in two polygons neither of which is inside the other."""
    size = np.array(shape)
    # The box of the pixels whose centres may be in a polygon, from low to below high.
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
    """Return the axis across the slices, and the polygons of each slice, shape (n, 2)."""
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
                f"a contour of the reference is {off:.3g} slices away from the nearest slice of "
                "the image; name the series it was drawn on",
            )
        flat = np.delete(polygon, axis, axis=1)
        size = np.delete(np.array(shape), axis)
        over = float(max((-0.5 - flat).max(), (flat - (size - 0.5)).max()))
        if not 0 <= plane < shape[axis] or over > _OVER_EDGE:
            raise CaseError(
                "label_grid",
                "a contour of the reference is outside the image; name the series it was drawn on",
            )
        by_slice[plane].append(flat)
    return axis, by_slice


def _slices_between(planes: Sequence[int]) -> int:
    """Return how many slices between contours have no contour.

    Contours drawn on thicker slices than the image's would leave stripes, so
    they are refused: no contour has one on the next slice, or most distances
    are equal and above 1. Distant lesions are accepted; two slices with
    contours are too few to judge.
    """
    gaps = np.diff(planes)
    _, alike = Counter(gaps[gaps > 1].tolist()).most_common(1)[0] if (gaps > 1).any() else (0, 0)
    if len(gaps) >= 2 and (gaps.min() > 1 or 2 * alike > len(gaps)):
        raise CaseError(
            "label_grid",
            f"contours of an ROI of the reference are on {len(planes)} slices of the image and "
            f"skip {int((gaps - 1).sum())} between them, so that the mask would have stripes; "
            "interpolate the contours first, or name the series they were drawn on",
        )
    return int((gaps - 1).sum())


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a slice inside polygons, by the even-odd rule over all of them.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 2)
        Corners as (row, column); centres of pixels are whole numbers.

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
    # Number of edges that a ray along the row crosses between two centres of columns. Only odd or
    # even matters, which uint8 keeps when it overflows.
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)
    np.add.at(crossings, (rows, columns), 1)
    odd = np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) & 1
    inside: np.ndarray = odd.view(bool)
    return inside
