"""Fit one network: learning rate, validation, best weights so far, checkpoints, the end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import numpy as np

from voxtile.errors import UsageError
from voxtile.models.spec import Label
from voxtile.training.recipe.recipe import Recipe, settled

from .checkpoint import (
    Row,
    Standing,
    best_weights,
    named_weights,
    read_checkpoint,
    write_checkpoint,
)
from .dataset import ahead
from .judging import Scores
from .learner import Learner, Predict
from .schedule import Budget, rate_at

# What a learner takes for one step: tiles and targets, or the numbers to cut them on a device.
Batch = Any


class Shown(Protocol):
    """Shows the progress of a fit, as `voxtile.machine.progress.Progress` does."""

    def at(self, completed: float, words: str) -> None:
        """Show the fraction of the budget that is used, and a few words."""

    def line(self, words: str) -> None:
        """Print a permanent line."""


# Validations may take this fraction of a time budget; the last validation is always made.
_VALIDATION_SHARE = 0.1
# With a budget of steps, validations may take this fraction of the work of all steps so far. The
# work is computed, not measured, so that the result does not depend on the machine.
_VALIDATION_WORK = 0.25
# A single validation counts as this fraction at most, so that time to learn is left. If it takes
# longer, the training run exceeds its budget.
_LONGEST_VALIDATION = 0.2
# Checkpoints may take this fraction of the time. In a long epoch, one is due after these seconds.
_CHECKPOINT_SHARE = 0.02
_LONGEST_UNSAVED_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class FitTask:
    """What a network is fitted with.

    `make_batch` takes the number of a step, and `judge` takes a network as a
    callable. The labels name columns of the history. The checkpoint is an
    ``.npz`` file, and `seconds` is the network's part of a time budget.
    """

    make_batch: Callable[[int], Batch]
    judge: Callable[[Predict], Scores]
    recipe: Recipe
    labels: Sequence[Label]
    checkpoint: Path
    seconds: float | None = None
    validates: bool = True  # without validation cases, `judge` has no score and the last step wins
    validation_steps: float = 0.0  # about as many steps are as much work as a validation
    earlier: tuple[Row, ...] = ()  # history of the training that this fit goes on with

    @property
    def steps_per_epoch(self) -> int:
        """Steps from one validation to the next."""
        return settled(self.recipe.steps_per_epoch)

    @property
    def first(self) -> Standing:
        """The standing before the first step."""
        if not self.earlier:
            return Standing()
        last = self.earlier[-1]
        return Standing(int(last["steps"]), int(last["epoch"]), history=self.earlier)

    @property
    def earlier_s(self) -> float:
        """Seconds of the training that this fit goes on with."""
        return float(self.earlier[-1]["seconds"]) if self.earlier else 0.0

    @property
    def budget(self) -> Budget:
        """The budget in seconds or steps; epochs are converted to steps."""
        recipe = self.recipe
        if recipe.steps is None and recipe.epochs is None:
            return Budget(seconds=self.seconds)
        return Budget(steps=recipe.steps or settled(recipe.epochs) * self.steps_per_epoch)


def fit(
    task: FitTask,
    learner: Learner,
    *,
    until_s: float = inf,
    shown: Shown,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Standing:
    """Fit from the last checkpoint, if any, until the budget is used or the fit stops early.

    `learner` is new, and gets the state of the checkpoint. After `until_s` seconds
    the fit stops, to continue later. `on_row` gets each new row of the history.
    The checkpoint has the returned standing and the best weights.
    """
    run = _Run(task, learner)
    if task.earlier and task.validates and run.standing.best is None:
        run.validate(shown)  # the first weights stay if no later ones are better
        run.save()
    batches = ahead(task.make_batch, run.standing.step)
    try:
        while not run.standing.done and run.seconds < until_s:
            rate = run.steps(batches)
            part = run.used
            shown.at(part, f"loss {run.standing.losses[-1]:.3f}")
            if run.made % task.steps_per_epoch and part < 1:
                if run.unsaved_s > max(_LONGEST_UNSAVED_S, run.save_s / _CHECKPOINT_SHARE):
                    run.save()
                continue
            run.standing, row = _end_epoch(run.standing, rate, task.recipe)
            words = (
                f"epoch {run.standing.epoch}, step {run.standing.step}, {part:.0%} of the budget: "
                f"loss {row['loss']:.3f}"
            )
            better = False
            if not task.validates:
                if part >= 1:
                    run.validate(shown)  # keeps the mean weights
            elif _is_due(run.standing, task, run.seconds, part):
                scores, better = run.validate(shown)
                row |= score_columns(scores, task.labels)
                words += f", validation Dice {scores.mean:.4f}{' (best)' if better else ''}"
            stopped_early = run.end_row(row, part)
            on_row(row)
            shown.line(words + (", no improvement: stopped early" if stopped_early else ""))
            if better or run.standing.done or run.unsaved_s > run.save_s / _CHECKPOINT_SHARE:
                run.save()
        if not run.standing.done:
            run.save()
    finally:
        batches.close()  # type: ignore[attr-defined]
    return run.standing


class _Run:
    """A fit, from its start or its checkpoint until it stops."""

    def __init__(self, task: FitTask, learner: Learner) -> None:
        self._task = task
        self._learner = learner
        self.standing = task.first
        self._best: dict[str, np.ndarray] = {}
        found = read_checkpoint(task.checkpoint)
        if found is not None:
            self.standing, arrays = found
            learner.restore(arrays)
            self._best = named_weights(best_weights(arrays))
        self._begin = monotonic() - self.standing.seconds
        self._saved = monotonic()
        self.save_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the fit, including earlier starts."""
        return monotonic() - self._begin

    @property
    def made(self) -> int:
        """Steps of this fit."""
        return self.standing.step - self._task.first.step

    @property
    def used(self) -> float:
        """The fraction of the budget that is used."""
        standing = self.standing
        reserve_s = standing.last_validation_s
        return self._task.budget.used(self.seconds, self.made, reserve_s=reserve_s)

    def steps(self, batches: Iterator[Batch]) -> float:
        """Learn from the next batches, not beyond the epoch; return the last learning rate."""
        standing, task = self.standing, self._task
        count = task.steps_per_epoch - self.made % task.steps_per_epoch
        if task.budget.steps is not None:
            count = min(count, task.budget.steps - self.made)
        count = min(count, self._learner.at_once)
        peak, reserve_s = settled(task.recipe.learning_rate), standing.last_validation_s
        rates = [
            rate_at(task.budget.used(self.seconds, step, reserve_s=reserve_s), peak)
            for step in range(self.made, self.made + count)
        ]
        before = monotonic()
        several = list(islice(batches, count))
        ready = monotonic()
        losses = self._learner.steps(several, rates)
        self.standing = replace(
            standing,
            step=standing.step + count,
            losses=(*standing.losses, *losses),
            wait_s=standing.wait_s + ready - before,
            work_s=standing.work_s + monotonic() - ready,
        )
        return rates[-1]

    def validate(self, shown: Shown) -> tuple[Scores, bool]:
        """Validate the network; return its scores, and whether it is the best so far."""
        start = monotonic()
        standing, seconds = self.standing, self._task.budget.seconds
        with self._learner.at_rest() as (predict, weights):
            scores = self._task.judge(predict)
            gain = scores.choice - (-1 if standing.best is None else standing.best.choice)
            # If two scores are equal, the later network is better, because it was trained longer.
            better = gain >= 0
            if better:
                self._best = named_weights(weights)
        spent = monotonic() - start
        if seconds is not None and spent > _LONGEST_VALIDATION * seconds:
            shown.line(
                f"warning: a validation takes {spent:.0f} s, more than a fifth of the "
                f"{seconds:.0f} s for this network, so the training run will exceed its budget; "
                "allow more time, or use fewer or smaller validation cases"
            )
            self._begin += spent - _LONGEST_VALIDATION * seconds
            spent = _LONGEST_VALIDATION * seconds
        self.standing = replace(
            standing,
            validation_s=standing.validation_s + spent,
            last_validation_s=spent,
            best_epoch=standing.epoch if better else standing.best_epoch,
            best=scores if better else standing.best,
            stale=0 if gain > 0 else standing.stale + 1,
        )
        return scores, better

    def end_row(self, row: Row, part: float) -> bool:
        """Add a row to the history; return whether the fit stops before its budget is used."""
        row["seconds"] = round(self._task.earlier_s + self.seconds, 1)
        patience = self._task.recipe.patience
        enough = patience is not None and self.standing.stale >= patience
        self.standing = replace(
            self.standing, history=(*self.standing.history, row), done=part >= 1 or enough
        )
        return enough and part < 1

    @property
    def unsaved_s(self) -> float:
        """Seconds since the last checkpoint."""
        return monotonic() - self._saved

    def save(self) -> None:
        """Write a checkpoint."""
        start = monotonic()
        self.standing = replace(self.standing, seconds=start - self._begin)
        arrays = {**self._learner.state(), **self._best}
        write_checkpoint(self._task.checkpoint, self.standing, arrays)
        self._saved = monotonic()
        self.save_s = self._saved - start


