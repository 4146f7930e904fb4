"""What validation cases choose: weights of the views, thresholds, post-processing.

The choices are made one after the other, each from a short list of candidates:

    weights of the views     the present weights, and all tenths that add up to 1
    thresholds (sigmoid)     0.1 to 0.9 in steps of 0.05, label by label
    divisions                pairs of labels that hardly ever share a plane in the references
    post-processing          label by label: the largest part, the two largest, parts of at
                             least 1 to 50 % of the median part; then holes

A candidate is chosen only if it raises the mean Dice by more than a margin and more cases
improve than get worse: on a few cases the best of many candidates is a little better by
chance. A division that the references show is chosen unless it lowers the mean Dice by
more than that margin. With fewer than five cases nothing is chosen.

Only Dice decides. A label that is in neither mask has a Dice of 1 here, so that
all candidates are compared on the same cases.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from voxtile.inference.decision import decide
from voxtile.models.spec import Cleaning, Division, Label, ModelSpec
from voxtile.volume import Volume

from .candidates import MARGIN, best_of, dice_of
from .evidence import Evidence
from .mask_choices import DecidedMask, choose_cleaning, choose_divisions, cleaned_dice

THRESHOLDS = tuple(round(0.1 + 0.05 * step, 2) for step in range(17))
# The weights of views are multiples of 1 / _STEPS.
_STEPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What the validation cases chose, and the Dice on them."""

    weights: tuple[float, ...]  # of the views, in the order of ``spec.views``; they add up to 1
    thresholds: tuple[float, ...]  # as in a spec
    divisions: tuple[Division, ...]
    postprocess: tuple[Cleaning, ...]
    # ndarray of float64, shape (views, cases, labels): Dice of each view alone; NaN if neither mask
    # has the label.
    view_dice: np.ndarray
    # ndarray of float64, shape (cases, labels): Dice of all views before and after the choices.
    before: np.ndarray
    dice: np.ndarray


def select(evidence: Sequence[Evidence], spec: ModelSpec) -> Selection:
    """Choose weights, thresholds and post-processing from the probabilities of the views.

    `spec` is the present state; its divisions and post-processing are dropped.
    """
    spec = spec.model_copy(update={"divisions": (), "postprocess": ()})
    totals = np.array([_totals(case.reference.array, spec.labels) for case in evidence])
    shares = view_shares(spec)
    candidates = np.concatenate([[shares], weight_grid(len(shares))])
    counted = [weigh_views(case, spec, candidates) for case in evidence]
    tried = dice_of(np.stack(counted, axis=1), totals)
    weights = candidates[best_of(tried, MARGIN)]
    # The candidate that gives one view all the weight.
    alone = [int(np.flatnonzero(candidates[:, view] == 1)[-1]) for view in range(len(shares))]
    if spec.activation == "sigmoid":
        spec = _with_thresholds(evidence, spec, weights, totals)
    masks = [decided_mask(case, spec, weights) for case in evidence]
    divisions = choose_divisions(masks, [case.reference.array for case in evidence], spec)
    spec = spec.model_copy(update={"divisions": divisions})
    postprocess = choose_cleaning(masks, spec)
    final = spec.model_copy(update={"postprocess": postprocess})
    return Selection(
        weights=tuple(weights.tolist()),
        thresholds=spec.thresholds,
        divisions=spec.divisions,
        postprocess=postprocess,
        view_dice=tried[alone],
        before=tried[0],
        dice=cleaned_dice(masks, final),
    )


def view_shares(spec: ModelSpec) -> np.ndarray:
    """Return the weight of each view of a spec, shape (views,); they add up to 1."""
    weights = np.array(
        [
            sum(network.weight for network in spec.networks if view in network.views)
            for view in spec.views
        ]
    )
    return np.asarray(weights / weights.sum())


def weight_grid(views: int) -> np.ndarray:
    """Return all weights of views in tenths that add up to 1, shape (candidates, views).

    Examples
    --------
    >>> weight_grid(2)[:3].tolist(), len(weight_grid(3))
    ([[0.0, 1.0], [0.1, 0.9], [0.2, 0.8]], 66)
    """
    # Stars and bars: the positions of the bars between ten stars give the tenths of each view.
    rows = [
        np.diff([-1, *bars, _STEPS + views - 1]) - 1
        for bars in combinations(range(_STEPS + views - 1), views - 1)
    ]
    return np.array(rows) / _STEPS


