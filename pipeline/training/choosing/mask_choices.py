"""What validation cases choose of whole masks: divisions of labels, and post-processing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from voxtile.inference.postprocess import clean
from voxtile.models.spec import Cleaning, Division, Label, ModelSpec
from voxtile.scoring.components import find_components
from voxtile.volume import Volume

from .candidates import FEWEST, MARGIN, best_of, dice_of, mean_dice
from .likely_divisions import likely_divisions

# Least volumes that are tried, as shares of the median volume of a part of the reference.
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class DecidedMask:
    """The mask of a case, cropped to what was decided, with its reference.

    Parameters
    ----------
    mask : Volume
        Canonical order; read-only, and mapped from disk.
    reference : ndarray of int, shape of the mask
    totals : ndarray of int, shape (labels,)
        Voxels of each label in the whole reference.
    """

    mask: Volume
    reference: np.ndarray
    totals: np.ndarray


def choose_divisions(
    masks: Sequence[DecidedMask], references: Sequence[np.ndarray], spec: ModelSpec
) -> tuple[Division, ...]:
    """Choose the labels that planes divide, and leave out what costs Dice.

    It is the references that show a division; the Dice of a few masks need
    not show it again, but may speak against it.

    Parameters
    ----------
    masks : sequence of DecidedMask
        Fewer than five choose nothing.
    references : sequence of ndarray of int, shape (R, A, S)
        The same cases' whole references in canonical order: those of the masks
        are cropped to what was predicted, and may lack the planes that speak
        against a division.
    spec : ModelSpec
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


def choose_cleaning(masks: Sequence[DecidedMask], spec: ModelSpec) -> tuple[Cleaning, ...]:
    """Choose the post-processing of each label in turn, and keep what raises the Dice."""
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
    """Return the candidate that is better than `before`, if one is."""
    steps = [before, *candidates]
    tried = np.stack(
        [
            cleaned_dice(
                masks,
                spec.model_copy(
                    update={"postprocess": chosen if step is None else (*chosen, step)}
                ),
            )
            for step in steps
        ]
    )
    return steps[best_of(tried, 0.0)]


def _part_candidates(masks: Sequence[DecidedMask], label: Label) -> Iterator[Cleaning]:
    """Yield what may be done to the parts of a label, the plainest first."""
    yield Cleaning(label=label.value, largest=1)
    yield Cleaning(label=label.value, largest=2)
    volumes = np.concatenate(
        [
            find_components(np.isin(mask.reference, label.values)).voxels
            * (1000 * mask.mask.voxel_volume_ml)
            for mask in masks
        ]
    )
    if not volumes.size:
        return
    voxel = min(1000 * mask.mask.voxel_volume_ml for mask in masks)
    for share in _SHARES:
        least = float(f"{share * np.median(volumes):.3g}")
        if least > voxel:
            yield Cleaning(label=label.value, smallest_mm3=least)


def cleaned_dice(masks: Sequence[DecidedMask], spec: ModelSpec) -> np.ndarray:
    """Return the Dice of the masks after a spec's post-processing, shape (cases, labels)."""
    counts = []
    for one in masks:
        ours = clean(one.mask, spec).array
        counts.append(
            [
                [np.count_nonzero(part & np.isin(one.reference, label.values)), part.sum()]
                for label in spec.labels
                for part in [np.isin(ours, label.values)]
            ]
        )
    return dice_of(np.array(counts), np.array([one.totals for one in masks]))
