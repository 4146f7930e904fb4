"""Draw segments that may overlap into one label map, or refuse what a label map cannot hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from voxtile.errors import CaseError, counted
from voxtile.label_values import Box, region_box
from voxtile.models.spec import Label


@dataclass(frozen=True, slots=True)
class Meant:
    """A segment with its value in the label map.

    Parameters
    ----------
    meanings : tuple of tuple of int
        Values that its voxels may have in the finished label map, such as the
        values of a region's parts; one tuple for each label that it may be, if
        a region and one of its parts have the same value.
    """

    number: int
    value: int
    meanings: tuple[tuple[int, ...], ...]


# A segment, the box around its voxels, and their mask in this box.
_Drawn = tuple[Meant, Box, np.ndarray]


def by_number(number: int, value: int, labels: Sequence[Label]) -> Meant:
    """Return a segment that is known by its number only.

    A region and one of its parts may have the same value.
    """
    own = [label.values for label in labels if label.value == value]
    return Meant(number, value, tuple(dict.fromkeys([(value,), *own])))


def join(
    array: np.ndarray,
    meant: Sequence[Meant],
    labels: Sequence[Label],
    mask_of: Callable[[int], np.ndarray],
    what: str,
) -> list[Meant]:
    """Write the values of segments into a label map, and return the segments without a voxel.

    Parameters
    ----------
    array : ndarray of int, shape (i, j, k)
        Must be 0 everywhere; the values are written into it.
    mask_of : callable
        Returns the voxels of a segment, bool, from its number.
    what : str
        What messages call a segment, such as "segment" or "ROI".

    Raises
    ------
    CaseError
        If segments overlap although their labels may not.
    """
    # In the order of the spec, so that a region's parts are written over it.
    order = {label.value: index for index, label in enumerate(labels)}
    drawn: list[_Drawn] = []
    empty = []
    for one in sorted(meant, key=lambda one: order.get(one.value, -1)):
        mask = mask_of(one.number)
        box = region_box(mask.view(np.uint8), (1,))
        if box is None:
            empty.append(one)
        else:
            array[box][mask[box]] = one.value
            drawn.append((one, box, mask[box].copy()))
    _require_whole(array, drawn, what)
    return empty


def _require_whole(array: np.ndarray, kept: Sequence[_Drawn], what: str) -> None:
    """Refuse segments whose overlap a label map cannot hold."""
    values, numbers = np.unique(array, return_counts=True)
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    for one, box, mask in kept:
        # If --label-map gives one label several segments, the label is their union.
        alike = [other for other in kept if other[0].value == one.value]
        drawn = np.count_nonzero(mask if len(alike) == 1 else _union(array.shape, alike))
        wrong = []
        for meant in one.meanings:
            lost = int(np.count_nonzero(mask & ~np.isin(array[box], meant)))
            gained = sum(counts.get(value, 0) for value in meant) - int(drawn)
            wrong.append(max(lost, gained))
        if min(wrong) > 0:
            raise CaseError(
                "label_overlap",
                f"{what} {one.number} overlaps others in {counted(min(wrong), 'voxel')}, "
                "but a voxel of a label map has one value; use labels that are regions",
                f"leave one out with --label-map {one.number}:0",
            )


def _union(shape: tuple[int, ...], several: Sequence[_Drawn]) -> np.ndarray:
    """Return the voxels that are in at least one of the segments."""
    union = np.zeros(shape, bool)
    for _, box, mask in several:
        union[box] |= mask
    return union
