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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from voxtile.errors import CaseError

# In voxels. A contour is on a slice; planning systems round its height to hundredths of a mm.
_OFF_SLICE = 0.2
# In pixels. A contour that reaches this far beyond the edge of the image is not counted.
_OVER_EDGE = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Polygons on the slices of a grid.

    Parameters
    ----------
    axis : int
        The axis of the grid across the slices.
    by_slice : dict of int to list of ndarray, shape (n, 2)
        The polygons that are in the image, at least in part.
    beyond, outside : int
        Number of polygons that reach beyond the image, and of those that are
        wholly outside.
    """

    axis: int
    by_slice: dict[int, list[np.ndarray]]
    beyond: int
    outside: int


def place(polygons: Sequence[np.ndarray], shape: tuple[int, int, int]) -> Placed:
    """Find the slices of polygons.

    Parameters
    ----------
    polygons : sequence of ndarray of float, shape (n, 3)
        Voxel indices of corners; each polygon is in one slice, across an axis
        that is the same for all.

    Raises
    ------
    CaseError
        If a polygon in the image is between slices or across them.
    """
    spreads = [np.ptp(polygon, axis=0) for polygon in polygons]
    # Polygons that are lines along an axis are flat across both others: slices are whole numbers.
    offs = [np.abs(polygon - np.rint(polygon.mean(axis=0))).max(axis=0) for polygon in polygons]
    spread, off_slice = (
        np.max(np.reshape(each, (-1, 3)), axis=0, initial=0).tolist() for each in (spreads, offs)
    )
    axis = min(range(3), key=lambda one: (round(spread[one], 6), off_slice[one]))
    size = np.delete(np.array(shape), axis)
    by_slice: dict[int, list[np.ndarray]] = defaultdict(list)
    beyond = outside = 0
    for polygon in polygons:
        height = polygon[:, axis]
        plane = int(np.rint(height.mean()))
        flat = np.delete(polygon, axis, axis=1)
        low, high = flat.min(axis=0), flat.max(axis=0)
        if not 0 <= plane < shape[axis] or (high < -0.5).any() or (low > size - 0.5).any():
            beyond, outside = beyond + 1, outside + 1
            continue
        off = float(np.abs(height - plane).max())
        if off > _OFF_SLICE:
            raise CaseError(
                "label_grid",
                f"a contour of the reference is {off:.3g} slices away from the nearest slice of "
                "the image; name the series it was drawn on",
            )
        beyond += max((-0.5 - low).max(), (high - (size - 0.5)).max()) > _OVER_EDGE
        by_slice[plane].append(flat)
    return Placed(axis, by_slice, beyond, outside)


def rasterise(
    placed: Placed, shape: tuple[int, int, int], at: Callable[[str], None] = lambda _: None
) -> tuple[np.ndarray, int]:
    """Fill polygons by the even-odd rule; `at` is called with each slice.

    Returns
    -------
    mask : ndarray of bool, shape (i, j, k)
    between : int
        Number of slices without a polygon between the first and the last with one.

    Raises
    ------
    CaseError
        If most polygons are on every second, or every third slice.
    """
    between = _slices_between(sorted(placed.by_slice))
    rows, columns = np.delete(np.array(shape), placed.axis).tolist()
    planes = np.zeros((shape[placed.axis], rows, columns), bool)
    for plane, flats in placed.by_slice.items():
        at(f"slice {plane}")
        planes[plane] = fill(flats, (rows, columns))
    return np.moveaxis(planes, 0, placed.axis), between


def count_crossed(
    placed: Placed, mask: np.ndarray, at: Callable[[str], None] = lambda _: None
) -> tuple[int, int]:
    """Count the voxels that are in two overlapping polygons, neither of which is in the other.

    Parameters
    ----------
    placed, mask, at
        The arguments of `rasterise`, and the mask that it returned.

    Returns
    -------
    crossed, outside : int
        Number of these voxels, and of those that are not in the mask.
    """
    crossed = outside = 0
    for plane, flats in placed.by_slice.items():
        inside = np.moveaxis(mask, placed.axis, 0)[plane]
        both = _crossed(flats, inside.shape, partial(at, f"slice {plane}"))
        crossed += int(np.count_nonzero(both))
        outside += int(np.count_nonzero(both & ~inside))
    return crossed, outside


def _crossed(
    polygons: Sequence[np.ndarray], shape: tuple[int, ...], alive: Callable[[], None]
) -> np.ndarray:
    """Return a slice's pixels that are in two polygons, neither of which is in the other."""
    crossed = np.zeros(shape, bool)
    if len(polygons) < 2:
        return crossed
    size = np.array(shape)
    # The box of the pixels whose centres may be in a polygon, from low to below high.
    low = np.array([np.ceil(one.min(axis=0)).clip(0, size) for one in polygons], int)
    high = np.array([(np.floor(one.max(axis=0)) + 1).clip(0, size) for one in polygons], int)
    high = np.maximum(high, low)
    filled = []
    for index, polygon in enumerate(polygons):
        alive()
        filled.append(fill([polygon - low[index]], tuple((high - low)[index].tolist())))
    if _is_nested(filled, low, high, shape):
        return crossed
    counts = [np.count_nonzero(one) for one in filled]
    for one in range(len(polygons)):
        alive()
        begin, end = np.maximum(low[one], low), np.minimum(high[one], high)
        begin[: one + 1] = end[: one + 1]  # each pair once
        for other in np.flatnonzero((begin < end).all(axis=1)).tolist():
            joint = begin[other], end[other]
            first, second = (
                filled[index][tuple(map(slice, joint[0] - low[index], joint[1] - low[index]))]
                for index in (one, other)
            )
            both = first & second
            count = np.count_nonzero(both)
            if count and count < min(counts[one], counts[other]):
                crossed[tuple(map(slice, *joint))] |= both
    return crossed


def _is_nested(
    filled: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]
) -> bool:
    """Whether any two polygons are apart, or one is inside the other.

    Polygons are drawn on the slice from the largest to the smallest. Each may cover
    pixels of only one earlier polygon, or of the background only.
    """
    owner = np.full(shape, -1, np.int32)
    for index in sorted(range(len(filled)), key=lambda index: -np.count_nonzero(filled[index])):
        window = owner[tuple(map(slice, low[index], high[index]))]
        under = window[filled[index]]
        if under.size and (under != under[0]).any():
            return False
        window[filled[index]] = index
    return True


def _slices_between(planes: Sequence[int]) -> int:
    """Return how many slices between contours have no contour.

    Contours that were drawn on thicker slices than the image's would leave
    stripes. They are refused if no two are on neighbouring slices, or most
    distances are equal and above 1. Distant lesions are accepted; two slices
    with contours are too few to judge.
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
