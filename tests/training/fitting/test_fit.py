"""The parts of a fit that need no training: batches ahead, precision, curves, early stopping."""

import threading
from dataclasses import replace
from itertools import count, islice
from math import inf
from pathlib import Path

import numpy as np
import pytest
from training_cohort import OUTER, TINY

from voxtile.engines import short_numbers
from voxtile.errors import UsageError
from voxtile.machine.progress import show_progress
from voxtile.models.backend import keras
from voxtile.models.unet import build_unet
from voxtile.training.bundle import tensorboard
from voxtile.training.bundle.history import history_table
from voxtile.training.bundle.tensorboard import scalar_events
from voxtile.training.fitting import fit as fitting
from voxtile.training.fitting.checkpoint import Row, Standing
from voxtile.training.fitting.dataset import ahead
from voxtile.training.fitting.fit import FitTask, fit
from voxtile.training.fitting.judging import Scores, score_facts
from voxtile.training.fitting.learner import Learner, in_precision
from voxtile.training.recipe import precision
from voxtile.training.recipe.recipe import Recipe


def test_batches_come_in_order_from_the_first_number() -> None:
    stream = ahead(lambda number: (number, threading.get_ident()), 5, threads=3)
    made = list(islice(stream, 50))
    stream.close()  # type: ignore[attr-defined]
    assert [number for number, _ in made] == list(range(5, 55))
    assert threading.get_ident() not in {thread for _, thread in made}


def test_an_error_in_a_thread_that_makes_batches_is_raised() -> None:
    def make(number: int) -> int:
        return 1 // (3 - number)

    with pytest.raises(ZeroDivisionError):
        list(islice(ahead(make, 0), 10))


class Still:
    """A learner whose weights and loss never change."""

    at_once = 1
    rates: list[float]

    def __init__(self) -> None:
        self.rates = []

    def steps(
        self, batches: list[tuple[np.ndarray, np.ndarray]], rates: list[float]
    ) -> list[float]:
        return [self.step(*batch, rate) for batch, rate in zip(batches, rates, strict=True)]

    def step(self, images: np.ndarray, targets: np.ndarray, rate: float) -> float:
        self.rates.append(rate)
        return float(images)

    def at_rest(self) -> "Still":
        return self

    def __enter__(self) -> tuple[object, list[np.ndarray]]:
        return np.asarray, [np.zeros(1)]

    def __exit__(self, *error: object) -> None:
        pass

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: object) -> None:
        pass


def fitted(
    folder: Path,
    recipe: Recipe,
    dice: list[float],
    learner: Still | None = None,
    until_s: float = inf,
    validation_steps: float = 0.0,
) -> tuple[Standing, Still]:
    """A fit of a learner that stands still, with these validation scores."""
    learner, left = learner or Still(), iter(dice)
    task = FitTask(
        lambda number: (np.float32(number), np.zeros(1)),  # type: ignore[arg-type, return-value]
        lambda predict: Scores((("a", (next(left),)),)),
        recipe,
        (OUTER,),
        folder / "checkpoint.npz",
        validation_steps=validation_steps,
    )
    with show_progress(shown=False) as shown:
        done = fit(task, learner, until_s=until_s, shown=shown)  # type: ignore[arg-type]
    return done, learner


def test_the_history_has_a_row_for_each_epoch_and_the_last_may_be_short(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=None, steps=7, steps_per_epoch=3)
    done, learner = fitted(tmp_path, recipe, [0.1, 0.3, 0.2])
    assert [row["steps"] for row in done.history] == [3, 6, 7]
    # Batch n has loss n: means over the steps of each epoch.
    assert [row["loss"] for row in done.history] == [1, 4, 6]
    assert [row["val_dice_1"] for row in done.history] == [0.1, 0.3, 0.2]
    assert (done.best_epoch, done.best) == (2, Scores((("a", (0.3,)),)))
    assert len(learner.rates) == 7 and max(learner.rates) <= 1e-2


