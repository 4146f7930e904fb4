"""Networks fitted at the same time, each in a process of its own."""

from dataclasses import dataclass, replace
from math import inf
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_cohort import TINY, cohort

from voxtile import Bundle, train
from voxtile.engines.keras_engine import build as build_network
from voxtile.errors import EnvironmentFault
from voxtile.machine.processes import Child
from voxtile.machine.progress import show_progress
from voxtile.training.fitting import fit_child, side_by_side
from voxtile.training.fitting.side_by_side import at_a_time, legs
from voxtile.training.recipe.recipe import Recipe

TWO = replace(TINY, epochs=1, steps_per_epoch=3, views=("axial", "coronal"), network="per_view")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what the machine has."""

    def has(*, processors: int = 4, memory_mb: float = 1e6, gpu: bool = False) -> None:
        monkeypatch.setattr(side_by_side, "thread_count", lambda: processors)
        monkeypatch.setattr(side_by_side, "free_memory_mb", lambda: memory_mb)
        monkeypatch.setattr(side_by_side, "has_gpu", lambda: gpu)

    return has


def test_as_many_at_a_time_as_there_are_processors_memory_and_networks(machine: Any) -> None:
    recipe = Recipe(minutes=30)
    machine(processors=2)
    assert [at_a_time(recipe, count) for count in (1, 2, 3, 9)] == [1, 2, 2, 2]
    machine(processors=16)
    assert [at_a_time(recipe, count) for count in (1, 3, 9, 40)] == [1, 3, 9, 16]
    machine(processors=16, memory_mb=9500)
    assert at_a_time(recipe, 9) == 3
    machine(processors=16, memory_mb=100)
    assert at_a_time(recipe, 9) == 1


def test_one_at_a_time_on_a_gpu_and_if_starting_a_process_takes_too_long(machine: Any) -> None:
    machine(gpu=True)
    assert at_a_time(Recipe(minutes=30), 9) == 1
    machine(processors=2)
    assert at_a_time(Recipe(steps=10**6), 9) == 1
    assert at_a_time(Recipe(epochs=10**3), 9) == 1
    # Three rounds of two networks: a minute each.
    assert [at_a_time(Recipe(minutes=minutes), 6) for minutes in (2.99, 3)] == [1, 2]


@given(st.integers(1, 12), st.integers(0, 30), st.floats(60, 1e5))
def test_networks_get_equal_time_and_no_process_is_idle(
    together: int, more: int, seconds: float
) -> None:
    count = together + more
    lines = legs(count, together, seconds)
    each = seconds * together / count
    cut = {number: until for line in lines for number, until in line if until < inf}
    assert sorted(number for line in lines for number, until in line if until == inf) == list(
        range(count)
    )
    for line in lines:
        place = 0.0
        for index, (number, until) in enumerate(line):
            if until < inf:
                assert index == 0 and until < each  # what is cut off comes first
                place += until
                continue
            begun = cut.get(number, 0.0)
            assert place >= begun * (1 - 1e-9)  # and is over when the fit goes on
            place += each - begun
        assert place == pytest.approx(seconds)


def test_three_networks_share_two_processes() -> None:
    assert legs(3, 2, 60) == [[(0, inf), (1, inf)], [(1, 20), (2, inf)]]
    assert legs(4, 2, 60) == [[(0, inf), (1, inf)], [(2, inf), (3, inf)]]
    assert legs(3, 3, 60) == [[(0, inf)], [(1, inf)], [(2, inf)]]


@dataclass(frozen=True)
class Idle:
    """A fit that has nothing to do."""

    number: int
    device: str = "auto"

    @property
    def name(self) -> str:
        return f"unet_{self.number}"


class Finished:
    """The process of a fit that has ended."""

    def __init__(self) -> None:
        self.line, far = Pipe()
        far.send(("done", None))

    def end(self) -> None:
        self.line.close()


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, str]] = []

    def begin(this: Idle, until_s: float, threads: int) -> Finished:
        begun.append((this.number, this.device))
        return Finished()

    monkeypatch.setattr(side_by_side, "_begin", begin)
    lines, fits = legs(4, 2, inf), [Idle(number) for number in range(4)]
    with show_progress(shown=False) as shown:
        side_by_side._fit_side_by_side(
            fits,  # type: ignore[arg-type]
            lines,
            ("gpu:0", "gpu:3"),
            shown,
            lambda network, row: None,
        )
    assert sorted(begun) == [(0, "gpu:0"), (1, "gpu:0"), (2, "gpu:3"), (3, "gpu:3")]


def trained(folder: Path, together: int, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Two networks, so many at a time."""
    monkeypatch.setattr(side_by_side, "at_a_time", lambda recipe, count: together)
    return train(folder / "cohort.csv", folder / f"out{together}", recipe=TWO)


@pytest.mark.slow
def test_networks_fitted_at_a_time_get_the_weights_of_networks_fitted_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort(tmp_path)
    one = trained(tmp_path, 1, monkeypatch)
    said = capsys.readouterr().err
    assert "network 2 of 2: coronal" in said
    two = trained(tmp_path, 2, monkeypatch)
    said = capsys.readouterr().err
    assert "2 networks, 2 at a time" in said
    assert "unet_axial: epoch 1, step 3, 100% of the budget: loss" in said
    assert "unet_coronal: epoch 1" in said
    for ours, theirs in zip(two.spec.networks, one.spec.networks, strict=True):
        now, then = build_network(two, ours), build_network(one, theirs)
        for a, b in zip(now.get_weights(), then.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)  # sums run in another order
    assert [path.name for path in tmp_path.iterdir() if "training" in path.name] == []


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_which_can_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort(tmp_path)
    with monkeypatch.context() as patch:
        # Its module cannot be imported.
        patch.setattr(side_by_side, "Child", lambda module, threads: Child("voxtile.none", threads))
        with pytest.raises(
            EnvironmentFault,
            match=r"fitted unet_\w+ died \(exit code 1\); the last checkpoint is saved",
        ):
            trained(tmp_path, 2, monkeypatch)
    # One after another from here: children take seconds to start.
    monkeypatch.setattr(side_by_side, "at_a_time", lambda recipe, count: 1)
    bundle = train(tmp_path / "cohort.csv", tmp_path / "out2", recipe=TWO, resume=True)
    assert bundle.spec.training["steps"] == 6


def test_an_unexpected_error_of_a_child_is_reported() -> None:
    near, far = Pipe()
    near.send_bytes(b"no task")
    fit_child._fit(far)
    kind, error = near.recv()
    assert (kind, type(error)) == ("failed", RuntimeError)
    assert str(error).startswith("UnpicklingError at fit_child.py line ")


@pytest.mark.slow
def test_an_error_of_a_fit_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort(tmp_path)
    monkeypatch.setattr(side_by_side, "at_a_time", lambda recipe, count: 2)
    wild = replace(TWO, learning_rate=1e30, steps_per_epoch=20)
    with pytest.raises(ValueError, match="the loss became nan in epoch 1; try a lower"):
        train(tmp_path / "cohort.csv", tmp_path / "out", recipe=wild)
