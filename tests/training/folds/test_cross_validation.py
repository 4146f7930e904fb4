"""Folds end to end on phantoms, what joining refuses, and the ensemble's arithmetic."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from phantoms import make_spec
from training_cohort import TINY, cohort
from typer.testing import CliRunner

from voxtile import load_bundle
from voxtile.cli import app
from voxtile.engines import Engine, load_models
from voxtile.errors import EnvironmentFault, ManifestError, ModelError
from voxtile.inference.infer import infer
from voxtile.machine.files import write_text
from voxtile.models.spec import Cleaning, Label, Network
from voxtile.preparation.plan import make_plan
from voxtile.reading.nifti import read_nifti
from voxtile.report.summary import COLUMNS
from voxtile.report.tables import csv_text
from voxtile.training.folds.cross_validation import cross_validate
from voxtile.training.folds.cross_validation_page import cross_validation_table
from voxtile.training.folds.ensemble import ensemble_spec
from voxtile.training.folds.finished_folds import check_alike
from voxtile.training.folds.held_out import HELD_OUT, read_held_out
from voxtile.training.recipe.warm_start import warm_start_facts
from voxtile.volume import Axes, reorient
from voxtile.writing.nifti import write_mask

runner = CliRunner()
pytestmark = pytest.mark.xdist_group("cross-validation")  # its folds are trained once

RECIPE = replace(TINY, epochs=1, steps_per_epoch=15, views=("axial", "coronal"), network="per_view")


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds, one by one as on two days, then joined."""
    folder = tmp_path_factory.mktemp("folds")
    manifest = cohort(folder, "ttttvv")
    label = read_nifti(folder / "3_label.nii.gz").volume
    turned = reorient(label, Axes((1, 0, 2), (False, True, False)))
    write_mask(folder / "3_label.nii.gz", turned)
    said: list[str] = []
    settings = {"recipe": RECIPE, "progress": False, "say": said.append}
    assert cross_validate(manifest, folder / "cv", 2, only=1, **settings) is None
    assert said[-1] == "1 of 2 folds are finished; missing: fold 0"
    with pytest.raises(EnvironmentFault, match="missing: fold 0; train them with --fold"):
        cross_validate(manifest, folder / "cv", 2, join=True, recipe=RECIPE)
    done = cross_validate(manifest, folder / "cv", 2, **settings)
    assert done is not None
    assert "fold 1: finished before" in said
    assert [line.split(":")[0] for line in done.lines()][:3] == [
        "fused, label 1",
        "fused, label 2",
        "fused, mean of labels",
    ]
    return folder


@pytest.mark.slow
def test_every_case_is_scored_once_per_view_by_the_fold_that_held_it_out(folds: Path) -> None:
    tables = [pd.read_csv(folds / f"cv/fold{number}/held_out.csv") for number in (0, 1)]
    table = pd.concat(tables)
    assert list(table.columns)[:5] == ["case_id", "label", "label_name", "status", "dice"]
    assert set(table["view"]) == {"fused", "axial", "coronal"}
    counts = table.groupby(["case_id", "label", "view"]).size()
    assert (counts == 1).all() and len(counts) == 6 * 2 * 3
    for number, part in enumerate(tables):
        facts = load_bundle(folds / f"cv/fold{number}").spec.training
        assert set(part["case_id"]) == set(facts["fold"]["held_out"])
        used = {*facts["train"], *facts["val"]}
        assert not used & set(part["case_id"])
        assert len(used) + part["case_id"].nunique() == 6
    assert table[["hd95_mm", "iou"]].notna().all(axis=None)
    told = table[table["warnings"].notna()]
    assert set(told["case_id"]) == {"c3"} and len(told) == 2 * 3
    assert told["warnings"].str.startswith("label_reoriented").all()


@pytest.mark.slow
def test_the_tables_are_those_of_the_held_out_cases(folds: Path) -> None:
    summary = pd.read_csv(folds / "cv/cross_validation.csv")
    assert list(summary.columns) == ["view", *COLUMNS[:-2]]
    table = pd.concat(pd.read_csv(folds / f"cv/fold{number}/held_out.csv") for number in (0, 1))
    fused = table[(table["view"] == "fused") & (table["label"] == 1)]["dice"]
    row = summary.query("view == 'fused' and label == 1 and metric == 'dice'").iloc[0]
    assert (row["mean"], row["sd"], row["worst"]) == pytest.approx(
        (fused.mean(), fused.std(ddof=1), fused.min())
    )
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    both = summary.query("view == 'axial' and label == 0 and metric == 'hd95_mm'").iloc[0]
    axial = table[table["view"] == "axial"].groupby("case_id")["hd95_mm"].mean()
    assert (both["label_name"], both["n"]) == ("mean of labels", 6)
    assert (both["mean"], both["worst"]) == pytest.approx((axial.mean(), axial.max()))
    page = (folds / "cv/cross_validation.md").read_text()
    for words in ("2 folds of 6 cases", "| fused | mean of labels | 6 of 6 |", "| axial |"):
        assert words in page
    assert page.count("no change (no candidate was better)") == 2  # one case a fold chose
    html = (folds / "cv/cross_validation.html").read_text("utf-8")
    assert "2 of 2 folds, 6 cases, each segmented by the fold that held it out." in html


