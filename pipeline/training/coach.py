"""What happens around the steps of a fit: learning rate, validation, checkpoint, history, end."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from voxtile.models.backend import keras
from voxtile.models.spec import ModelSpec
from voxtile.progress import Progress

from .judging import Scores, judge, summarise
from .preparation import StoredCase
from .recipe import Recipe, settled
from .schedule import Budget, rate_at

NETWORK = "unet.keras"
# Validation may take this share of a time budget; the last one is always made.
_VALIDATION_SHARE = 0.1


class Coach(keras.callbacks.Callback):  # type: ignore[misc]  # keras publishes no types
    """Drives one fit: learning rate, validation, the best checkpoint, history, the end."""

    def __init__(
        self,
        network: keras.Model,
        spec: ModelSpec,
        recipe: Recipe,
        cases: Sequence[StoredCase],
        work: Path,
        shown: Progress,
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float | int | str]] = []
        self._network = network
        self._spec = spec
        self._recipe = recipe
        self._cases = cases
        self._work = work
        self._shown = shown
        per_epoch = settled(recipe.steps_per_epoch)
        self._budget = (
            Budget(seconds=60 * settled(recipe.minutes))
            if recipe.epochs is None
            else Budget(steps=recipe.epochs * per_epoch)
        )
        self._begin = monotonic()
        self._steps = 0
        self._validation_s = 0.0
        self._last_validation_s = 0.0
        self._rate = 0.0
        self._loss = float("nan")
        self._best: tuple[int, Scores] | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the model card tells of the fit: steps and scores of the kept checkpoint."""
        epoch, scores = self._kept()
        return {
            "fit_seconds": round(monotonic() - self._begin, 1),
            "steps": self._steps,
            "best_epoch": epoch,
            "validation_dice": {
                "mean": round(scores.mean, 4),
                "labels": [
                    summarise(label, column)
                    for label, column in zip(self._spec.labels, scores.columns, strict=True)
                ],
                "cases": {
                    case_id: [None if np.isnan(value) else round(value, 4) for value in row]
                    for case_id, row in scores.dice
                },
            },
        }

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._begin = monotonic()
        self._shown.begin("training", 1.0)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the learning rate for the part of the budget that is used."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # else JAX does not see what a callback changes
        self._rate = rate_at(self._used(), self._recipe.learning_rate)
        self.model.optimizer.learning_rate.assign(self._rate)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop when the budget is used."""
        self._steps += 1
        self._loss = float((logs or {}).get("loss", float("nan")))
        used = self._used()
        if used >= 1:
            self.model.stop_training = True
        self._shown.at(used, f"loss {self._loss:.3f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Validate where it is due, keep the best, and write the history."""
        if not np.isfinite(self._loss):
            raise ValueError(
                f"the loss became {self._loss} in epoch {epoch + 1}; try a lower learning rate "
                f"than {self._recipe.learning_rate:g}"
            )
        row: dict[str, float | int | str] = {
            "epoch": epoch + 1,
            "steps": self._steps,
            "learning_rate": float(f"{self._rate:.4g}"),
            "loss": round(self._loss, 5),
        }
        words = (
            f"epoch {epoch + 1}, step {self._steps}, {self._used():.0%} of the budget: "
            f"loss {self._loss:.3f}"
        )
        if self._is_due():
            scores = self._validate()
            row["val_dice"] = round(scores.mean, 5)
            for label, column in zip(self._spec.labels, scores.columns, strict=True):
                row[f"val_dice_{label.value}"] = (
                    round(float(column.mean()), 5) if column.size else ""
                )
            better = self._best is None or scores.mean > self._best[1].mean
            words += f", validation Dice {scores.mean:.4f}{' (best)' if better else ''}"
            if better:
                self._best = epoch + 1, scores
        row["seconds"] = round(monotonic() - self._begin, 1)
        self.history.append(row)
        self._shown.line(words)

    def _used(self) -> float:
        """Return the fraction of the budget that is used."""
        return self._budget.used(
            monotonic() - self._begin, self._steps, reserve_s=self._last_validation_s
        )

    def _is_due(self) -> bool:
        """Whether to validate now: always with an epoch budget, else while time allows."""
        if self._budget.seconds is None or self._used() >= 1:
            return True
        seconds = monotonic() - self._begin
        if self._best is None:  # what it costs is not known yet
            return seconds >= _VALIDATION_SHARE * self._budget.seconds
        return self._validation_s + self._last_validation_s <= _VALIDATION_SHARE * seconds

    def _validate(self) -> Scores:
        """Judge whole validation volumes with the mean weights; save the network if it is best."""
        begin = monotonic()
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        weights = self._network.get_weights()
        if self._recipe.ema:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            # The means themselves are in the network now: JAX gives such shared memory away
            # when it predicts, so the network gets a copy.
            self._network.set_weights(self._network.get_weights())
        scores = judge(self._cases, self._spec, self._predict)
        if self._best is None or scores.mean > self._best[1].mean:
            self._save()
        self._network.set_weights(weights)
        self._last_validation_s = monotonic() - begin
        self._validation_s += self._last_validation_s
        return scores

    def _predict(self, tiles: np.ndarray) -> np.ndarray:
        """Return the network's answer: the model that `infer` calls."""
        return np.asarray(self.model.predict_on_batch(tiles))

    def _save(self) -> None:
        """Keep the network as it is now, in place of the one before."""
        fresh = self._work / "fresh.keras"
        self._network.save(fresh)
        fresh.replace(self._work / NETWORK)

    def _kept(self) -> tuple[int, Scores]:
        """Return the epoch and scores of the kept checkpoint."""
        if self._best is None:
            raise RuntimeError("nothing was validated, so there is no checkpoint")
        return self._best
