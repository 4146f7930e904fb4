"""Validation during a training run: whole volumes, segmented as in a batch run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxtile.inference.infer import Member
from voxtile.inference.segmenter import Segmenter
from voxtile.models.spec import Label, ModelSpec
from voxtile.preparation.plan import PlanWish, make_plan
from voxtile.report.bootstrap import mean_intervals
from voxtile.scoring.overlap import count_overlaps
from voxtile.training.data.stored_cases import StoredCase

if TYPE_CHECKING:
    from .learner import Learner  # imports Keras, which a dry run does not need

# A small batch, because the last batch of a volume is padded; the size does not change results.
_VALIDATION_BATCH = 8
# Least voxels for each grid of the validation cases.
_WORTH_COMPILING = 4e6


@dataclass(frozen=True, slots=True)
class Scores:
    """Dice of each validation case and label."""

    # For each case id, one value per label in the order of the spec; NaN where
    # neither the prediction nor the reference has the label.
    dice: tuple[tuple[str, tuple[float, ...]], ...]
    references: tuple[int, ...] = ()  # number of references with each label; empty if unknown

    @property
    def columns(self) -> list[np.ndarray]:
        """For each label the Dice of every case in which it is defined."""
        table = np.array([row for _, row in self.dice], np.float64)
        return [column[~np.isnan(column)] for column in table.T]

    @property
    def mean(self) -> float:
        """The mean over the labels of each label's mean over cases; 0 if no value is defined."""
        return _mean_of(self.columns)

    @property
    def choice(self) -> float:
        """The mean over the labels that some reference has, by which checkpoints are chosen.

        The Dice of any other label is 0 or undefined.
        """
        known = self.references or (1,) * len(self.columns)
        return _mean_of(
            [column for column, count in zip(self.columns, known, strict=True) if count]
        )


def _mean_of(columns: Sequence[np.ndarray]) -> float:
    """Return the mean of the means of the columns with values; 0 without values."""
    means = [column.mean() for column in columns if column.size]
    return float(np.mean(means)) if means else 0.0


def validator(
    spec: ModelSpec, learner: "Learner", cases: Sequence[StoredCase], *, on_device: bool
) -> Segmenter:
    """Return what segments with the weights that a learner has at rest, for a spec of one network.

    With `on_device` everything between planes and label values is done on the learner's device,
    if the cases are large: for each grid, stages are compiled for a second or two.
    """
    member = Member(spec, (learner.predict,), make_plan(spec, PlanWish(batch=_VALIDATION_BATCH)))
    shapes = [case.volume.shape for case in cases]
    voxels = sum(int(np.prod(shape[:3])) for shape in shapes)
    if not on_device or voxels < _WORTH_COMPILING * len(set(shapes)):
        return Segmenter((member,))
    from voxtile.inference.on_device import DeviceLine

    own = replace(member, plan=make_plan(spec, PlanWish()))
    line = DeviceLine([own], [[learner.model]], learner.device, changing=True)
    return Segmenter((member,), line=line)


def judge(
    cases: Sequence[StoredCase],
    spec: ModelSpec,
    segmenter: Segmenter,
) -> Scores:
    """Segment whole volumes exactly as a run does, and score them."""
    rows = []
    references = np.zeros(len(spec.labels), int)
    for case in cases:
        mask = segmenter(case.volume)
        overlaps = count_overlaps(
            mask.array, case.reference.array, [label.values for label in spec.labels]
        )
        rows.append((case.case_id, tuple(overlap.dice for overlap in overlaps)))
        references += [overlap.voxels_ref > 0 for overlap in overlaps]
    return Scores(tuple(rows), tuple(references.tolist()))


def _summarise(label: Label, dice: np.ndarray) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1) and minimum of one label's Dice."""
    return {
        "value": label.value,
        "name": label.name,
        "mean": round(float(dice.mean()), 4) if dice.size else None,
        "sd": round(float(dice.std(ddof=1)), 4) if dice.size > 1 else None,
        "min": round(float(dice.min()), 4) if dice.size else None,
        "n": int(dice.size),
    }


def score_facts(
    scores: Scores, labels: Sequence[Label], groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return scores for the spec and the card: overall mean, each label, each case.

    If the group of each case is given, such as its patient, each label also gets
    the 95 % interval of its mean.
    """
    rows = [_summarise(label, column) for label, column in zip(labels, scores.columns, strict=True)]
    if groups is not None:
        intervals = mean_intervals(np.array([row for _, row in scores.dice], np.float64), groups)
        for row, interval in zip(rows, intervals.tolist(), strict=True):
            row["ci"] = None if np.isnan(interval).any() else [round(end, 4) for end in interval]
    return {
        "mean": round(scores.mean, 4),
        "labels": rows,
        "cases": {
            case_id: [None if np.isnan(value) else round(value, 4) for value in row]
            for case_id, row in scores.dice
        },
    }
