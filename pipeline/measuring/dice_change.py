"""How another engine or precision changes the Dice: the mean, a bound of it, and the worst case.

The bound is for other planes and other scans like these: cases are drawn with replacement,
and planes of each drawn case (bootstrap in two stages; Davison and Hinkley 1997, "Bootstrap
Methods and their Application", section 3.8). A case's planes resemble each other, so the planes
alone would promise too much. The second stage makes the bound about as much wider as four cases
need, which vary less than many do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from voxtile.models.spec import ModelSpec
from voxtile.preparation.planes import to_planes

from .samples import Sample

_SEED = 0
_DRAWS = 1000
# The mean change is below the bound with this confidence.
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class DiceChange:
    """The change of each label's Dice, as `Measurement` has it."""

    by_label: dict[str, float]
    bound: float | None  # of the mean over labels; None if no label occurs
    worst: float | None  # the largest of one label in one case, with its sign
    worst_label: str


def dice_change(
    spec: ModelSpec,
    samples: Sequence[Sample],
    found: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
) -> DiceChange:
    """Compare the masks of an engine with those of the reference engine, plane by plane."""
    names = [label.name for label in spec.labels]
    counts = list(_counts(spec, samples, found, reference))
    labelled = np.array([sample.label is not None for sample in samples])
    cases = [sample.case_id for sample in samples]
    changes = _changes([one.sum(axis=0) for one in counts], labelled)
    mean = _mean(changes)
    known = np.isfinite(mean)
    if not known.any():
        return DiceChange({}, None, None, "")
    by_case = np.stack(
        [_mean(changes[[case == one for one in cases]]) for case in dict.fromkeys(cases)]
    )
    place = np.unravel_index(np.nanargmax(np.abs(by_case)), by_case.shape)
    return DiceChange(
        {name: float(mean[label]) for label, name in enumerate(names) if known[label]},
        _bound(counts, labelled, cases),
        float(by_case[place]),
        names[place[1]],
    )


def _counts(
    spec: ModelSpec,
    samples: Sequence[Sample],
    found: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield of each sample twice the overlap and both sizes, (planes, engine, label, 2)."""
    for sample, *masks in zip(samples, found, reference, strict=True):
        truth = masks[1]
        if sample.label is not None:
            truth = to_planes(sample.label, sample.view)[list(sample.indices)]
        counts = np.zeros((len(truth), 2, len(spec.labels), 2))
        for place, label in enumerate(spec.labels):
            right = np.isin(truth, label.values)
            for engine, mask in enumerate(masks):
                inside = np.isin(mask, label.values)
                both = 2 * np.count_nonzero(inside & right, axis=(1, 2))
                sizes = np.count_nonzero(inside, axis=(1, 2)) + right.sum(axis=(1, 2))
                counts[:, engine, place] = np.stack([both, sizes], axis=-1)
        yield counts


def _changes(counts: Sequence[np.ndarray], labelled: np.ndarray) -> np.ndarray:
    """Return the Dice of the first engine minus that of the second; NaN without the label."""
    sums = np.stack(counts)
    with np.errstate(invalid="ignore"):
        dice = sums[..., 0] / sums[..., 1]
    # A mask is equal to itself, also where it lacks the label.
    dice[~labelled, ..., 1, :] = 1
    changes: np.ndarray = dice[..., 0, :] - dice[..., 1, :]
    return changes


def _bound(counts: Sequence[np.ndarray], labelled: np.ndarray, cases: Sequence[str]) -> float:
    """Return what the mean over labels of the absolute change is below, with some confidence."""
    rng = np.random.default_rng(_SEED)
    drawn = []
    for one in counts:
        planes = len(one)
        often = rng.multinomial(planes, np.full(planes, 1 / planes), _DRAWS)
        drawn.append(np.tensordot(often, one, axes=1))
    changes = _changes(drawn, labelled)  # (samples, draws, labels)
    named = list(dict.fromkeys(cases))
    often = rng.multinomial(len(named), np.full(len(named), 1 / len(named)), _DRAWS)
    weights = np.stack([often[:, named.index(case)] for case in cases])[..., np.newaxis]
    means = _mean(changes, weights)  # (draws, labels)
    return float(np.nanquantile(_mean(np.abs(means).T), _LEVEL))


def _mean(values: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the mean over the first axis, without NaN; NaN if nothing is left."""
    known = np.isfinite(values) * weights
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (np.nan_to_num(values) * weights).sum(axis=0) / known.sum(axis=0)
    return mean
