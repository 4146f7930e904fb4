"""From a manifest with labels to a trained bundle.

    manifest -> cases on disk -> tiles -> [fit] -> checkpoint -> bundle
                                            |          ^
                                            v          | the best mean Dice so far
                              validation cases, whole volumes, as `infer` judges them

Everything is written to a hidden folder beside the output and moved there in
one step at the end: a folder under the final name is always a whole bundle.
"""

import csv
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np
from pydantic_core import to_jsonable_python

import voxtile
from voxtile.models.backend import keras
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import Label, ModelSpec, Network
from voxtile.models.unet import build_unet

from .card import model_card
from .case import Case, read_manifest
from .dataset import Sampling, TileBatches
from .domain import describe_scan, training_domain
from .errors import EnvironmentFault, ManifestError
from .files import replacing, write_text
from .inference import infer
from .metrics import count_overlaps
from .plan import PlanWish, make_plan
from .preparation import PlaneStack, StoredCase, store_cases, store_planes
from .progress import Progress, show_progress
from .recipe import Recipe, settle
from .schedule import Budget, rate_at

ops = keras.ops

Choice = TypeVar("Choice")

_NETWORK = "unet.keras"
# Validation may take this share of a time budget; the last one is always made.
_VALIDATION_SHARE = 0.1
# Small, because the last batch of a volume is filled up; it changes no result.
_VALIDATION_BATCH = 8
# Gradients longer than this are shortened: one odd batch must not undo the work of many.
_LONGEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Dice of each validation case and label.

    Parameters
    ----------
    dice : tuple of (case_id, tuple of float)
        One value per label in the order of the spec; NaN where neither the
        prediction nor the reference has the label.
    """

    dice: tuple[tuple[str, tuple[float, ...]], ...]

    @property
    def columns(self) -> list[np.ndarray]:
        """For each label the Dice of every case where it is defined."""
        table = np.array([row for _, row in self.dice], np.float64)
        return [column[~np.isnan(column)] for column in table.T]

    @property
    def mean(self) -> float:
        """Mean over the labels of their means over cases; 0 where nothing is defined."""
        means = [column.mean() for column in self.columns if column.size]
        return float(np.mean(means)) if means else 0.0


def train(
    manifest: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    description: str = "",
    licence: str | Path | None = None,
    progress: bool = True,
) -> Bundle:
    """Train a U-Net on a manifest's train split and write a bundle.

    Parameters
    ----------
    manifest : str or Path
        Rows with split ``train`` are learnt from, rows with split ``val``
        choose the checkpoint and give the scores; others are not read.
    out : str or Path
        Folder of the bundle; its name is the bundle's. It must not exist.
    root : str or Path, optional
        Where the manifest's relative paths begin.
    recipe : Recipe, optional
        What is left open in it follows the rules of `voxtile.recipe.settle`.
    description : str
        One sentence for the model card.
    licence : str or Path, optional
        Text file with the licence of the weights, kept as LICENSE. Weights
        carry the licence of the data they were trained on.
    progress : bool, default True
        Whether to show progress on standard error: a bar on a terminal, else
        a line per epoch.

    Returns
    -------
    Bundle
        Read back from `out` and verified.

    Notes
    -----
    While it runs, cases and the checkpoint lie in a hidden folder
    ``.<name>.*.tmp`` beside `out`. An interruption removes it and leaves
    nothing; only a killed process leaves it behind, to be deleted by hand.

    Raises
    ------
    ManifestError
        With every case that cannot be trained on, and why.
    ValueError
        If the recipe contradicts itself or does not fit the cases.
    EnvironmentFault
        If `out` exists or the disk refuses.
    """
    manifest, out = Path(manifest), Path(out)
    recipe = recipe or Recipe()
    if out.exists():
        raise EnvironmentFault(f"{out} exists; choose another name or remove it first")
    licence_text = None if licence is None else Path(licence).read_bytes()
    cases = read_manifest(manifest, root=root)
    training, validation = _splits(cases, manifest)
    keras.utils.set_random_seed(recipe.seed)
    with _working_folder(out) as work, show_progress(shown=progress) as shown:
        begin = monotonic()
        shown.begin("reading cases", len(training + validation))
        stored = store_cases(
            training + validation,
            work,
            labels=recipe.labels,
            manifest=manifest,
            advance=shown.advance,
        )
        learnt, judged = stored[: len(training)], stored[len(training) :]
        recipe = settle(recipe, [case.extent for case in learnt])
        _check_values(judged, validation, recipe, manifest)
        channels = tuple(channel for channel, _ in training[0].images)
        spec = _spec(out.name, description, channels, recipe, manifest)
        stacks = []
        shown.begin("cutting planes", len(learnt))
        scans = []
        for case in learnt:
            scans.append(describe_scan(case.volume, spec.channels, spec.intensity))
            stacks.append(store_planes(case, recipe, work))
            case.remove()
            shown.advance()
        network = build_unet(
            (None, None, spec.input_channels),
            spec.output_channels,
            filters=recipe.filters,
            depth=_settled(recipe.depth),
            normalisation=recipe.normalisation,
            dropout=recipe.dropout,
            activation=spec.activation,
        )
        coach = _Coach(network, spec, recipe, judged, work, shown)
        _fit(network, stacks, spec, recipe, coach)
        facts = {
            "seconds": round(monotonic() - begin, 1),
            "parameters": network.count_params(),
            **_provenance(manifest, training, validation, recipe),
            **coach.facts(),
            "domain": training_domain(scans),
        }
        _write_bundle(work, spec, facts, coach.history, licence_text)
        _publish(work / "bundle", out)
    return load_bundle(out)


def _splits(cases: Sequence[Case], manifest: Path) -> tuple[list[Case], list[Case]]:
    """Return the cases to learn from and those to validate on, or say all that is wrong."""
    training = [case for case in cases if case.split == "train"]
    validation = [case for case in cases if case.split == "val"]
    problems = [
        f"{manifest} has no case with split {split!r}; {why}: add a column split with 'train' for "
        "the cases to learn from and 'val' for about a fifth that choose the checkpoint"
        for split, chosen, why in (
            ("train", training, "there is nothing to learn from"),
            ("val", validation, "without one nobody knows when to stop or what was learnt"),
        )
        if not chosen
    ]
    problems += [
        f"{manifest} line {case.line}: case {case.case_id} has split {case.split!r} but no label; "
        "name its mask in column label, or leave its split empty"
        for case in training + validation
        if case.label is None
    ]
    # A patient on both sides would be recognised rather than segmented.
    learnt = {case.group: case.line for case in training if case.group}
    problems += [
        f"{manifest} line {case.line}: group {case.group!r} is in val here but in train on line "
        f"{learnt[case.group]}; keep a group in one split"
        for case in validation
        if case.group in learnt
    ]
    if problems:
        raise ManifestError(problems)
    return training, validation


def _check_values(
    judged: Sequence[StoredCase], validation: Sequence[Case], recipe: Recipe, manifest: Path
) -> None:
    """Refuse validation labels with values that no training label has: nobody could learn them."""
    known = {value for label in recipe.labels for value in label.values}
    problems = [
        f"{manifest} line {case.line}: case {case.case_id}: the label has values "
        f"{sorted(set(stored.extent.values) - known)}, but the training labels only "
        f"{sorted(known)}; move a case that has them to train, or correct the mask"
        for stored, case in zip(judged, validation, strict=True)
        if known and not known.issuperset(stored.extent.values)
    ]
    if problems:
        raise ManifestError(problems)


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Make a hidden folder beside the output, on the same disk, and remove it at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name[:40]}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise EnvironmentFault(
            f"nothing can be written beside {out} ({error.strerror}); choose another place"
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _spec(
    name: str, description: str, channels: tuple[str, ...], recipe: Recipe, manifest: Path
) -> ModelSpec:
    """Return the spec of the network to be; its checksum is not known yet."""
    if not recipe.labels:
        raise ManifestError(
            [f"{manifest}: no training label has a value other than 0, so nothing can be learnt"]
        )
    softmax = len(recipe.labels) > 1 and not any(label.region for label in recipe.labels)
    return ModelSpec(
        name=name,
        description=description,
        channels=channels,
        context_slices=recipe.context_slices,
        spacing_mm=recipe.spacing_mm,
        intensity=recipe.intensity,
        tile=_settled(recipe.tile),
        multiple=2 ** _settled(recipe.depth),
        overlap=recipe.overlap,
        labels=recipe.labels,
        activation="softmax" if softmax else "sigmoid",
        networks=(Network(file=_NETWORK, sha256="0" * 64, views=_settled(recipe.views)),),
    )


def _fit(
    network: keras.Model,
    stacks: Sequence[Sequence[PlaneStack]],
    spec: ModelSpec,
    recipe: Recipe,
    coach: "_Coach",
) -> None:
    """Fit the network until the coach says that the budget is used."""
    backend = keras.config.backend()
    sampling = Sampling(
        tile=spec.tile,
        context_slices=spec.context_slices,
        labels=spec.labels,
        softmax=spec.activation == "softmax",
        batch=_settled(recipe.batch),
        seed=recipe.seed,
        foreground=recipe.foreground,
        flips=recipe.flips,
        augmentation=recipe.augmentation,
    )
    # tf.data prefetches by itself; elsewhere two threads make Keras prepare batches ahead.
    batches = TileBatches(stacks, sampling, workers=1 if backend == "tensorflow" else 2)
    # A second model over the same layers: the one that is saved is never compiled.
    learner = keras.Model(network.inputs, network.outputs)
    optimizer = keras.optimizers.AdamW(
        rate_at(0, recipe.learning_rate),
        weight_decay=recipe.weight_decay,
        global_clipnorm=_LONGEST_GRADIENT,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema or 0.99,
    )
    # Pulling biases and the gains of normalisations towards 0 only fights the data.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    learner.compile(
        optimizer,
        loss=make_loss(softmax=sampling.softmax),
        # On a CPU, TensorFlow's own kernels outrun XLA's; JAX has no other way than to compile.
        jit_compile=False if backend == "tensorflow" and not _has_gpu() else "auto",
    )
    learner.fit(
        batches,
        epochs=recipe.epochs or 10**9,
        steps_per_epoch=recipe.steps_per_epoch,
        callbacks=[coach],
        shuffle=False,  # the stream is random already
        verbose=0,
    )


def make_loss(*, softmax: bool) -> Callable[[Any, Any], Any]:
    """Return the sum of soft Dice loss and cross-entropy (Isensee et al. 2021, online methods).

    Dice is taken over the whole batch, so that a tile without a label asks
    only for few false positives, and never over the background.

    Parameters
    ----------
    softmax : bool
        Exclusive classes, the first of them background; else independent
        sigmoid outputs.

    Returns
    -------
    callable
        Of targets and probabilities, both of shape (n, rows, columns,
        classes), to a scalar.
    """

    def dice_and_cross_entropy(truth: Any, probability: Any) -> Any:
        truth = ops.cast(truth, probability.dtype)
        safe = ops.clip(probability, 1e-7, 1 - 1e-7)
        if softmax:
            entropy = -ops.mean(ops.sum(truth * ops.log(safe), axis=-1))
            truth, probability = truth[..., 1:], probability[..., 1:]
        else:
            entropy = -ops.mean(truth * ops.log(safe) + (1 - truth) * ops.log(1 - safe))
        both = ops.sum(truth * probability, axis=(0, 1, 2))
        either = ops.sum(truth, axis=(0, 1, 2)) + ops.sum(probability, axis=(0, 1, 2))
        # One pixel's worth keeps an absent label defined: 1 where nothing is predicted either.
        dice = (2 * both + 1) / (either + 1)
        return entropy + 1 - ops.mean(dice)

    return dice_and_cross_entropy


class _Coach(keras.callbacks.Callback):  # type: ignore[misc]  # keras publishes no types
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
        per_epoch = _settled(recipe.steps_per_epoch)
        self._budget = (
            Budget(seconds=60 * _settled(recipe.minutes))
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
                    _summary(label, column)
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
        fresh.replace(self._work / _NETWORK)

    def _kept(self) -> tuple[int, Scores]:
        """Return the epoch and scores of the kept checkpoint."""
        if self._best is None:
            raise RuntimeError("nothing was validated, so there is no checkpoint")
        return self._best


def judge(
    cases: Sequence[StoredCase], spec: ModelSpec, predict: Callable[[np.ndarray], np.ndarray]
) -> Scores:
    """Segment whole volumes exactly as a run does, and score them.

    Parameters
    ----------
    cases : sequence of StoredCase
    spec : ModelSpec
        With one network.
    predict : callable
        Of a batch of tiles to probabilities.
    """
    plan = make_plan(spec, PlanWish(batch=_VALIDATION_BATCH))
    rows = []
    for case in cases:
        mask = infer(case.volume, spec, [predict], plan)
        overlaps = count_overlaps(
            mask.array, case.reference.array, [label.values for label in spec.labels]
        )
        rows.append((case.case_id, tuple(overlap.dice for overlap in overlaps)))
    return Scores(tuple(rows))


def _summary(label: Label, dice: np.ndarray) -> dict[str, Any]:
    """Return mean and standard deviation (n - 1) of one label's Dice."""
    return {
        "value": label.value,
        "name": label.name,
        "mean": round(float(dice.mean()), 4) if dice.size else None,
        "sd": round(float(dice.std(ddof=1)), 4) if dice.size > 1 else None,
        "min": round(float(dice.min()), 4) if dice.size else None,
        "n": int(dice.size),
    }


