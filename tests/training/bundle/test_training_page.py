"""The page of a training run: its curves, recipe and scores are those of the files."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import make_spec

from voxtile.models.bundle import Bundle
from voxtile.report.tables import csv_text, report_table
from voxtile.run_folder.case_report import CaseReport
from voxtile.scoring.rows import LabelRow
from voxtile.training.bundle.training_page import (
    recipe_table,
    write_progress_page,
    write_training_page,
)
from voxtile.training.fitting.checkpoint import Standing, write_checkpoint
from voxtile.training.folds.cross_validation_page import cross_validation_table
from voxtile.training.folds.finished_folds import FinishedFold
from voxtile.training.folds.folds_page import write_folds_page

HISTORY = """network,epoch,steps,seconds,learning_rate,loss,waiting,val_dice,val_dice_1
axial,1,10,6,0.1,0.9,0,,
axial,2,20,12,0.1,0.5,0,0.8,0.8
coronal,1,10,6,0.1,0.8,0,0.7,0.7
"""
SELECTION = {
    "cases": 2,
    "weights": {"axial": 1.0},
    "weights_changed": False,
    "thresholds_changed": False,
    "postprocess": [],
    "dice": {"axial": 0.7, "before": 0.7, "chosen": 0.75},
}
SCORES = {
    "mean": 0.75,
    "labels": [
        {"value": 1, "name": "ball", "mean": 0.75, "sd": 0.1, "min": 0.7, "n": 2, "ci": [0.7, 0.8]}
    ],
    "cases": {"good": [0.8], "bad": [0.7], "empty": [None]},
}
FACTS = {
    "networks": [{"views": ["axial"], "best_epoch": 2}, {"views": ["coronal"], "best_epoch": 1}],
    "fit_seconds": 90.0,
    "selection": SELECTION,
    "validation_dice": SCORES,
}
RECIPE = """seed = 0
filters = 16  # few steps  # in this time
name = "a  # b"  # why

