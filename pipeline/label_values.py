"""The values of a label map: which type can hold them, which values occur, and where."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

Box = tuple[slice, ...]

# Maximum of labels of a bundle. A mask with more values is a scan, or it numbers single objects.
MOST_LABELS = 1000

# Number of voxels that are counted at once: so few stay in the processor's cache.
_SLAB = 2**16


def label_type(values: Iterable[int]) -> type[np.unsignedinteger]:
    """Return the smaller of uint8 and uint16 that holds all values.

    Examples
    --------
    >>> label_type([1, 255]).__name__, label_type([1, 256]).__name__
    ('uint8', 'uint16')
    """
    return np.uint8 if max(values, default=0) <= 255 else np.uint16


def label_values(array: np.ndarray) -> list[int]:
    """Return the values that occur in a label map of integers, in order.

    The result is that of `numpy.unique`, in a seventh of the time for a mask of
    a whole scan, because small unsigned numbers are counted instead of sorted.

    Examples
    --------
    >>> label_values(np.array([[3, 0], [0, 1]], np.uint8))
    [0, 1, 3]
    """
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        values: list[int] = np.unique(array).tolist()
        return values
    occurs = np.zeros(np.iinfo(array.dtype).max + 1, bool)
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _SLAB):
        counts = np.bincount(flat[start : start + _SLAB])
        occurs[: counts.size] |= counts > 0
    found: list[int] = np.flatnonzero(occurs).tolist()
    return found


def region_box(array: np.ndarray, values: Sequence[int]) -> Box | None:
    """Return the smallest box that holds every voxel of some values; None if there is no voxel.

    `values` has at least one value; all are above 0.

    Examples
    --------
    >>> region_box(np.array([[0, 3, 0, 0], [0, 0, 0, 1]], np.uint8), (1, 3))
    (slice(0, 2, None), slice(1, 4, None))
    """
    found = ndimage.find_objects(array, max(values))
    return joint_box(found[value - 1] for value in values)


def joint_box(boxes: Iterable[Box | None]) -> Box | None:
    """Return the smallest box that holds all boxes that are not None; None if all are None."""
    held = [box for box in boxes if box is not None]
    if not held:
        return None
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis))
        for axis in zip(*held, strict=True)
    )
