"""Cases without one of their channels: training, the model, and its runs."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from runs import write_manifest
from training_cohort import INNER, OUTER, TINY, cohort

from voxtile import train
from voxtile.batch.drive import run_manifest
from voxtile.errors import ManifestError
from voxtile.manifest.rows import read_manifest
from voxtile.models.spec import Window
from voxtile.training.plan import plan_training
from voxtile.training.recipe.recipe import Recipe

RECIPE = replace(
    TINY,
    epochs=1,
    steps_per_epoch=4,
    labels=(OUTER, INNER),
    views=("axial",),
    intensity=Window(center=5, width=8),  # its zero is not 0
)


def two_channels(folder: Path, without: str, splits: str = "tttv") -> Path:
    """A manifest of channels a and b; `without` has the numbers of cases that lack b."""
    cases = read_manifest(cohort(folder, splits))
    rows = []
    for number, case in enumerate(cases):
        path = case.images[0][1]
        second = path.with_name(f"{number}b.nii")
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(1 - np.asarray(image.dataobj), image.affine), second)
        b = "" if str(number) in without else str(second)
        row = {"case_id": case.case_id, "image_a": str(path), "image_b": b}
        rows.append({**row, "label": str(case.label), "split": str(case.split)})
    return write_manifest(folder, rows)


@pytest.mark.slow
def test_a_model_learns_without_a_channel_and_runs_without_it(tmp_path: Path) -> None:
    manifest = two_channels(tmp_path, "13")
    model = train(manifest, tmp_path / "model", recipe=RECIPE, progress=False)
    assert model.spec.optional_channels == ("b",)
    assert model.spec.absent == {"b": 1.0}
    assert model.spec.training["recipe"]["channel_dropout"] == 0.333
    assert model.spec.training["missing_channels"] == {"b": 1}
    assert (
        "these may be missing: b (in 1 of 3 training cases)"
        in (model.folder / "README.md").read_text()
    )
    done = run_manifest(manifest, model, tmp_path / "out")
    codes = [{notice.code for notice in report.warnings} for report in done.reports]
    assert ["channel_missing" in found for found in codes] == [False, True, False, True]
    assert not any("constant" in found for found in codes)
    assert [set(report.qc["scan"]["intensity"]) for report in done.reports][:2] == [
        {"a", "b"},
        {"a"},
    ]
    # The validation case has the gap in the training run too: the scores are those of a run.
    known = model.spec.training["validation_dice"]["cases"]["c3"]
    assert [row.dice for row in done.reports[3].labels] == pytest.approx(known, abs=1e-3)


def test_the_rule_counts_the_cases_that_lack_a_channel(tmp_path: Path) -> None:
    manifest = two_channels(tmp_path, "0")
    plan = plan_training(manifest, progress=False)
    assert plan.recipe.channel_dropout == 0.333
    assert "1 of 3 cases lack channel b" in plan.reasons["channel_dropout"]
    a, b = plan.fingerprint.dump()["channels"]
    assert "missing" not in a
    assert b["missing"] == 1
    assert b["most"]["least"] > 0  # the zeros of the missing channel do not count
    assert plan.spec.optional_channels == ("b",)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("012", "image_b is empty in every training case, so nothing can be learned"),
        ("3", "only validation cases lack channel b"),
    ],
)
def test_gaps_that_nothing_can_be_learned_from_are_refused(
    tmp_path: Path, without: str, message: str
) -> None:
    manifest = two_channels(tmp_path, without)
    with pytest.raises(ManifestError, match=message):
        train(manifest, tmp_path / "model", recipe=Recipe(steps=1, members=1), progress=False)
