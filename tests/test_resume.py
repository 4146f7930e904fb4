"""A training that is interrupted goes on, and ends as if nothing had happened."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_cohort import TINY, cohort

from voxtile import Bundle, load_bundle, train
from voxtile.engines.keras_engine import build as build_network
from voxtile.errors import EnvironmentFault
from voxtile.training import fit
from voxtile.training.checkpoint import Standing, read_checkpoint, write_checkpoint
from voxtile.training.judging import Scores
from voxtile.training.learner import Learner
from voxtile.training.recipe_file import dump_recipe

# Dropout, because it has a state of its own; two networks, because each has a checkpoint.
RECIPE = replace(
    TINY, epochs=2, steps_per_epoch=6, dropout=0.2, views=("axial", "coronal"), network="per_view"
)
CHANGES = {"seconds", "waiting"}  # of the history, from one start to the next


def weights(bundle: Bundle) -> list[np.ndarray]:
    """Of every network of a bundle."""
    networks = [build_network(bundle, network) for network in bundle.spec.networks]
    return [value for network in networks for value in network.get_weights()]


def history(bundle: Bundle) -> list[dict[str, str]]:
    """Rows of history.csv, without what a clock decides."""
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
def test_killed_again_and_again_it_ends_whole(
    manifest: Path, whole: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(dump_recipe(RECIPE))
    out, work = tmp_path / "out", tmp_path / "out.training"
    command = [sys.executable, "-c", "from voxtile.cli import main; main()", "train", manifest]
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


def test_other_cases_do_not_go_on_from_here(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training/training.json").write_text('{"voxtile-training": 1}')
    with pytest.raises(EnvironmentFault, match="holds a training with other recipe, training"):
        train(manifest, tmp_path / "out", recipe=RECIPE, resume=True, progress=False)


def test_a_checkpoint_is_what_was_written(tmp_path: Path) -> None:
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
    with pytest.raises(EnvironmentFault, match=r"is damaged .* remove it to fit this network anew"):
        read_checkpoint(path)
