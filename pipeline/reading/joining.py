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
        The values that its voxels may have in the end, such as those of the
        parts of a region; several if it may be a region or its part of the
        same value.
    """

    number: int
    value: int
    meanings: tuple[tuple[int, ...], ...]


# With the box of its voxels, and their mask in the box.
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
        Zeros, which are written to.
    mask_of : callable
        From the number of a segment to its voxels, bool.
    what : str
        A segment's name in messages.

    Raises
    ------
    CaseError
        If segments overlap in another way than their labels may.
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
        # A label to which --label-map gives several segments is their union.
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
    """Return the voxels that are in at least one of some segments."""
    union = np.zeros(shape, bool)
    for _, box, mask in several:
        union[box] |= mask
    return union