[tile]  # x
axial = 8
"""


def data_of(page: Path) -> Any:
    text = page.read_text("utf-8")
    assert "default-src &#x27;none&#x27;" in text
    return json.loads(re.findall(r'id="report-data">(.*?)</script>', text)[0])


def bundle_in(folder: Path, **facts: Any) -> Bundle:
    folder.mkdir()
    (folder / "history.csv").write_text(HISTORY)
    (folder / "recipe.toml").write_text(RECIPE)
    return Bundle(folder, make_spec(training={**FACTS, **facts}))


@settings(max_examples=40)
@given(st.text(st.characters(codec="ascii", categories=["L", "P", "S", "Zs"])), st.text("# ab"))
def test_a_choice_and_its_reason_are_told_apart_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, value: str, reason: str
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(f"name = {json.dumps(value)}  # {reason}\n")
    (table,) = recipe_table(path)
    ((name, said, why),) = table["rows"]
    assert (name, tomllib.loads(f"x = {said}")["x"], why) == ("name", value, reason)


def test_a_recipe_is_shown_with_its_reasons(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert next(recipe_table(tmp_path / "recipe.toml"))["rows"] == [
        ["seed", "0", ""],
        ["filters", "16", "few steps  # in this time"],
        ["name", '"a  # b"', "why"],
        ["tile", "", "x"],
        ["tile.axial", "8", ""],
    ]
    assert list(recipe_table(tmp_path / "none.toml")) == []


def test_the_page_of_a_model_has_its_curves_and_scores(tmp_path: Path) -> None:
    data = data_of(write_training_page(bundle_in(tmp_path / "model")))
    (curves,) = data["curves"]
    assert curves["networks"]["axial"]["val_dice"] == [None, 0.8]
    assert curves["best"] == {"axial": 2, "coronal": 1}
    assert [(one["id"], one["labels"][0][1]) for one in data["cases"]] == [
        ("bad", 0.7),
        ("good", 0.8),
        ("empty", None),
    ]
    row = dict(zip(data["summary"]["header"], data["summary"]["rows"][0], strict=True))
    assert (row["mean"], row["ci_low"], row["worst"]) == (0.75, 0.7, 0.7)
    masks, facts, recipe = data["tables"]
    assert masks["about"] == "2 validation cases chose: no change (no candidate was better)."
    assert ["Time of the fit", "1.5 min"] in facts["rows"]
    assert recipe["title"] == "Recipe"


def test_a_model_without_a_history_or_scores_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    data = data_of(write_training_page(Bundle(tmp_path / "imported", make_spec())))
    assert (data["cases"], data["curves"][0]["networks"]) == ([], {})


def held_out(number: int, dice: dict[str, float], view: str) -> pd.DataFrame:
    reports = [
        CaseReport(case_id, "done", labels=(LabelRow(1, "ball", "ok", dice=value),))
        for case_id, value in dice.items()
    ]
    return report_table(reports).assign(fold=number, view=view)


def test_the_page_of_folds_has_every_case_with_its_fold(tmp_path: Path) -> None:
    folds = []
    for number, dice in enumerate([{"a": 0.8, "b": 0.9}, {"c": 0.6}]):
        fold = {"number": number, "count": 3, "seed": 0}
        bundle = bundle_in(tmp_path / f"fold{number}", fold=fold)
        alone = {name: value - 0.1 for name, value in dice.items()}
        parts = [held_out(number, dice, "fused"), held_out(number, alone, "axial")]
        table = pd.concat(parts, ignore_index=True)
        (bundle.folder / "held_out.csv").write_text(csv_text(table))
        folds.append(FinishedFold(number, bundle, table))
    table = cross_validation_table(pd.concat([fold.table for fold in folds], ignore_index=True))
    data = data_of(write_folds_page(tmp_path, folds, table))
    assert data["lines"][0].startswith("2 of 3 folds, 3 cases,")
    assert [one["name"] for one in data["curves"]] == ["fold 0", "fold 1"]
    keys = [column["key"] for column in data["columns"]["label"]]
    alone = {one["id"]: one["labels"][0][1 + keys.index("dice.axial")] for one in data["cases"]}
    assert alone == pytest.approx({"c": 0.5, "a": 0.7, "b": 0.8})
    assert [(one["id"], one["values"][0]) for one in data["cases"]] == [
        ("c", "fold 1"),
        ("a", "fold 0"),
        ("b", "fold 0"),
    ]
    assert data["tables"][0]["rows"][0] == [
        "0", 2, 0.85, "1.5", "no change (no candidate was better)",
    ]  # fmt: skip
    header = data["summary"]["header"]
    fused = dict(zip(header, data["summary"]["rows"][0], strict=True))
    assert (fused["view"], fused["n"]) == ("fused", 3)


def test_a_training_run_in_progress_shows_its_finished_epochs(tmp_path: Path) -> None:
    work = tmp_path / "model.training"
    for name in ("unet_axial", "unet_coronal"):
        rows = ({"epoch": 1, "steps": 5, "seconds": 1.0, "loss": 0.5, "val_dice_1": 0.2},)
        (work / name).mkdir(parents=True)
        path = work / name / "checkpoint.npz"
        write_checkpoint(path, Standing(step=5, epoch=1, history=rows), {"w": np.zeros(1)})
    (work / "unet_sagittal").mkdir()  # its first epoch is not finished
    write_checkpoint(work / "unet_sagittal/checkpoint.npz", Standing(step=2), {"w": np.zeros(1)})
    data = data_of(write_progress_page(work))
    assert data["run"]["name"] == "model"
    assert data["lines"] == ["In progress: 2 networks with finished epochs."]
    assert data["curves"][0]["networks"]["unet_coronal"]["loss"] == [0.5]
    assert [label["name"] for label in data["labels"]] == ["label 1"]


def test_report_writes_the_page_of_a_model_that_was_trained_before(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "models/hippocampus"
    shutil.copytree(shipped, tmp_path / "hippocampus")
    code, said = invoke("report", tmp_path / "hippocampus")
    assert (code, said.strip()) == (0, f"page: {tmp_path / 'hippocampus/training.html'}")
    data = data_of(tmp_path / "hippocampus/training.html")
    assert (len(data["cases"]), len(data["curves"][0]["networks"])) == (40, 3)
    code, said = invoke("report", tmp_path / "hippocampus", "--by", "site")
    assert code == 2
    assert "is a training run, whose page needs no options" in said