@pytest.mark.slow
def test_the_ensemble_is_a_bundle_of_every_network(folds: Path) -> None:
    bundle = load_bundle(folds / "cv/ensemble")
    assert [(one.file, one.views, one.weight) for one in bundle.spec.networks] == [
        (f"fold{number}_unet_{view}.keras", (view,), 0.25)
        for number in (0, 1)
        for view in ("axial", "coronal")
    ]
    assert bundle.spec.name == "cv"
    assert (bundle.spec.training["n_train"], len(bundle.spec.training["folds"])) == (6, 2)
    assert bundle.spec.training["domain"]["cases"] == 6
    assert bundle.spec.training["domain"]["faces"]["1"]["cases"] > 0
    card = (bundle.folder / "README.md").read_text()
    assert "mean of labels" in card and "Not a medical device" in card
    scan = read_nifti(folds / "0.nii").volume
    models = load_models(bundle, Engine("keras"))
    mask = infer(scan, bundle.spec, models, make_plan(bundle))
    assert mask.shape == scan.shape
    assert set(np.unique(mask.array)) <= {0, 1, 2}


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_writes_the_same(folds: Path) -> None:
    def content() -> dict[str, bytes]:
        root = folds / "cv"
        return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = content()
    assert not [name for name in before if ".training" in name or "/." in name]
    cross_validate(folds / "cohort.csv", folds / "cv", 2, recipe=RECIPE, progress=False)
    assert content() == before


@pytest.mark.slow
def test_another_recipe_seed_number_or_manifest_is_refused_before_anything_is_trained(
    folds: Path, tmp_path: Path
) -> None:
    manifest, out = folds / "cohort.csv", folds / "cv"
    with pytest.raises(EnvironmentFault, match=r"learning_rate 0\.01 instead of 0\.001"):
        cross_validate(manifest, out, 2, recipe=replace(RECIPE, learning_rate=1e-3))
    with pytest.raises(
        ModelError, match=r"fold0 is of a different cross-validation: seed 0 instead of 3"
    ):
        cross_validate(manifest, out, 2, recipe=replace(RECIPE, seed=3))
    with pytest.raises(ModelError, match="count 2 instead of 3"):
        cross_validate(manifest, out, 3, recipe=RECIPE)
    other = folds / "other.csv"
    other.write_text(manifest.read_text() + "\n")
    with pytest.raises(ModelError, match="manifest_sha256"):
        cross_validate(other, out, 2, join=True, recipe=RECIPE)


@pytest.mark.slow
def test_joining_says_what_differs(folds: Path, tmp_path: Path) -> None:
    bundles = []
    for number in (0, 1):
        folder = tmp_path / f"fold{number}"
        shutil.copytree(folds / f"cv/fold{number}", folder)
        spec = json.loads((folder / "spec.json").read_text())
        if number:
            spec["training"]["recipe"]["batch"] = 5
            spec["training"]["recipe"]["precision"] = "of another machine"
            spec["overlap"] = 0.25
            spec["training"]["fold"]["number"] = 4
        (folder / "spec.json").write_text(json.dumps(spec))
        bundles.append(load_bundle(folder))
    with pytest.raises(ModelError) as caught:
        check_alike(bundles)
    words = str(caught.value)
    assert "recipe's batch 5 instead of 8; spec's overlap 0.25 instead of 0.5" in words
    assert "fold1 is fold 4; name it fold4" in words
    assert "precision" not in words
    alone = load_bundle(folds / "cv/ensemble")
    with pytest.raises(ModelError, match="is not a fold of a cross-validation"):
        check_alike([alone])


