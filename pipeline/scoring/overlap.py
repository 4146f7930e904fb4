"""Count the voxels that two masks share, and derive the overlap metrics from the counts.

Dice        = 2 tp / (2 tp + fp + fn)      (Dice 1945)
IoU         =   tp / (tp + fp + fn)        (Jaccard 1912)
precision   =   tp / (tp + fp)
sensitivity =   tp / (tp + fn)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from voxtile.label_values import label_values
from voxtile.models.spec import Label
from voxtile.volume import Volume, grid_difference

Status = Literal["ok", "both_empty", "pred_empty", "ref_empty"]

# Number of voxels that are counted at once: so few stay in the processor's cache.
_SLAB = 2**16


@dataclass(frozen=True, slots=True)
class Overlap:
    """Numbers of a label's voxels in both masks (tp), only prediction (fp), only reference (fn)."""

    tp: int
    fp: int
    fn: int

    @property
    def voxels_pred(self) -> int:
        """Number of voxels of the prediction."""
        return self.tp + self.fp

    @property
    def voxels_ref(self) -> int:
        """Number of voxels of the reference."""
        return self.tp + self.fn

    @property
    def dice(self) -> float:
        """Dice coefficient; 0 if one mask is empty, NaN if both are."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")

    @property
    def iou(self) -> float:
        """Intersection over union; 0 if one mask is empty, NaN if both are."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else float("nan")

    @property
    def precision(self) -> float:
        """Fraction of the prediction that is in the reference; NaN if the prediction is empty."""
        return self.tp / self.voxels_pred if self.voxels_pred else float("nan")

    @property
    def sensitivity(self) -> float:
        """Fraction of the reference that is in the prediction; NaN if the reference is empty."""
        return self.tp / self.voxels_ref if self.voxels_ref else float("nan")

    @property
    def status(self) -> Status:
        """Which of the masks are empty."""
        if self.voxels_pred and self.voxels_ref:
            return "ok"
        if self.voxels_pred:
            return "ref_empty"
        return "pred_empty" if self.voxels_ref else "both_empty"


def check_one_grid(prediction: Volume, reference: Volume) -> None:
    """Refuse masks on grids of different shapes or positions with a ValueError."""
    if (
        prediction.shape != reference.shape
        or not grid_difference(reference.shape, prediction.affine, reference.affine).tolerable
    ):
        raise ValueError(
            f"the prediction (shape {prediction.shape}, orientation {prediction.orientation}) and "
            f"the reference (shape {reference.shape}, orientation {reference.orientation}) must be "
            "on one grid; resample one of them to the grid of the other first"
        )


def labels_of(prediction: Volume, reference: Volume) -> tuple[Label, ...]:
    """Return a label for every value in either mask."""
    values = {*label_values(prediction.array), *label_values(reference.array)} - {0}
    return plain_labels({value: f"label {value}" for value in sorted(values)})


def plain_labels(names: dict[int, str]) -> tuple[Label, ...]:
    """Return labels for values that have no spec, with colours from a fixed cycle."""
    return tuple(
        Label(value=value, name=name, color=_COLORS[index % len(_COLORS)])
        for index, (value, name) in enumerate(names.items())
    )


def count_overlaps(
    prediction: np.ndarray, reference: np.ndarray, regions: Sequence[Sequence[int]]
) -> tuple[Overlap, ...]:
    """Count the voxels of several regions in one pass over both masks.

    Parameters
    ----------
    prediction, reference : ndarray of integers, equal shapes
        Label maps with values of at least 0.
    regions : sequence of sequences of int
        The label values of each region; a voxel with any of them belongs to it.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes {prediction.shape} and {reference.shape} differ")
    values = sorted({value for region in regions for value in region})
    joint = _joint_histogram(prediction, reference, values)
    overlaps = []
    for region in regions:
        members = [values.index(value) + 1 for value in dict.fromkeys(region)]
        tp = int(joint[np.ix_(members, members)].sum())
        pred, ref = int(joint[members].sum()), int(joint[:, members].sum())
        overlaps.append(Overlap(tp, pred - tp, ref - tp))
    return tuple(overlaps)


def _joint_histogram(
    prediction: np.ndarray, reference: np.ndarray, values: Sequence[int]
) -> np.ndarray:
    """Return how often each pair of values occurs; index 0 stands for all other values."""
    count = len(values) + 1
    largest = int(max(prediction.max(), reference.max(), *values, 0))
    # The smallest integer type that can number all pairs, so that less memory is moved.
    index = np.zeros(largest + 1, np.min_scalar_type(count * count - 1))
    index[list(values)] = np.arange(1, count)
    row = index * index.dtype.type(count)
    # Both masks get the memory order of the first, so that its slabs are cheap views.
    axes = np.argsort(prediction.strides)[::-1]
    one = prediction.transpose(axes).reshape(-1)
    other = reference.transpose(axes).reshape(-1)
    joint = np.zeros(count * count, np.int64)
    for start in range(0, one.size, _SLAB):
        slab = slice(start, start + _SLAB)
        pairs = row.take(one[slab])
        pairs += index.take(other[slab])
        joint += np.bincount(pairs, minlength=count * count)
    return joint.reshape(count, count)


# Colours for labels without a colour, visible on black and on white.
_COLORS = (
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#42d4f4",
    "#f032e6",
    "#bfef45",
    "#469990",
    "#9a6324",
    "#ffe119",
    "#800000",
)