def test_a_fit_may_stop_and_continue_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(TINY, epochs=None, steps=7, steps_per_epoch=3)
    now = 0.0

    class Slow(Still):
        def step(self, images: np.ndarray, targets: np.ndarray, rate: float) -> float:
            nonlocal now
            now += 1.0
            return super().step(images, targets, rate)

    monkeypatch.setattr("voxtile.training.fitting.fit.monotonic", lambda: now)
    one = fitted(tmp_path, recipe, [0.1], learner=Slow(), until_s=3.5)[0]
    assert (one.step, one.epoch, one.done, one.seconds) == (4, 1, False, 4.0)
    now = 100.0
    # What is used already is no reason to do another step.
    assert fitted(tmp_path, recipe, [], learner=Slow(), until_s=4.0)[0] == one
    whole, learner = fitted(tmp_path, recipe, [0.3, 0.2], learner=Slow())
    assert [row["loss"] for row in whole.history] == [1, 4, 6]
    assert (whole.done, whole.seconds, len(learner.rates)) == (True, 7.0, 3)
    assert (whole.best_epoch, whole.best) == (2, Scores((("a", (0.3,)),)))


def test_the_later_of_two_equal_validations_counts_as_better(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=None, steps=9, steps_per_epoch=3, patience=2)
    done, _ = fitted(tmp_path, recipe, [0.3, 0.3, 0.3])
    assert (done.best_epoch, done.stale) == (3, 2)  # later, but no gain


def test_a_label_that_no_reference_has_does_not_choose_the_checkpoint() -> None:
    nan = float("nan")
    early = Scores((("a", (0.7, nan)), ("b", (0.7, nan))), (2, 0))
    late = Scores((("a", (0.9, nan)), ("b", (0.9, 0.0))), (2, 0))  # a stray voxel of label 2
    assert early.choice == pytest.approx(0.7) and late.choice == pytest.approx(0.9)
    assert early.mean == pytest.approx(0.7) and late.mean == pytest.approx(0.45)
    assert Scores((("a", (0.0,)),), (0,)).choice == 0  # as good as any other


def test_a_validation_longer_than_the_budget_leaves_time_to_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    class Slow(Still):
        def step(self, images: np.ndarray, targets: np.ndarray, rate: float) -> float:
            nonlocal now
            now += 0.1
            return super().step(images, targets, rate)

    def judge(predict: object) -> Scores:
        nonlocal now
        now += 300.0
        return Scores((("a", (0.5,)),))

    monkeypatch.setattr("voxtile.training.fitting.fit.monotonic", lambda: now)
    learner = Slow()
    task = FitTask(
        lambda number: (np.float32(number), np.zeros(1)),  # type: ignore[arg-type, return-value]
        judge,
        replace(TINY, epochs=None, minutes=1.0, steps_per_epoch=10),
        (OUTER,),
        tmp_path / "checkpoint.npz",
        seconds=60.0,
    )
    with show_progress(shown=True) as shown:
        done = fit(task, learner, shown=shown)  # type: ignore[arg-type]
    # A fifth for the first validation and one for the last: 36 s of steps.
    assert done.step == pytest.approx(360, abs=2)
    assert learner.rates[-1] < 0.1 * max(learner.rates)
    assert "a validation takes 300 s" in capsys.readouterr().err


def test_the_interval_of_a_mean_is_drawn_over_groups() -> None:
    scores = Scores((("a", (0.5,)), ("b", (0.7,)), ("c", (float("nan"),))))
    facts = score_facts(scores, (OUTER,), ["p", "q", "r"])["labels"][0]
    assert (facts["mean"], facts["ci"], facts["n"]) == (0.6, [0.5, 0.7], 2)
    assert score_facts(scores, (OUTER,), ["p", "p", "r"])["labels"][0]["ci"] is None
    assert "ci" not in score_facts(scores, (OUTER,))["labels"][0]


def test_patience_stops_a_fit_without_improvement(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=9, steps_per_epoch=2, patience=2)
    done, learner = fitted(tmp_path, recipe, [0.3, 0.2, 0.4, 0.3, 0.4, 0.9])
    assert (done.epoch, done.best_epoch) == (5, 5)  # as good as the third: kept, and no gain
    assert len(learner.rates) == 10


