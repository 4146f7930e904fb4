"""A finished model is trained further, and replaced only by a whole one."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_cohort import INNER, OUTER, TINY, cohort

from voxtile import Bundle, load_bundle, train
from voxtile.engines.keras_engine import build as build_network
from voxtile.errors import EnvironmentFault, UsageError
from voxtile.models.spec import Network
from voxtile.training import drive, longer
from voxtile.training.fitting.learner import Learner
from voxtile.training.longer import finished_model, further
from voxtile.training.recipe.recipe import Recipe

FIRST = replace(TINY, epochs=2, steps_per_epoch=6, labels=(OUTER, INNER), views=("axial",))
MORE = Recipe(steps=9)


def go_on(manifest: Path, out: Path, recipe: Recipe = MORE, **options: Any) -> Bundle:
    """Train further."""
    return train(manifest, out, recipe=recipe, resume=True, longer=True, progress=False, **options)


def history(bundle: Bundle) -> list[dict[str, str]]:
    """Rows of history.csv."""
    with (bundle.folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def weights(bundle: Bundle) -> list[np.ndarray]:
    """Of the only network."""
    return build_network(bundle, bundle.spec.networks[0]).get_weights()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort(tmp_path_factory.mktemp("cohort"), "ttv")


@pytest.fixture(scope="module")
def first(manifest: Path) -> Bundle:
    """The model that was trained first."""
    out = manifest.parent / "first"
    licence = manifest.parent / "licence.txt"
    licence.write_text("CC0")
    return train(manifest, out, recipe=FIRST, progress=False, licence=licence, description="Balls.")


@pytest.fixture
def model(first: Bundle, tmp_path: Path) -> Path:
    """A copy of it, to train further."""
    return Path(shutil.copytree(first.folder, tmp_path / "first"))


@pytest.mark.slow
def test_longer_training_goes_on_and_an_interruption_changes_nothing(
    manifest: Path, first: Bundle, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go_on(manifest, Path(shutil.copytree(model, tmp_path / "whole/first")))
    step, rates = Learner.step, []

    def interrupted(self: Learner, images: Any, targets: Any, rate: float) -> float:
        rates.append(rate)
        if len(rates) == 8:
            raise KeyboardInterrupt
        return step(self, images, targets, rate)

    monkeypatch.setattr(Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go_on(manifest, model)
    assert load_bundle(model).sha256 == first.sha256  # it stays until the new one is whole
    bundle = go_on(manifest, model)
    assert set(tmp_path.iterdir()) == {
        model,
        tmp_path / "whole",
    }
    for one, other in zip(weights(whole), weights(bundle), strict=True):
        np.testing.assert_array_equal(one, other)

    rows, before = history(bundle), history(first)
    assert rows[:2] == before
    assert [(row["epoch"], row["steps"]) for row in rows[2:]] == [("3", "18"), ("4", "21")]
    assert float(rows[2]["seconds"]) > float(before[-1]["seconds"])
    assert rates[0] < max(rates) == pytest.approx(1e-2, rel=0.1)  # a warm restart at the same peak
    facts = bundle.spec.training
    assert facts["steps"] == 21
    assert facts["longer"] == [
        {
            "model": first.sha256,
            "steps": 12,
            "budget": {"epochs": 2},
            "learning_rate": 1e-2,
            "optimiser": "new",
        }
    ]
    assert "After 12 steps (budget 2 epochs, model" in (model / "README.md").read_text()
    assert (
        "steps = 9  # a warm restart of the schedule, after 2 epochs"
        in (model / "recipe.toml").read_text()
    )
    assert (model / "LICENSE").read_text() == "CC0"
    assert bundle.spec.description == "Balls."


@pytest.mark.slow
def test_the_first_weights_stay_if_no_later_ones_are_better(
    manifest: Path, first: Bundle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(MORE, learning_rate=10.0, steps=3)  # destroys the network
    bundle = go_on(manifest, model, recipe)
    for one, other in zip(weights(first), weights(bundle), strict=True):
        np.testing.assert_array_equal(one, other)
    assert bundle.spec.training["networks"][0]["best_epoch"] == 2


@pytest.mark.slow
def test_a_model_of_a_version_without_positions_and_muon_is_trained_further(
    manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "old"
    recipe = replace(FIRST, position=False, optimizer="adamw")
    train(manifest, out, recipe=recipe, progress=False)
    for name, line in (
        ("recipe.toml", r"position = .*\n"),
        ("recipe.toml", r"optimizer = .*\n"),
        ("spec.json", r' *"position": .*\n'),
    ):
        text = (out / name).read_text()
        assert re.search(line, text)
        (out / name).write_text(re.sub(line, "", text))
    described = json.loads((out / "fingerprint.json").read_text())
    for label in described["labels"]:
        del label["place_sd"]
    (out / "fingerprint.json").write_text(json.dumps(described))
    bundle = go_on(manifest, out)
    assert bundle.spec.position is False
    assert bundle.spec.training["recipe"]["optimizer"] == "adamw"
    assert bundle.spec.training["networks"][0]["steps"] > 0


@pytest.mark.slow
def test_a_kill_while_the_model_is_replaced_loses_neither(
    manifest: Path, first: Bundle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = drive.publish

    def killed(work: Path, out: Path, *, replaces: bool) -> None:
        bundle = work / "bundle"
        shutil.move(bundle, work / "kept")
        with pytest.raises(EnvironmentFault):  # the old model comes back
            publish(work, out, replaces=replaces)
        assert load_bundle(out).sha256 == first.sha256
        shutil.move(work / "kept", bundle)
        out.rename(work / "before")
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        go_on(manifest, model)
    assert not model.exists()
    bundle = go_on(manifest, model)
    assert bundle.spec.training["steps"] == 21
    assert list(model.parent.iterdir()) == [model]


@pytest.mark.slow
def test_what_a_model_does_not_know_is_refused(
    manifest: Path, first: Bundle, model: Path, tmp_path: Path
) -> None:
    def refused(message: str, recipe: Recipe = MORE, rows: Path = manifest, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            go_on(rows, model, recipe, **options)

    refused(
        "filters is another one .* 8 instead of 4; leave filters out", Recipe(steps=9, filters=8)
    )
    refused("how much longer", Recipe())
    refused("labels is another one", replace(MORE, labels=(OUTER,)))
    refused("leave --init out", init=model)
    refused("trained with 2 cases of split train, but the manifest has 1 other", validation=False)
    (tmp_path / "other").mkdir()
    other = cohort(tmp_path / "other", "ttv")
    refused("the fingerprint has other", rows=_brighter(other))
    (model / "notes.txt").write_text("mine")
    refused(r"no part of a model \(notes.txt\)")
    (model / "notes.txt").unlink()
    (model / "recipe.toml").unlink()
    refused("has no recipe.toml")
    assert load_bundle(model).sha256 == first.sha256
    assert not (tmp_path / "first.training").exists()


def _brighter(manifest: Path) -> Path:
    """The same cases with other intensities."""
    import nibabel

    for path in manifest.parent.glob("?.nii"):
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj) * 2
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), image.affine), path)
    return manifest


def test_other_folders_and_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a finished model"):
        finished_model(tmp_path / "out")
    with pytest.raises(UsageError, match="add --resume"):
        train(tmp_path / "m.csv", tmp_path / "out", longer=True)


def test_a_joined_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_bundle("hippocampus")
    spec = shipped.spec.model_copy(update={"training": {"folds": 5}})
    (tmp_path / "spec.json").touch()
    monkeypatch.setattr(longer, "load_bundle", lambda folder: Bundle(tmp_path, spec))
    with pytest.raises(UsageError, match="was imported or joined"):
        finished_model(tmp_path)


def test_a_network_with_a_weight_for_each_view_is_one_network(tmp_path: Path) -> None:
    spec = load_bundle("hippocampus").spec
    entry = Network(file="unet.keras", sha256="0" * 64, views=("axial",), weight=0.3)
    several = (entry, entry.model_copy(update={"views": ("coronal",), "weight": 0.7}))
    (merged,) = longer._as_trained(spec.model_copy(update={"networks": several})).networks
    assert (merged.views, merged.weight) == (("axial", "coronal"), 1)


def test_reasons_of_the_recipe_stay(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        'minutes = 18.0  # the default\nviews = ["axial"]  # why\n'
    )
    spec = load_bundle("hippocampus").spec
    spec = spec.model_copy(
        update={"networks": spec.networks[:1], "training": {"recipe": {"minutes": 18.0}}}
    )
    recipe, reasons = further(Recipe(minutes=60), Bundle(tmp_path, spec))
    assert recipe.minutes == 60
    assert reasons == {
        "minutes": "a warm restart of the schedule, after 18 minutes",
        "views": "why",
    }
