"""Choices that need whole masks: divisions of labels, and post-processing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from voxtile.inference.postprocess import clean
from voxtile.label_values import label_values, region_box
from voxtile.models.spec import Axis, Cleaning, Division, Label, ModelSpec
from voxtile.scoring.components import find_components
from voxtile.volume import Volume

from .candidates import FEWEST, MARGIN, best_of, dice_of, mean_dice

# Minimum volumes to try, as fractions of the median volume of a part of the reference.
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_AXES: tuple[Axis, ...] = ("R", "A", "S")
# References have errors: this fraction of the planes with one of two labels may have both labels.
_SHARED = 0.02
# Without masks to compare, the labels must touch in this fraction of the references.
_USUAL = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class DecidedMask:
    """The mask of a case, cropped to its labels, with its reference."""

    mask: Volume  # canonical order; read-only, and mapped from disk
    reference: np.ndarray  # ndarray of int, shape of the mask, same crop
    # ndarray of int, shape (labels,): voxels of each label in the whole reference.
    totals: np.ndarray


def choose_divisions(
    masks: Sequence[DecidedMask], references: Sequence[np.ndarray], spec: ModelSpec
) -> tuple[Division, ...]:
    """Choose the divisions of labels that the references show and that do not lower the Dice.

    The references are whole and in canonical order, because the cropped references
    of the masks may lack the planes that contradict a division. With fewer than
    five masks nothing is chosen.
    """
    chosen: tuple[Division, ...] = ()
    if len(masks) < FEWEST:
        return chosen
    best = mean_dice(cleaned_dice(masks, spec))
    for division in likely_divisions(references, spec.labels):
        divided = spec.model_copy(update={"divisions": (*chosen, division)})
        dice = mean_dice(cleaned_dice(masks, divided))
        if dice >= best - MARGIN:
            chosen, best = divided.divisions, max(best, dice)
    return chosen


def usual_divisions(
    references: Sequence[np.ndarray], labels: Sequence[Label]
) -> tuple[Division, ...]:
    """Return the divisions that the references alone show, without masks to compare.

    As in `likely_divisions`, but the labels touch in at least half of the references.
    With fewer than five references nothing is chosen.
    """
    if len(references) < FEWEST:
        return ()
    return tuple(likely_divisions(references, labels, touching=_USUAL * len(references)))


def likely_divisions(
    references: Iterable[np.ndarray], labels: Sequence[Label], touching: float = 1
) -> Iterator[Division]:
    """Yield each pair of labels that planes along an axis divide in the references.

    The labels touch along the axis in at least `touching` references, and at most one
    in fifty of the planes with either label has both. Labels with regions overlap on
    purpose and are left out.

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
    index_of = {value: index for index, value in enumerate(values)}
    # Only planes with one of these labels count.
    boxes = [(reference, region_box(reference, values)) for reference in references]
    labelled = [reference[box] for reference, box in boxes if box is not None]
    for number, axis in enumerate(_AXES):
        planes = np.zeros(len(values), np.int64)
        shared = np.zeros((len(values), len(values)), np.int64)
        touched: Counter[tuple[int, int]] = Counter()
        for reference in labelled:
            along = np.moveaxis(reference, number, 0)
            has = np.zeros((len(along), len(values)), np.int64)
            for row, plane in zip(has, along, strict=True):
                row[[index_of[value] for value in label_values(plane) if value in index_of]] = 1
            planes += has.sum(axis=0)
            shared += has.T @ has
            touched.update(_touching(along))
        for one, other in combinations(range(len(values)), 2):
            either = planes[one] + planes[other] - shared[one, other]
            often = touched[values[one], values[other]] >= touching
            if often and shared[one, other] <= _SHARED * either:
                yield Division(axis=axis, labels=(values[one], values[other]))


def _touching(along: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs of values that touch along the first axis, in both orders."""
    before, after = along[:-1], along[1:]
    meets = (before != after) & (before > 0) & (after > 0)
    pairs = set(zip(before[meets].tolist(), after[meets].tolist(), strict=True))
    return pairs | {(other, one) for one, other in pairs}


def choose_cleaning(masks: Sequence[DecidedMask], spec: ModelSpec) -> tuple[Cleaning, ...]:
    """Choose post-processing that raises the Dice, one label after another."""
    chosen: tuple[Cleaning, ...] = ()
    for label in spec.labels:
        nothing = Cleaning(label=label.value)
        step = _best_step(masks, spec, chosen, list(_part_candidates(masks, label)))
        filled = (step or nothing).model_copy(update={"fill_holes": True})
        step = _best_step(masks, spec, chosen, [filled], before=step) or step
        if step is not None:
            chosen = (*chosen, step)
    return chosen


def _best_step(
    masks: Sequence[DecidedMask],
    spec: ModelSpec,
    chosen: tuple[Cleaning, ...],
    candidates: Sequence[Cleaning],
    before: Cleaning | None = None,
) -> Cleaning | None:
    """Return the best candidate, or `before` if no candidate is better."""
    steps = [before, *candidates]
    tried = []
    for step in steps:
        done = chosen if step is None else (*chosen, step)
        tried.append(cleaned_dice(masks, spec.model_copy(update={"postprocess": done})))
    return steps[best_of(np.stack(tried), 0.0)]


def _part_candidates(masks: Sequence[DecidedMask], label: Label) -> Iterator[Cleaning]:
    """Yield ways to clean the connected parts of a label, the simplest first."""
    yield Cleaning(label=label.value, largest=1)
    yield Cleaning(label=label.value, largest=2)
    voxels_mm3 = [1000 * mask.mask.voxel_volume_ml for mask in masks]
    parts = [find_components(np.isin(mask.reference, label.values)).voxels for mask in masks]
    volumes = np.concatenate([n * mm3 for n, mm3 in zip(parts, voxels_mm3, strict=True)])
    if not volumes.size:
        return
    for share in _SHARES:
        least = float(f"{share * np.median(volumes):.3g}")
        if least > min(voxels_mm3):
            yield Cleaning(label=label.value, smallest_mm3=least)


def cleaned_dice(masks: Sequence[DecidedMask], spec: ModelSpec) -> np.ndarray:
    """Return the Dice of the masks after a spec's post-processing, shape (cases, labels)."""
    counts = np.zeros((len(masks), len(spec.labels), 2), np.int64)
    for rows, one in zip(counts, masks, strict=True):
        cleaned = clean(one.mask, spec).array
        if spec.ignore is not None:
            cleaned = np.where(one.reference == spec.ignore, 0, cleaned)
        for row, label in zip(rows, spec.labels, strict=True):
            part = np.isin(cleaned, label.values)
            row[:] = np.count_nonzero(part & np.isin(one.reference, label.values)), part.sum()
    return dice_of(counts, np.array([one.totals for one in masks]))