def test_a_loss_of_nan_says_what_to_do(tmp_path: Path) -> None:
    class Diverged(Still):
        def step(self, *batch: object) -> float:
            return float("nan")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Still, "step", Diverged.step)
        with pytest.raises(ValueError, match="became nan in epoch 1; try a lower learning rate"):
            fitted(tmp_path, TINY, [])


@pytest.mark.parametrize(
    ("rate", "kept", "why"),
    [
        (30.0, "mixed_bfloat16", "the fastest here: float32 20 steps/s, mixed_bfloat16 30 steps/s"),
        (21.0, "float32", "no other precision is 10 % faster here: float32 20"),
        (5.0, "float32", "no other precision is 10 % faster"),
    ],
)
def test_another_precision_is_chosen_if_it_is_faster_by_a_tenth(
    monkeypatch: pytest.MonkeyPatch, rate: float, kept: str, why: str
) -> None:
    rates = {"float32": 20.0, "mixed_bfloat16": rate}
    monkeypatch.setattr(precision, "_steps_per_second", lambda *what: rates[what[-1]])
    found, reason = precision.choose_precision(
        None, TINY, softmax=True, candidates=["mixed_bfloat16"]
    )
    assert found == kept
    assert why in reason


def test_measuring_precisions_does_not_change_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_TRIAL_S", 0)
    recipe = replace(TINY, precision=None, filters=2, tile=(8, 8), batch=1)
    network = build_unet((None, None, 1), 2, filters=2, depth=1, normalisation="batch")
    before = network.get_weights()
    found, reason = precision.choose_precision(
        network, recipe, softmax=True, candidates=["mixed_bfloat16"]
    )
    assert found in ("float32", "mixed_bfloat16")
    assert "steps/s" in reason
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("gain", "candidates", "why"),
    [
        (2.4, ("mixed_bfloat16",), ""),  # AMD Zen 4: avx512_bf16 without AMX
        (0.5, (), "not compute faster in 16 bits: bfloat16 has 0.5 times the rate of float32"),
        (None, (), "this machine does not compute faster in 16 bits"),
    ],
)
def test_bfloat16_is_tried_on_a_processor_that_was_measured_to_gain(
    monkeypatch: pytest.MonkeyPatch, gain: float | None, candidates: tuple[str, ...], why: str
) -> None:
    known = {} if gain is None else {"bfloat16": gain}
    monkeypatch.setattr(short_numbers, "gains", lambda library: known)
    monkeypatch.setattr(precision, "gains", short_numbers.gains)
    assert precision.half_precisions() == candidates
    if not candidates:
        chosen, reason = precision.choose_precision(None, TINY, softmax=True)
        assert chosen == "float32"
        assert reason.endswith(why)


def test_another_precision_computes_about_the_same_with_the_same_weights() -> None:
    network = build_unet((None, None, 1), 2, filters=4, depth=1, normalisation="batch")
    short = in_precision(network, "mixed_bfloat16")
    short.set_weights(network.get_weights())
    tiles = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    ours, theirs = (np.asarray(model(tiles)) for model in (network, short))
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    assert np.abs(ours - theirs).max() > 0
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}


def test_a_step_in_bfloat16_learns() -> None:
    network = build_unet((None, None, 1), 2, filters=4, depth=1, normalisation="batch")
    recipe = replace(TINY, learning_rate=1e-2)
    learner = Learner(network, recipe, softmax=True, precision="mixed_bfloat16")
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    targets = np.eye(2, dtype=np.float32)[(images[..., 0] > 0.5).astype(int)]
    losses = [learner.step(images, targets, 1e-2) for _ in range(12)]
    assert losses[-1] < losses[0]


def learner_in_float16() -> tuple[Learner, np.ndarray, np.ndarray]:
    """A small network that learns in float16, and a batch."""
    keras.utils.set_random_seed(0)
    network = build_unet((None, None, 1), 2, filters=4, depth=1, normalisation="batch")
    learner = Learner(network, TINY, softmax=True, precision="mixed_float16")
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    return learner, images, np.eye(2, dtype=np.float32)[(images[..., 0] > 0.5).astype(int)]


