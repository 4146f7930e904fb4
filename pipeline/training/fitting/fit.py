"""Batches -> fitted weights: learning rate, validation, the best so far, checkpoints, the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from time import monotonic
from typing import Protocol

import numpy as np

from voxtile.errors import UsageError
from voxtile.models.spec import Label
from voxtile.training.recipe.recipe import Recipe, settled

from .ahead import ahead
from .checkpoint import (
    Row,
    Standing,
    kept_weights,
    named_weights,
    read_checkpoint,
    write_checkpoint,
)
from .judging import Scores
from .learner import Learner, Predict
from .schedule import Budget, rate_at

Batch = tuple[np.ndarray, np.ndarray]


class Shown(Protocol):
    """Where a fit shows how far it is, as `voxtile.machine.progress.Progress` does."""

    def at(self, completed: float, words: str) -> None:
        """Say how much of the budget is used, and how it goes."""

    def line(self, words: str) -> None:
        """Leave a line that stays."""


# Validation may take this share of a time budget; the last one is always made.
_VALIDATION_SHARE = 0.1
# No single validation counts for more than this share of it, or a long one would leave no time
# to learn: the training then takes longer than it was given.
_LONGEST_VALIDATION = 0.2
# Checkpoints may take this share of the time; in an epoch that lasts, one is due after so long.
_CHECKPOINT_SHARE = 0.02
_LONGEST_UNSAVED_S = 60.0


def fit(
    learner: Learner,
    make_batch: Callable[[int], Batch],
    judge: Callable[[Predict], Scores],
    recipe: Recipe,
    labels: Sequence[Label],
    checkpoint: Path,
    *,
    seconds: float | None,
    until_s: float = inf,
    shown: Shown,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Standing:
    """Fit until the budget is used or it is time to stop, from the checkpoint on if there is one.

    Parameters
    ----------
    learner : Learner
        Fresh; takes the checkpoint's state.
    make_batch : callable
        Of the number of a step to its images and targets.
    judge : callable
        Of a network, as a callable, to its validation scores.
    recipe : Recipe
        Settled.
    labels : sequence of Label
        For the columns of the history.
    checkpoint : Path
        ``.npz``; written over and over.
    seconds : float or None
        This network's part of a time budget.
    until_s : float
        Seconds of it after which the fit stops, to go on later.
    shown : Shown
    on_row : callable
        Called with each new row of the history.

    Returns
    -------
    Standing
        As it is in the checkpoint, beside the kept weights.

    Raises
    ------
    ValueError
        If the loss becomes NaN or infinite.
    EnvironmentFault
        If a checkpoint cannot be written or read.
    """
    found = read_checkpoint(checkpoint)
    standing, kept = Standing(), {}
    if found is not None:
        standing, arrays = found
        learner.restore(arrays)
        kept = named_weights(kept_weights(arrays))
    per_epoch = settled(recipe.steps_per_epoch)
    steps = recipe.steps or (None if recipe.epochs is None else recipe.epochs * per_epoch)
    budget = Budget(seconds=seconds) if steps is None else Budget(steps=steps)
    begin = monotonic() - standing.seconds
    saved, save_s = monotonic(), 0.0

    def used() -> float:
        return budget.used(monotonic() - begin, standing.step, reserve_s=standing.last_validation_s)

    def save() -> None:
        nonlocal standing, saved, save_s
        start = monotonic()
        standing = replace(standing, seconds=start - begin)
        write_checkpoint(checkpoint, standing, {**learner.state(), **kept})
        saved = monotonic()
        save_s = saved - start

    batches = ahead(make_batch, standing.step)
    try:
        while not standing.done and monotonic() - begin < until_s:
            rate = rate_at(used(), settled(recipe.learning_rate))
            before = monotonic()
            images, targets = next(batches)
            ready = monotonic()
            loss = learner.step(images, targets, rate)
            standing = standing.with_step(loss, wait_s=ready - before, work_s=monotonic() - ready)
            part = used()
            shown.at(part, f"loss {loss:.3f}")
            if standing.step % per_epoch and part < 1:
                if monotonic() - saved > max(_LONGEST_UNSAVED_S, save_s / _CHECKPOINT_SHARE):
                    save()
                continue
            standing, row = _end_epoch(standing, rate, recipe)
            words = f"epoch {standing.epoch}, step {standing.step}, {part:.0%} of the budget: "
            words += f"loss {row['loss']:.3f}"
            better = False
            if _is_due(standing, budget, monotonic() - begin, part):
                start = monotonic()
                with learner.at_rest() as (predict, weights):
                    scores = judge(predict)
                    gain = scores.choice - (-1 if standing.best is None else standing.best.choice)
                    # Of equals the later one: it has learnt longer.
                    better = gain >= 0
                    if better:
                        kept = named_weights(weights)
                spent = monotonic() - start
                if budget.seconds is not None and spent > _LONGEST_VALIDATION * budget.seconds:
                    shown.line(
                        f"warning: a validation takes {spent:.0f} s, more than a fifth of the "
                        f"{budget.seconds:.0f} s that this network has, which will not be kept; "
                        "give it more time, or fewer or smaller validation cases"
                    )
                    begin += spent - _LONGEST_VALIDATION * budget.seconds
                    spent = _LONGEST_VALIDATION * budget.seconds
                standing = replace(
                    standing,
                    validation_s=standing.validation_s + spent,
                    last_validation_s=spent,
                    best_epoch=standing.epoch if better else standing.best_epoch,
                    best=scores if better else standing.best,
                    stale=0 if gain > 0 else standing.stale + 1,
                )
                row |= score_columns(scores, labels)
                words += f", validation Dice {scores.mean:.4f}{' (best)' if better else ''}"
            row["seconds"] = round(monotonic() - begin, 1)
            enough = recipe.patience is not None and standing.stale >= recipe.patience
            standing = replace(standing, history=(*standing.history, row), done=part >= 1 or enough)
            on_row(row)
            shown.line(words + (", no better for long: done" if enough and part < 1 else ""))
            if better or standing.done or monotonic() - saved > save_s / _CHECKPOINT_SHARE:
                save()
        if not standing.done:
            save()
    finally:
        batches.close()  # type: ignore[attr-defined]
    return standing


def score_columns(scores: Scores, labels: Sequence[Label]) -> Row:
    """Return the columns of a validation in the history."""
    row: Row = {"val_dice": round(scores.mean, 5)}
    for label, column in zip(labels, scores.columns, strict=True):
        row[f"val_dice_{label.value}"] = round(float(column.mean()), 5) if column.size else ""
    return row


def _end_epoch(standing: Standing, rate: float, recipe: Recipe) -> tuple[Standing, Row]:
    """Return the standing after an epoch, and its row without validation."""
    # float16 may overflow in a step, which is left out; what lasts for an epoch is an error.
    finite = [loss for loss in standing.losses if np.isfinite(loss)]
    left_out = recipe.precision == "mixed_float16" and bool(finite)
    if not np.isfinite(standing.losses[-1]) and not left_out:
        raise UsageError(
            f"the loss became {standing.losses[-1]} in epoch {standing.epoch + 1}; try a lower "
            f"learning rate than {recipe.learning_rate:g}"
        )
    loss = float(np.mean(finite))
    busy = standing.wait_s + standing.work_s
    row: Row = {
        "epoch": standing.epoch + 1,
        "steps": standing.step,
        "learning_rate": float(f"{rate:.4g}"),
        "loss": round(loss, 5),
        "waiting": round(standing.wait_s / busy, 3) if busy else 0.0,
    }
    return replace(standing, epoch=standing.epoch + 1, losses=(), wait_s=0.0, work_s=0.0), row


def _is_due(standing: Standing, budget: Budget, seconds: float, part: float) -> bool:
    """Whether to validate now: always with a budget of steps, else while time allows."""
    if budget.seconds is None or part >= 1:
        return True
    if standing.best is None:  # what it costs is not known yet
        return seconds >= _VALIDATION_SHARE * budget.seconds
    return standing.validation_s + standing.last_validation_s <= _VALIDATION_SHARE * seconds
