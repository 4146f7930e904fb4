"""Slice a volume into 2D planes along a view, and put planes back together.

A plane is one slice of a closest-canonical (RAS) array:

    view       slices along   rows   columns
    axial      S              R      A
    coronal    A              R      S
    sagittal   R              A      S
"""

from collections.abc import Iterable, Sequence

import numpy as np

from voxtile.models.spec import View

_AXIS: dict[View, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


def slice_axis(view: View) -> int:
    """Return the axis of a canonical array along which the planes of `view` lie."""
    return _AXIS[view]


def in_plane(view: View, values: Sequence[float]) -> tuple[float, float]:
    """Return the two of three per-axis (R, A, S) values that belong to (rows, columns)."""
    rows, columns = (value for axis, value in enumerate(values) if axis != _AXIS[view])
    return rows, columns


def in_plane_axes(view: View) -> tuple[str, str]:
    """Return the names of the axes of (rows, columns).

    Examples
    --------
    >>> in_plane_axes("coronal")
    ('R', 'S')
    """
    rows, columns = (name for axis, name in enumerate("RAS") if axis != _AXIS[view])
    return rows, columns


def to_planes(array: np.ndarray, view: View) -> np.ndarray:
    """Return a view of a canonical array, shape (planes, rows, columns, ...)."""
    return np.moveaxis(array, _AXIS[view], 0)


def from_planes(planes: Iterable[np.ndarray], view: View, out: np.ndarray) -> None:
    """Write all planes of the canonical array `out`, in order."""
    for target, plane in zip(to_planes(out, view), planes, strict=True):
        target[...] = plane


def neighbours(index: int, count: int, context_slices: int) -> list[int]:
    """Return the planes that a network sees as channels to judge plane `index` of `count`.

    There are `context_slices` planes, an odd number, with `index` in the middle.
    Beyond the first and the last plane, that plane is repeated.

    Examples
    --------
    >>> neighbours(0, 10, 5)
    [0, 0, 0, 1, 2]
    """
    half = context_slices // 2
    return [min(max(index + offset, 0), count - 1) for offset in range(-half, half + 1)]


def with_context(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the planes of `neighbours` as the channels of one plane.

    Each plane has the shape (rows, columns, channels), the result (rows, columns,
    channels * len(planes)): for each channel its planes, in order.
    """
    if len(planes) == 1:
        return planes[0]
    stacked = np.stack(planes, axis=-1)
    return stacked.reshape(*stacked.shape[:2], -1)
