"""`models calibrate MODEL CV`: learn from a cross-validation how the Dice of a model is predicted.

A model that all cases trained has no case left to learn from. The folds of a cross-validation with
the same recipe each segmented the cases that they were trained without.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxtile.errors import ModelError, counted
from voxtile.machine.files import write_text
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.quality import FEWEST
from voxtile.report.quality import Observation, learn_quality
from voxtile.training.differences import differences
from voxtile.training.folds.held_out import OBSERVED, read_observed
from voxtile.training.recipe.recipe import BUDGETS

from .calibration import Calibration, calibrated_alone, check_replaced

# These choices may differ: the length of the training run, the machine's precision, chance.
_FREE = tuple(f"recipe's {name}" for name in (*BUDGETS, "patience", "precision", "seed"))
# What makes two networks of the same kind.
_KIND = {
    "channels", "context_slices", "position", "intensity", "tile", "labels", "activation", "ignore",
}  # fmt: skip


def calibrate_by_folds(model: str, folder: Path) -> Calibration:
    """Write ``quality.json`` into the folder of a model, from all finished folds of `folder`.

    UsageError for several models at once. ModelError if there is no fold, if a fold was trained
    with another recipe, or if too few cases have a mask; then nothing is written.
    """
    bundle, path = calibrated_alone(model)
    check_replaced(path)
    folds = [load_bundle(one.parent) for one in sorted(folder.glob(f"fold*/{OBSERVED}"))]
    _check_folds(folds, bundle, folder)
    found = [read_observed(fold.folder) or () for fold in folds]
    observations: list[Observation] = [one for of_fold in found for one in of_fold]
    words = f"{counted(len(observations), 'case')} of {counted(len(folds), 'fold')}"
    source = f"{words} of a cross-validation with the same recipe, each segmented by the fold "
    quality = learn_quality(bundle, observations, f"{source}without it")
    if quality is None:
        raise ModelError(
            f"{folder} has {words}, but at least {FEWEST} independent cases with a mask of a label "
            "are needed; train the missing folds"
        )
    write_text(path, quality.dump())
    return Calibration(path, quality, ())


def _check_folds(folds: Sequence[Bundle], bundle: Bundle, folder: Path) -> None:
    """Refuse folds that say nothing about the model."""
    if not folds:
        raise ModelError(
            f"{folder} has no finished fold (fold0/{OBSERVED}); name a manifest, or the folder of "
            "voxtile train --folds"
        )
    wanted = _identity(bundle)
    for fold in folds:
        if found := differences(_identity(fold), wanted, ignored=_FREE):
            raise ModelError(
                f"{fold.folder} was not trained as {bundle.folder} was: {'; '.join(found)}; train "
                f"the model with --recipe {folder}/recipe.toml"
            )


def _identity(bundle: Bundle) -> dict[str, Any]:
    """Return what a model and the folds of its recipe share."""
    spec = bundle.spec.model_dump(mode="json", include=_KIND)
    return {"recipe": bundle.spec.training.get("recipe", {}), **spec}