def _provenance(
    manifest: Path, training: Sequence[Case], validation: Sequence[Case], recipe: Recipe
) -> dict[str, Any]:
    """Return what a network was trained from, and with."""
    return {
        "manifest": manifest.name,
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "n_train": len(training),
        "n_val": len(validation),
        "train": [case.case_id for case in training],
        "val": [case.case_id for case in validation],
        "recipe": _recipe_facts(recipe),
        "versions": {
            "voxtile": voxtile.__version__,
            "keras": keras.__version__,
            "backend": f"{keras.config.backend()} {_backend_version()}",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe for the spec, without what was not used or stands there already."""
    facts: dict[str, Any] = to_jsonable_python(recipe)
    return {name: fact for name, fact in facts.items() if fact is not None and name != "labels"}


def _backend_version() -> str:
    """Return the version of the library that Keras runs on."""
    try:
        return version(keras.config.backend())
    except PackageNotFoundError:
        return "unknown"


def _write_bundle(
    work: Path,
    spec: ModelSpec,
    facts: dict[str, Any],
    history: Sequence[dict[str, float | int | str]],
    licence: bytes | None,
) -> None:
    """Assemble the whole bundle in the working folder, and check that it loads."""
    bundle = work / "bundle"
    content = (work / _NETWORK).read_bytes()
    network = spec.networks[0].model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    spec = spec.model_copy(update={"networks": (network,), "training": facts})
    with replacing(bundle / _NETWORK) as file:
        file.write(content)
    write_text(bundle / "spec.json", spec.dump())
    write_text(bundle / "history.csv", _table(history, spec))
    write_text(bundle / "README.md", model_card(spec, has_licence=licence is not None))
    if licence is not None:
        with replacing(bundle / "LICENSE") as file:
            file.write(licence)
    load_bundle(bundle)  # before it gets its name: what cannot be loaded is no bundle


def _publish(bundle: Path, out: Path) -> None:
    """Give the finished bundle its name, in one step."""
    try:
        bundle.rename(out)
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be made ({error.strerror}); did it appear while the training ran?"
        ) from error


def _table(history: Sequence[dict[str, float | int | str]], spec: ModelSpec) -> str:
    """Return the history as CSV; an epoch that was not validated has empty cells."""
    columns = ["epoch", "steps", "seconds", "learning_rate", "loss", "val_dice"]
    columns += [f"val_dice_{label.value}" for label in spec.labels]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _has_gpu() -> bool:
    """Whether the backend sees a GPU."""
    return bool(keras.distribution.list_devices("gpu"))


def _settled(choice: Choice | None) -> Choice:
    """Return a choice of a recipe that `settle` has filled in."""
    if choice is None:
        raise ValueError("the recipe leaves a choice open; pass it through settle first")
    return choice
