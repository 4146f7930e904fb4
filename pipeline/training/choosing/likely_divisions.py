"""Which labels of a set of references are divided by planes."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from voxtile.label_values import label_values, region_box
from voxtile.models.spec import Axis, Division, Label

_AXES: tuple[Axis, ...] = ("R", "A", "S")
# Hands slip: of the planes that have one of two labels, so many may have both.
_SHARED = 0.02


def likely_divisions(
    references: Sequence[np.ndarray], labels: Sequence[Label]
) -> Iterator[Division]:
    """Yield two labels and an axis wherever the references look divided by planes.

    They touch along the axis, and at most one in fifty of the planes with
    either label has both.

    Parameters
    ----------
    references : sequence of ndarray of int, shape (R, A, S)
        Whole label maps in canonical order: a part of one may leave out the
        planes that have both.
    labels : sequence of Label
        Those with regions overlap by intention and are left out.

    Examples
    --------
    >>> reference = np.array([1, 1, 2, 0], np.uint8).reshape(1, 4, 1).repeat(2, axis=0)
    >>> labels = [Label(value=value, name=str(value), color="#000000") for value in (1, 2)]
    >>> [(division.axis, division.labels) for division in likely_divisions([reference], labels)]
    [('A', (1, 2))]
    """
    values = [label.value for label in labels if label.values == (label.value,)]
    if len(values) < 2:
        return
    place = {value: index for index, value in enumerate(values)}
    # Planes without these labels say nothing of them.
    boxes = [(reference, region_box(reference, values)) for reference in references]
    labelled = [reference[box] for reference, box in boxes if box is not None]
    for number, axis in enumerate(_AXES):
        planes = np.zeros(len(values), np.int64)
        shared = np.zeros((len(values), len(values)), np.int64)
        touching: set[tuple[int, int]] = set()
        for reference in labelled:
            along = np.moveaxis(reference, number, 0)
            has = np.zeros((len(along), len(values)), np.int64)
            for index, plane in enumerate(along):
                has[index, [place[value] for value in label_values(plane) if value in place]] = 1
            planes += has.sum(axis=0)
            shared += has.T @ has
            touching |= _touching(along)
        for one, other in combinations(range(len(values)), 2):
            either = planes[one] + planes[other] - shared[one, other]
            if (values[one], values[other]) in touching and shared[one, other] <= _SHARED * either:
                yield Division(axis=axis, labels=(values[one], values[other]))


def _touching(along: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs of values that lie side by side along the first axis, both ways round."""
    before, after = along[:-1], along[1:]
    meets = (before != after) & (before > 0) & (after > 0)
    pairs = set(zip(before[meets].tolist(), after[meets].tolist(), strict=True))
    return pairs | {(other, one) for one, other in pairs}