@pytest.mark.slow
def test_folds_copied_from_other_machines_join_without_the_rest(
    folds: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        shutil.copytree(folds / f"cv/fold{number}", tmp_path / f"cv/fold{number}")
    done = cross_validate(folds / "cohort.csv", tmp_path / "cv", 2, join=True, recipe=RECIPE)
    assert done is not None
    assert done.page == (folds / "cv/cross_validation.md").read_text()
    assert done.ensemble.sha256 == load_bundle(folds / "cv/ensemble").sha256


@pytest.mark.slow
def test_joining_needs_no_scans(folds: Path, tmp_path: Path) -> None:
    shutil.copy(folds / "cohort.csv", tmp_path / "cohort.csv")
    for number in (0, 1):
        shutil.copytree(folds / f"cv/fold{number}", tmp_path / f"cv/fold{number}")
    done = cross_validate(tmp_path / "cohort.csv", tmp_path / "cv", 2, join=True, recipe=RECIPE)
    assert done is not None
    assert done.page == (folds / "cv/cross_validation.md").read_text()


@pytest.mark.slow
def test_a_fold_of_another_recipe_is_refused_before_the_others_are_trained(
    folds: Path, tmp_path: Path
) -> None:
    shutil.copytree(folds / "cv/fold0", tmp_path / "cv/fold0")
    asked = replace(RECIPE, batch=5)
    with pytest.raises(
        ModelError, match=r"fold0 cannot be joined .*: recipe's batch 8 instead of 5\n"
    ):
        cross_validate(folds / "cohort.csv", tmp_path / "cv", 2, recipe=asked, progress=False)
    assert not (tmp_path / "cv/fold1").exists()


@pytest.mark.slow
def test_an_ensemble_names_the_model_that_its_folds_started_with(
    folds: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        folder = tmp_path / f"cv/fold{number}"
        shutil.copytree(folds / f"cv/fold{number}", folder)
        spec = json.loads((folder / "spec.json").read_text())
        begun = {"name": "old", "sha256": "ab", "cases": ["p1"], "seen": ["c2"] if number else []}
        spec["training"]["init"] = begun
        (folder / "spec.json").write_text(json.dumps(spec))
    done = cross_validate(folds / "cohort.csv", tmp_path / "cv", 2, join=True, recipe=RECIPE)
    assert done is not None
    again = warm_start_facts(done.ensemble, ["p1", "p2"])
    assert again["seen"] == ["p1"]
    card = (done.ensemble.folder / "README.md").read_text()
    assert "The fit started with the weights of old (ab). old was trained" in card
    assert "1 of the 6 scored cases" in card


@pytest.mark.slow
def test_without_validation_every_case_outside_a_fold_trains(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "tttv")
    settings = {"recipe": replace(RECIPE, views=("axial",)), "progress": False}
    done = cross_validate(manifest, tmp_path / "cv", 2, validation=False, **settings)
    assert done is not None and "nothing was chosen" in done.page
    facts = load_bundle(tmp_path / "cv/fold0").spec.training
    assert (facts["n_train"], facts["n_val"], len(facts["fold"]["held_out"])) == (2, 0, 2)
    scored = read_held_out(tmp_path / "cv/fold0")
    assert scored is not None and {*scored["case_id"]} == {*facts["fold"]["held_out"]}
    with pytest.raises(
        EnvironmentFault, match=r"different cross-validation \(validation false instead"
    ):
        cross_validate(manifest, tmp_path / "cv", 2, only=1, **settings)


def test_a_fold_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "ttv")
    with pytest.raises(ValueError, match="fold 3 does not exist; choose 0 to 2"):
        cross_validate(manifest, tmp_path / "cv", 3, only=3)
    with pytest.raises(ManifestError, match="too few for 5 folds; use fewer folds"):
        cross_validate(manifest, tmp_path / "cv", 5)
    assert not (tmp_path / "cv").exists()


def networks(*weights: float) -> tuple[Network, ...]:
    views = ("axial", "coronal", "sagittal")
    return tuple(
        Network(file=f"{view}.keras", sha256="0" * 64, views=(view,), weight=weight)
        for view, weight in zip(views, weights, strict=False)
        if weight
    )


def test_all_folds_weigh_the_same_and_networks_keep_their_relative_weights() -> None:
    shared = Network(file="unet.keras", sha256="1" * 64, views=("axial", "coronal"))
    specs = [
        make_spec(networks=networks(0.2, 0.8)),
        make_spec(networks=networks(0, 3.0)),
        make_spec(networks=(shared,)),
    ]
    together = ensemble_spec(specs, "both", {})
    shares = {(one.file, *one.views): 3 * one.weight for one in together.networks}
    assert shares == pytest.approx(
        {
            ("fold0_axial.keras", "axial"): 0.2,
            ("fold0_coronal.keras", "coronal"): 0.8,
            ("fold1_coronal.keras", "coronal"): 1.0,
            ("fold2_unet.keras", "axial", "coronal"): 0.5,  # for each of its views
        }
    )


def test_thresholds_are_averaged_and_a_step_is_used_if_more_than_half_of_the_folds_chose_it() -> (
    None
):
    labels = (Label(value=1, name="a", color="#000000"), Label(value=2, name="b", color="#ffffff"))
    steps = [
        (Cleaning(label=1, largest=1), Cleaning(label=2, smallest_mm3=10, fill_holes=True)),
        (Cleaning(label=1, largest=2, fill_holes=True), Cleaning(label=2, smallest_mm3=30)),
        (Cleaning(label=1, largest=1),),
        (),
    ]
    thresholds = [(0.3, 0.5), (), (0.5, 0.9), (0.5, 0.5)]
    specs = [
        make_spec(labels=labels, activation="sigmoid", postprocess=step, thresholds=threshold)
        for step, threshold in zip(steps, thresholds, strict=True)
    ]
    together = ensemble_spec(specs, "all", {})
    assert together.thresholds == (0.45, 0.6)
    assert together.postprocess == (Cleaning(label=1, largest=1),)
    of_three = ensemble_spec(specs[:3], "three", {})
    assert of_three.postprocess == (
        Cleaning(label=1, largest=1),
        Cleaning(label=2, smallest_mm3=20),
    )


def test_a_failed_case_stays_in_every_count() -> None:
    rows = [
        {
            "case_id": case,
            "label": label,
            "label_name": f"l{label}",
            "status": status,
            "dice": dice,
            "iou": dice,
            "group": None,
            "view": "fused",
            "fold": 0,
        }
        for case, status, values in (
            ("a", "ok", (0.8, 0.6)),
            ("b", "ok", (0.9, np.nan)),
            ("c", "failed", (np.nan, np.nan)),
        )
        for label, dice in zip((1, 2), values, strict=True)
    ]
    summary = cross_validation_table(pd.DataFrame(rows))
    dice = summary[summary["metric"] == "dice"].set_index("label")
    assert dice["n"].tolist() == [3, 3, 3]
    assert dice["n_used"].tolist() == [2, 1, 2]
    assert dice["n_failed"].tolist() == [1, 1, 1]
    # Of each case the labels that have a value: (0.7 + 0.9) / 2.
    assert dice.loc[0, "mean"] == pytest.approx(0.8)


def test_a_case_with_an_empty_label_is_counted_in_the_mean_of_labels() -> None:
    found = {
        "a": ("ok", "ok"),
        "b": ("ok", "pred_empty"),
        "c": ("ref_empty", "both_empty"),
        "d": ("failed", "failed"),
    }
    rows = [
        {"case_id": case, "label": label, "label_name": f"l{label}", "status": status}
        | {"dice": 0.5, "group": None, "view": "fused", "fold": 0}
        for case, each in found.items()
        for label, status in zip((1, 2), each, strict=True)
    ]
    dice = cross_validation_table(pd.DataFrame(rows)).set_index("label")
    assert dice["n_empty"].to_dict() == {1: 1, 2: 2, 0: 2}
    assert dice["n_failed"].to_dict() == {1: 1, 2: 1, 0: 1}


def test_names_that_look_like_missing_values_stay_names(tmp_path: Path) -> None:
    names = ("NA", "n/a", "None", "null", "nan", "007")
    rows = [
        {"case_id": name, "label": 1, "label_name": name, "status": "ok", "dice": dice}
        | {"group": group, "fold": 0, "view": "fused", "split": ""}
        for name in names
        for group, dice in ((name, 0.5), (None, np.nan))
    ]
    write_text(tmp_path / HELD_OUT, csv_text(pd.DataFrame(rows)))
    table = read_held_out(tmp_path)
    assert table is not None
    assert table["case_id"].tolist() == table["label_name"].tolist() == [r["case_id"] for r in rows]
    assert table["group"].tolist() == [row["group"] for row in rows]
    assert table["dice"].isna().tolist() == [False, True] * len(names)


def test_the_command_line_says_what_belongs_together(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "tttv")
    words = ["train", str(manifest), "--out", str(tmp_path / "cv")]
    refused = runner.invoke(app, [*words, "--fold", "1"])
    assert refused.exit_code == 2
    assert "--fold and --join are for --folds" in refused.output
    missing = runner.invoke(app, [*words, "--folds", "2", "--join"])
    assert missing.exit_code == 6
    assert "0 of 2 folds are finished; missing: fold 0, fold 1" in missing.output
    plan = runner.invoke(app, [*words, "--folds", "2", "--dry-run"])
    assert plan.exit_code == 0
    assert "fold 1 of 2: 1 case to train with, 1 to choose with, 2 held out" in plan.output
    plan = runner.invoke(app, [*words, "--folds", "2", "--dry-run", "--no-validation"])
    assert "fold 1 of 2: 2 cases to train with, 0 to choose with, 2 held out" in plan.output
    assert not (tmp_path / "cv").exists()