def score_columns(scores: Scores, labels: Sequence[Label]) -> Row:
    """Return the columns of a validation in the history."""
    row: Row = {"val_dice": round(scores.mean, 5)}
    for label, column in zip(labels, scores.columns, strict=True):
        row[f"val_dice_{label.value}"] = round(float(column.mean()), 5) if column.size else ""
    return row


def _end_epoch(standing: Standing, rate: float, recipe: Recipe) -> tuple[Standing, Row]:
    """Return the standing after an epoch, and its row without validation."""
    # A step that overflows in float16 is left out; an epoch with only such steps is an error.
    finite = [loss for loss in standing.losses if np.isfinite(loss)]
    left_out = recipe.precision == "mixed_float16" and bool(finite)
    if not np.isfinite(standing.losses[-1]) and not left_out:
        raise UsageError(
            f"the loss became {standing.losses[-1]} in epoch {standing.epoch + 1}; try a lower "
            f"learning rate than {recipe.learning_rate:g}"
        )
    busy = standing.wait_s + standing.work_s
    row: Row = {
        "epoch": standing.epoch + 1,
        "steps": standing.step,
        "learning_rate": float(f"{rate:.4g}"),
        "loss": round(float(np.mean(finite)), 5),
        "waiting": round(standing.wait_s / busy, 3) if busy else 0.0,
    }
    return replace(standing, epoch=standing.epoch + 1, losses=(), wait_s=0.0, work_s=0.0), row


def _is_due(standing: Standing, task: FitTask, seconds: float, part: float) -> bool:
    """Whether to validate now: at the end, and before it if a small part of the work allows."""
    budget = task.budget
    if part >= 1:
        return True
    if budget.seconds is None:
        made = 1 + sum("val_dice" in row for row in standing.history)
        return made * task.validation_steps <= _VALIDATION_WORK * standing.step
    if standing.best is None:  # its cost is not known yet
        return seconds >= _VALIDATION_SHARE * budget.seconds
    return standing.validation_s + standing.last_validation_s <= _VALIDATION_SHARE * seconds