def weigh_views(case: Evidence, spec: ModelSpec, candidates: np.ndarray) -> np.ndarray:
    """Count voxels as `_count` does with each weighting, shape (candidates, labels, 2)."""
    counts = np.zeros((len(candidates), len(spec.labels), 2), np.int64)
    for said, truth in _slabs(case, spec):
        alone = np.stack([_values(said[:, view], spec) for view in range(said.shape[1])], axis=1)
        # Where all views agree, every mean of the views agrees too.
        agreed = (alone == alone[:, :1]).all(axis=1)
        counts += _count(alone[agreed, 0], truth[:, agreed], spec.labels)
        disputed = said[~agreed]
        for index, weights in enumerate(candidates):
            values = _values(_blend(disputed, weights), spec)
            counts[index] += _count(values, truth[:, ~agreed], spec.labels)
    return counts


def try_thresholds(
    case: Evidence, spec: ModelSpec, weights: np.ndarray, candidates: Sequence[tuple[float, ...]]
) -> np.ndarray:
    """Count voxels of a case with each set of thresholds, shape (candidates, labels, 2)."""
    counts = np.zeros((len(candidates), len(spec.labels), 2), np.int64)
    specs = [spec.model_copy(update={"thresholds": thresholds}) for thresholds in candidates]
    for said, truth in _slabs(case, spec):
        blended = _blend(said, weights)
        for index, tried in enumerate(specs):
            counts[index] += _count(_values(blended, tried), truth, spec.labels)
    return counts


def decided_mask(case: Evidence, spec: ModelSpec, weights: np.ndarray) -> DecidedMask:
    """Return the mask for some weights and the spec's thresholds, stored beside the evidence."""
    reference = case.reference
    where, found = [np.zeros(0, np.int64)], [_values(np.zeros((0, spec.output_channels)), spec)]
    for some, said in case.slabs():
        decided = _values(_blend(said, weights), spec)
        where.append(some[decided > 0])
        found.append(decided[decided > 0])
    values = np.concatenate(found)
    places = np.unravel_index(np.concatenate(where), reference.shape)
    box = tuple(
        slice(int(axis.min()), int(axis.max()) + 1) if axis.size else slice(0, 1) for axis in places
    )
    crop = np.zeros([part.stop - part.start for part in box], values.dtype)
    crop[tuple(axis - part.start for axis, part in zip(places, box, strict=True))] = values
    paths = (case.where.with_name(f"{case.where.stem}_{what}.npy") for what in ("mask", "truth"))
    arrays = []
    for path, array in zip(paths, (crop, reference.array[box]), strict=True):
        np.save(path, np.ascontiguousarray(array))
        arrays.append(np.load(path, mmap_mode="r"))
    return DecidedMask(
        Volume(arrays[0], reference.affine), arrays[1], _totals(reference.array, spec.labels)
    )


def _with_thresholds(
    evidence: Sequence[Evidence], spec: ModelSpec, weights: np.ndarray, totals: np.ndarray
) -> ModelSpec:
    """Return the spec with the best thresholds, chosen one label after another."""
    now = spec.thresholds or (0.5,) * len(spec.labels)
    before = now
    for index in range(len(spec.labels)):
        others = [(*now[:index], value, *now[index + 1 :]) for value in THRESHOLDS]
        candidates = [now, *others]
        counts = [try_thresholds(case, spec, weights, candidates) for case in evidence]
        now = candidates[best_of(dice_of(np.stack(counts, axis=1), totals), MARGIN)]
    return spec if now == before else spec.model_copy(update={"thresholds": now})


def _slabs(case: Evidence, spec: ModelSpec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield probabilities of some voxels, and whether they have each label, shape (labels, n)."""
    reference = case.reference.array
    for where, said in case.slabs():
        values = reference[np.unravel_index(where, reference.shape)]
        if spec.ignore is not None:
            said, values = said[values != spec.ignore], values[values != spec.ignore]
        yield said, np.stack([np.isin(values, label.values) for label in spec.labels])


def _blend(said: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the views, shape (n, channels)."""
    return np.asarray(np.einsum("nvc,v->nc", said, weights.astype(np.float32)))


def _values(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Return the label values for probabilities of shape (n, channels)."""
    return decide(probabilities[:, np.newaxis], spec)[:, 0]


def _count(values: np.ndarray, truth: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """Count voxels of each label in both masks, and in the prediction, shape (labels, 2)."""
    predicted = np.stack([np.isin(values, label.values) for label in labels])
    return np.stack([(predicted & truth).sum(axis=1), predicted.sum(axis=1)], axis=1)


def _totals(reference: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """Return the number of voxels of each label in a reference."""
    return np.array([np.count_nonzero(np.isin(reference, label.values)) for label in labels])
