"""An interrupted training continues, and ends with the same result."""

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_cohort import TINY, cohort

from voxtile import Bundle, load_bundle, train
from voxtile.engines.keras_engine import build as build_network
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.training import drive, workfolder
from voxtile.training.fitting import fit, side_by_side
from voxtile.training.fitting.checkpoint import Standing, read_checkpoint, write_checkpoint
from voxtile.training.fitting.judging import Scores
from voxtile.training.fitting.learner import Learner
from voxtile.training.fitting.networks import NetworkFit
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe

pytestmark = pytest.mark.xdist_group("resume")  # the training without interruptions is done once

# Dropout, because it has a state of its own; two networks, because each has a checkpoint.
RECIPE = replace(
    TINY, epochs=2, steps_per_epoch=6, dropout=0.2, views=("axial", "coronal"), network="per_view"
)
CHANGES = {"seconds", "waiting"}  # columns of the history that depend on time


def weights(bundle: Bundle) -> list[np.ndarray]:
    """Of every network of a bundle."""
    networks = [build_network(bundle, network) for network in bundle.spec.networks]
    return [value for network in networks for value in network.get_weights()]


def history(bundle: Bundle) -> list[dict[str, str]]:
    """Rows of history.csv, without the columns that depend on time."""
    with (bundle.folder / "history.csv").open() as file:
        return [
            {name: cell for name, cell in row.items() if name not in CHANGES}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training cases and one to validate on."""
    return cohort(tmp_path_factory.mktemp("cohort"), "tttv")


@pytest.fixture(scope="module")
def whole(manifest: Path) -> Bundle:
    """A training that nobody interrupted."""
    return train(manifest, manifest.parent / "whole", recipe=RECIPE, progress=False)


@pytest.mark.slow
def test_interrupted_anywhere_it_ends_with_the_same_weights(
    manifest: Path, whole: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "_LONGEST_UNSAVED_S", 0)
    monkeypatch.setattr(fit, "_CHECKPOINT_SHARE", float("inf"))  # after every step
    step, count = Learner.step, 0

    def interrupted(self: Learner, *batch: object) -> float:
        nonlocal count
        count += 1
        if count in (4, 12, 20):  # in the first and second epoch, and in the second network
            raise KeyboardInterrupt
        return step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", interrupted)
    starts = 0
    while not (tmp_path / "out").exists():
        starts += 1
        try:
            train(manifest, tmp_path / "out", recipe=RECIPE, resume=True, progress=False)
        except KeyboardInterrupt:
            assert (tmp_path / "out.training/training.json").exists()
    assert starts == 4
    assert count == 2 * 2 * 6 + 3  # no step was done twice
    bundle = load_bundle(tmp_path / "out")
    for one, other in zip(weights(whole), weights(bundle), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history(bundle) == history(whole)
    assert not (tmp_path / "out.training").exists()


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_weights(
    manifest: Path, whole: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(dump_recipe(RECIPE))
    out, work = tmp_path / "out", tmp_path / "out.training"
    # As the fixture `keras_chooses` does here.
    program = (
        "from voxtile.cli import main; from voxtile.engines import Engine; "
        "from voxtile.training.choosing import choosing; "
        "choosing.choose_engine = lambda *what: Engine('keras'); main()"
    )
    command = [sys.executable, "-c", program, "train", manifest]
    command += ["--out", out, "--recipe", tmp_path / "recipe.toml", "--resume"]
    for moment in ("training.json", "unet_axial/checkpoint.npz"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        for _ in range(3000):
            if (work / moment).exists() or process.poll() is not None:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(out)
    assert history(bundle) == history(whole)
    for one, other in zip(weights(whole), weights(bundle), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not work.exists()


def test_a_training_with_other_cases_does_not_continue(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training/training.json").write_text('{"voxtile-training": 1}')
    with pytest.raises(
        EnvironmentFault,
        match=r"different training run \(recipe null instead of .*; training cases",
    ):
        train(manifest, tmp_path / "out", recipe=RECIPE, resume=True, progress=False)


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    nan = float("nan")
    scores = Scores((("a", (0.1 + 0.2, nan)), ("b", (1.0, 0.0))))
    standing = Standing(
        step=7, epoch=1, losses=(0.1, 1 / 3), best=scores, history=({"epoch": 1, "loss": 0.5},)
    )
    arrays = {"model/0000": np.arange(6, dtype=np.float32).reshape(2, 3), "best/0000": np.ones(2)}
    path = tmp_path / "checkpoint.npz"
    assert read_checkpoint(path) is None
    write_checkpoint(path, standing, arrays)
    again, read = read_checkpoint(path) or pytest.fail("nothing there")
    assert repr(again) == repr(standing)  # NaN is not equal to itself
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    write_checkpoint(path, Standing(), {"model/0000": np.zeros(1000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        EnvironmentFault, match=r"is damaged .* remove it to fit this network again"
    ):
        read_checkpoint(path)


def stop_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    """Let a function of a module be where somebody presses Ctrl-C."""

    def pressed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, pressed)


def begin(manifest: Path, out: Path, recipe: Recipe) -> None:
    """Begin a training that is interrupted when its networks are to be fitted."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, side_by_side, "fit_networks")
        train(manifest, out, recipe=recipe, resume=True, progress=False)


@pytest.mark.slow
def test_it_continues_with_its_first_choices_though_the_rules_would_choose_differently_now(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(
        RECIPE, epochs=None, minutes=0.02, filters=None, members=1, views=("axial",), dropout=0
    )
    monkeypatch.setattr(drive, "fitting_rate", lambda device: 1e15)
    begin(manifest, tmp_path / "out", recipe)
    chosen = (tmp_path / "out.training/recipe.toml").read_bytes()
    assert b"filters = 32  #" in chosen
    monkeypatch.setattr(drive, "fitting_rate", lambda device: 1e6)
    bundle = train(manifest, tmp_path / "out", recipe=recipe, resume=True, progress=False)
    assert (bundle.folder / "recipe.toml").read_bytes() == chosen
    assert bundle.spec.training["recipe"]["filters"] == 32


@pytest.mark.slow
def test_a_network_keeps_its_time_if_fewer_are_fitted_at_a_time(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, epochs=None, minutes=10, members=1)
    asked: list[tuple[float | None, int]] = []

    def asking(fits: list[NetworkFit], *, together: int, **kwargs: object) -> None:
        asked.append((fits[0].seconds, together))
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "fit_networks", asking)
    for at_once in (2, 1):
        monkeypatch.setattr(side_by_side, "at_a_time", lambda recipe, count, it=at_once: it)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "out", recipe=recipe, resume=True, progress=False)
    assert asked == [(600, 2), (600, 1)]


