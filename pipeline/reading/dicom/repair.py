"""Two repairs that a policy may choose: fill gaps, undo tilt."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, floor

import numpy as np

from voxtile.reading.isolation import Workspace


def fill_gaps(array: np.ndarray, planes: Sequence[int]) -> None:
    """Fill the planes that are not in `planes`, in place, linearly from their neighbours.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        Integers are rounded to the nearest, halves to even.
    planes : sequence of int
        Planes with voxels, ascending, with the first and the last plane.
    """
    for before, after in pairwise(planes):
        for plane in range(before + 1, after):
            weight = (plane - before) / (after - before)
            mixed = array[before] * (1 - weight) + array[after] * weight
            array[plane] = np.rint(mixed) if array.dtype.kind == "i" else mixed


def rectangular(
    array: np.ndarray, affine: np.ndarray, workspace: Workspace
) -> tuple[np.ndarray, np.ndarray]:
    """Shift each slice within its plane so that the grid becomes rectangular.

        as acquired     rectangular, with margins of the lowest value
         ____             ______
           ____           ____--
             ____         --____

    Slices stay in the planes in which they were acquired, so only rows and
    columns are interpolated, linearly.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        (column, row, slice) to world; its third axis is tilted.

    Returns
    -------
    array, affine : ndarray
        Of shape (slices, rows + margin, columns + margin), and with three axes
        at right angles.
    """
    count = len(array)
    spacing = np.linalg.norm(affine[:3, :2], axis=0)
    across, down = (affine[:3, :2] / spacing).T
    step = affine[:3, 2]
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    # Shift of each slice from the one before, in pixels (columns, rows).
    lean = np.array([step @ across, step @ down]) / spacing
    reach = lean * (count - 1)
    margin = [ceil(abs(value) - 1e-6) for value in reach]
    # The new grid begins at the first slice along each axis.
    begin = [min(0, floor(value + 1e-6)) for value in reach]
    lowest = array.min()
    shape = (count, array.shape[1] + margin[1], array.shape[2] + margin[0])
    upright = workspace.allocate(shape, array.dtype)
    for k in range(count):
        moved = _shifted(array[k], k * lean[1] - begin[1], shape[1], 0, lowest)
        moved = _shifted(moved, k * lean[0] - begin[0], shape[2], 1, lowest)
        upright[k] = np.rint(moved) if array.dtype.kind == "i" else moved
        workspace.at(f"slice {k + 1} of {count}")
    changed = affine.copy()
    changed[:3, 2] = normal * (step @ normal)
    changed[:3, 3] += affine[:3, 0] * begin[0] + affine[:3, 1] * begin[1]
    return upright, changed


def _shifted(plane: np.ndarray, shift: float, size: int, axis: int, outside: float) -> np.ndarray:
    """Return a plane shifted by `shift` pixels along an axis to length `size`, linearly."""
    source = np.arange(size) - shift
    # Undo rounding near a centre, so that a slice without a shift stays exact.
    source = np.where(np.abs(source - np.rint(source)) < 1e-6, np.rint(source), source)
    last = plane.shape[axis] - 1
    inside = (source >= 0) & (source <= last)
    lower = np.clip(np.floor(source), 0, last).astype(int)
    upper = np.minimum(lower + 1, last)
    weight = np.expand_dims(np.clip(source - lower, 0, 1), 1 - axis)
    moved = np.take(plane, lower, axis) * (1 - weight) + np.take(plane, upper, axis) * weight
    return np.where(np.expand_dims(inside, 1 - axis), moved, outside)