def test_a_step_in_float16_learns_and_one_that_overflows_changes_no_weight() -> None:
    learner, images, targets = learner_in_float16()
    losses = [learner.step(images, targets, 1e-2) for _ in range(12)]
    assert losses[-1] < losses[0]
    before = learner.state()
    assert not np.isfinite(learner.step(1e30 * images, targets, 1e-2))
    after = learner.state()
    # Only the loss scaling knows of it: its scale is halved, its count begins anew.
    changed = [name for name in before if (before[name] != after[name]).any()]
    assert sorted(float(after[name]) for name in changed) == [0, 2**14]
    assert learner.step(images, targets, 1e-2) < losses[0]


def test_a_fit_in_float16_continues_from_its_state() -> None:
    whole, images, targets = learner_in_float16()
    for batch in (images, 1e30 * images):
        whole.step(batch, targets, 1e-2)
    again, _, _ = learner_in_float16()
    again.restore(whole.state())
    for learner in (whole, again):
        learner.step(images, targets, 1e-2)
    for one, other in zip(whole.state().values(), again.state().values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_epoch_may_end_with_an_overflow_only_in_float16() -> None:
    nan = float("nan")
    for policy, losses in (
        ("mixed_float16", (nan, nan)),
        ("float32", (0.5, nan)),
        ("mixed_bfloat16", (0.5, nan)),
    ):
        recipe = replace(TINY, precision=policy)
        with pytest.raises(ValueError, match=r"the loss became nan in epoch 1; .* than 0\.01"):
            fitting._end_epoch(Standing(losses=losses), 1e-3, recipe)
    half = replace(TINY, precision="mixed_float16")
    standing, row = fitting._end_epoch(Standing(losses=(0.5, nan)), 1e-3, half)
    assert (row["loss"], standing.losses, standing.epoch) == (0.5, (), 1)


def rows(values: list[float]) -> list[Row]:
    """A history with these losses; every second epoch is validated."""
    return [
        {"epoch": n, "steps": 10 * n, "loss": value, **({"val_dice": value} if n % 2 else {})}
        for n, value in zip(count(1), values, strict=False)
    ]


def test_the_history_has_every_network_and_empty_cells_without_validation() -> None:
    table = history_table({"axial": rows([1, 2]), "coronal": rows([3])}, (OUTER,))
    lines = table.splitlines()
    assert lines[0] == (
        "network,epoch,steps,seconds,learning_rate,loss,waiting,val_dice,val_dice_1"
    )
    assert lines[1:] == ["axial,1,10,,,1,,1,", "axial,2,20,,,2,,,", "coronal,1,10,,,3,,3,"]


def test_events_are_written_for_each_network(tmp_path: Path) -> None:
    with scalar_events(None) as write:
        write("axial", {"steps": 1, "loss": 2.0})
    with scalar_events(tmp_path / "events") as write:
        write("axial", {"steps": 1, "loss": 2.0, "val_dice": ""})
        write("coronal", {"steps": 1, "loss": 2.0})
    import tensorflow

    (file,) = (tmp_path / "events/axial").iterdir()
    events = list(tensorflow.compat.v1.train.summary_iterator(str(file)))
    values = [(value.tag, event.step) for event in events for value in event.summary.value]
    assert values == [("loss", 1)]


def test_without_tensorflow_events_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match="--tensorboard needs TensorFlow"),
        scalar_events(tmp_path / "events"),
    ):
        pass


@pytest.mark.parametrize(("cost", "validated"), [(0.0, 20), (2.0, 3), (1000.0, 1)])
def test_validations_take_at_most_a_fifth_of_the_work(
    tmp_path: Path, cost: float, validated: int
) -> None:
    recipe = replace(TINY, epochs=None, steps=20, steps_per_epoch=1)
    done, _ = fitted(tmp_path, recipe, [0.5] * validated, validation_steps=cost)
    rows = [row["steps"] for row in done.history if "val_dice" in row]
    assert (len(rows), rows[-1]) == (validated, 20)
    assert sum(cost for _ in rows[:-1]) <= 0.2 * (20 + cost * len(rows))