@pytest.mark.slow
def test_the_hash_is_that_of_the_manifest_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = cohort(tmp_path, "tv")
    before = hashlib.sha256(manifest.read_bytes()).hexdigest()
    fit = side_by_side.fit_networks

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        manifest.write_text(manifest.read_text() + "\n")
        return fit(*args, **kwargs)

    monkeypatch.setattr(side_by_side, "fit_networks", meanwhile)
    short = replace(RECIPE, epochs=1, steps_per_epoch=1, views=("axial",), dropout=0)
    bundle = train(manifest, tmp_path / "out", recipe=short, progress=False)
    assert hashlib.sha256(manifest.read_bytes()).hexdigest() != before
    assert bundle.spec.training["manifest_sha256"] == before


@pytest.mark.slow
def test_a_kill_after_the_bundle_is_finished_leaves_no_patient_data_after_resume(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = tmp_path / "out", tmp_path / "out.training"
    short = replace(RECIPE, epochs=1, steps_per_epoch=1, views=("axial",), dropout=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, workfolder, "_remove")
        train(manifest, out, recipe=short, progress=False)
    assert (work / "cases").exists()
    done = load_bundle(out)
    with pytest.raises(EnvironmentFault, match=r"out exists; .*--resume removes .*out\.training"):
        train(manifest, out, recipe=short, progress=False)
    with pytest.raises(EnvironmentFault, match="recipe's epochs 1 instead of 2"):
        train(manifest, out, recipe=RECIPE, resume=True, progress=False)
    again = train(manifest, out, recipe=short, resume=True, progress=False)
    assert again.sha256 == done.sha256
    assert not work.exists()
    with pytest.raises(EnvironmentFault, match=r"exists; choose another name or remove it first$"):
        train(manifest, out, recipe=short, resume=True, progress=False)


def test_a_folder_with_other_files_is_not_changed(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training/notes.txt").write_text("mine")
    with pytest.raises(EnvironmentFault, match="contains other files; move them away"):
        train(manifest, tmp_path / "out", recipe=RECIPE, progress=False)
    assert (tmp_path / "out.training/notes.txt").read_text() == "mine"


def test_a_file_that_is_unreadable_for_a_moment_does_not_remove_stored_cases(
    tmp_path: Path,
) -> None:
    manifest = cohort(tmp_path, "ttv")
    begin(manifest, tmp_path / "out", RECIPE)
    image = tmp_path / "1.nii"
    content = image.read_bytes()
    image.write_bytes(b"for a moment")
    kept = sorted((tmp_path / "out.training/cases").iterdir())
    with pytest.raises(ManifestError, match="case c1"):
        train(manifest, tmp_path / "out", recipe=RECIPE, resume=True, progress=False)
    assert sorted((tmp_path / "out.training/cases").iterdir()) == kept
    image.write_bytes(content)
    begin(manifest, tmp_path / "out", RECIPE)
