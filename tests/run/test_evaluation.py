"""Finished masks of any tool are scored like our own."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from phantoms import ball, make_bundle, threshold_model
from runs import add_case, write_manifest

import voxtile.run.evaluation
from voxtile.batch.drive import run_manifest
from voxtile.batch.settings import BatchSettings
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.manifest.check import check_manifest
from voxtile.manifest.label_list import read_labels
from voxtile.models.spec import Label
from voxtile.report.page.cohort import cohort_data
from voxtile.run.evaluation import evaluate
from voxtile.run.job import RunSettings, chosen_cases
from voxtile.run_folder.case_report import read_run
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.lock import locked
from voxtile.run_folder.shard import Shard
from voxtile.scoring.measures import Measures
from voxtile.scoring.overlap import plain_labels
from voxtile.volume import Axes, Volume, reorient
from voxtile.writing.nifti import write_mask, write_volume


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Four cases: exact, shifted with an extra value, without prediction, without reference."""
    _, truth = ball()
    (tmp_path / "masks").mkdir()
    shifted = np.roll(truth.array, 1, axis=0)
    shifted[0, 0, 0] = 5
    write_mask(tmp_path / "truth.nii.gz", truth)
    exact = reorient(truth, Axes((2, 0, 1), (True, False, True)))
    write_mask(tmp_path / "masks/exact.nii.gz", exact)
    write_volume(tmp_path / "masks/shifted.nii", truth.with_array(shifted.astype(np.float32)))
    write_mask(tmp_path / "masks/unscored.nii.gz", truth)
    (tmp_path / "m.csv").write_text(
        "case_id,image,label\nexact,gone.nii,truth.nii.gz\nshifted,gone.nii,truth.nii.gz\n"
        "missing,gone.nii,truth.nii.gz\nunscored,gone.nii,\n"
    )
    return tmp_path


def test_labels_are_the_union_over_the_cohort_and_a_missing_prediction_fails(cohort: Path) -> None:
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    table = pd.read_csv(cohort / "out/report.csv").set_index(["case_id", "label"])
    assert sorted(set(table.index.get_level_values("label"))) == [1, 5]
    assert table.loc[("exact", 1), "dice"] == 1
    assert table.loc[("exact", 5), "status"] == "both_empty"
    assert 0.7 < table.loc[("shifted", 1), "dice"] < 1
    assert table.loc[("shifted", 5), "status"] == "ref_empty"
    assert table.loc[("missing", 1), "status"] == "failed"
    assert table.loc[("unscored", 1), "status"] == "no_reference"
    assert reports[2].reason is not None
    assert reports[2].reason.code == "no_prediction"
    summary = pd.read_csv(cohort / "out/summary.csv").set_index(["label", "metric"])
    assert summary.loc[(1, "dice"), ["n", "n_used", "n_failed"]].tolist() == [4, 2, 1]


def test_labels_of_a_reference_count_if_its_prediction_is_missing(cohort: Path) -> None:
    for path in (cohort / "masks").iterdir():
        path.rename(path.with_name(f"{path.name.partition('.')[0]}_seg.nii.gz"))
    evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    table = pd.read_csv(cohort / "out/report.csv")
    assert table["case_id"].tolist() == ["exact", "shifted", "missing", "unscored"]
    assert set(table["label"]) == {1}
    assert set(table["status"]) == {"failed"}
    summary = pd.read_csv(cohort / "out/summary.csv").set_index(["label", "metric"])
    assert summary.loc[(1, "dice"), ["n", "n_used", "n_failed"]].tolist() == [4, 0, 4]


def test_a_cohort_without_any_label_is_refused_and_names_the_expected_files(cohort: Path) -> None:
    (cohort / "m.csv").write_text("case_id,image\nexact,gone.nii\nc2,gone.nii\n")
    (cohort / "none").mkdir()
    said = r"has no prediction of any case \(looked for exact\.nii\.gz, c2\.nii\.gz, or another"
    with pytest.raises(ManifestError, match=said):
        evaluate(cohort / "m.csv", cohort / "none", cohort / "out")
    _, truth = ball()
    write_mask(cohort / "masks/exact.nii.gz", truth.with_array(np.zeros_like(truth.array)))
    with pytest.raises(ManifestError, match=r"in the 1 prediction of .* with --labels"):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    assert not (cohort / "out/report.csv").exists()


def test_a_scan_among_the_masks_is_refused_and_not_scored_for_hours(cohort: Path) -> None:
    _, truth = ball()
    many = np.arange(truth.array.size, dtype=np.uint16).reshape(truth.shape)
    write_volume(cohort / "masks/exact.nii.gz", truth.with_array(many))
    count = many.size - 1
    said = rf"with the prediction of exact, the masks have {count} values .* at most 1000 labels"
    with pytest.raises(ManifestError, match=said):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    names = plain_labels({value: str(value) for value in range(1, 1002)})
    with pytest.raises(ManifestError, match="--labels names 1001 values"):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out", labels=names)
    assert not (cohort / "out/report.csv").exists()


def test_a_page_shows_cases_without_rows(cohort: Path) -> None:
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out", labels=())
    shown = cohort_data(cohort / "out", reports, (), {})["cases"]
    assert sorted(case["id"] for case in shown) == ["exact", "missing", "shifted", "unscored"]


@pytest.mark.parametrize("column", ["dice", "nsd_1mm", "nsd_3mm", "nsd_0.25mm"])
def test_a_column_named_like_a_metric_is_always_refused(cohort: Path, column: str) -> None:
    (cohort / "m.csv").write_text(
        f"case_id,image,label,{column}\nexact,truth.nii.gz,truth.nii.gz,n/a\n"
    )
    said = f"'{column}', has the name of a column of report.csv; rename it"
    with pytest.raises(ManifestError, match=said):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    with pytest.raises(ManifestError, match=said):
        chosen_cases(cohort / "m.csv", None, RunSettings())
    assert said in check_manifest(cohort / "m.csv").findings[0].sentence


def test_only_the_given_labels_are_scored_with_a_warning_for_others(cohort: Path) -> None:
    (cohort / "labels.json").write_text(json.dumps({"1": "ball"}))
    labels = read_labels(cohort / "labels.json").labels
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out", labels=labels)
    assert [row.label_name for row in reports[1].labels] == ["ball"]
    assert [notice.code for notice in reports[1].warnings] == ["values_not_scored"]


def test_a_prediction_on_another_grid_fails_its_case(cohort: Path) -> None:
    _, truth = ball()
    write_mask(cohort / "masks/exact.nii.gz", Volume(truth.array, np.diag([1.2, 1.5, 2.6, 1])))
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    assert reports[0].reason is not None
    assert "the prediction is up to" in reports[0].reason.sentence


@pytest.mark.parametrize(
    "place", ["voxtile.run.evaluation.label_rows", "voxtile.run.evaluation.integral"]
)
@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), "out_of_memory"), (KeyError("Doe^John"), "unexpected")]
)
def test_an_error_in_one_case_does_not_stop_the_others(
    cohort: Path, monkeypatch, place: str, error: Exception, code: str
) -> None:
    name = place.rpartition(".")[2]
    real = getattr(voxtile.run.evaluation, name)

    def failing(first, *others):
        """Fail for the prediction that has a voxel in the corner."""
        if np.asarray(getattr(first, "array", first))[0, 0, 0] == 5:
            raise error
        return real(first, *others)

    monkeypatch.setattr(place, failing)
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    reason = reports[1].reason
    assert reason is not None
    assert reason.code == code
    assert "Doe" not in reason.sentence
    table = pd.read_csv(cohort / "out/report.csv").set_index(["case_id", "label"])
    assert table.loc[("exact", 1), "dice"] == 1
    assert table.loc[("shifted", 1), "status"] == "failed"


def test_an_unreadable_mask_is_reported_without_options_for_scans(
    cohort: Path,
) -> None:
    _, truth = ball()
    both = nibabel.Nifti1Image(np.stack([truth.array * 2] * 2, axis=-1), truth.affine)
    both.to_filename(cohort / "masks/exact.nii.gz")
    both.to_filename(cohort / "truth.nii.gz")
    prediction, label, *_ = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    for report, what in ((prediction, "prediction"), (label, "reference")):
        assert report.reason is not None
        assert report.reason.code == "several_volumes"
        assert report.reason.sentence.startswith(f"the {what} cannot be used: ")
        assert "--volume" not in report.reason.sentence


def test_overlapping_channels_of_regions_are_scored(cohort: Path) -> None:
    _, truth = ball()
    whole = truth.array
    core = whole * (np.arange(whole.shape[0]) < 12)[:, np.newaxis, np.newaxis]
    both = nibabel.Nifti1Image(np.stack([whole, core], axis=-1), truth.affine)
    both.to_filename(cohort / "masks/exact.nii.gz")
    both.to_filename(cohort / "truth.nii.gz")
    labels = [
        Label(value=1, name="whole", color="#00ff00", region=(1, 2)),
        Label(value=2, name="core", color="#ff0000"),
    ]
    evaluate(cohort / "m.csv", cohort / "masks", cohort / "out", labels=labels)
    table = pd.read_csv(cohort / "out/report.csv").set_index(["case_id", "label"])
    rows = table.loc["exact"]
    assert rows.voxels_ref.to_dict() == {1: whole.sum(), 2: core.sum()}
    assert rows.dice.to_list() == [1, 1]
    for name in ("prediction_one_hot", "label_one_hot"):
        assert rows.warnings.str.contains(name).all()


def test_a_missing_predictions_folder_is_said(cohort: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        evaluate(cohort / "m.csv", cohort / "nowhere", cohort / "out")


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_the_folder_of_a_segmentation_run_is_refused_and_not_changed(tmp_path: Path, shard) -> None:
    manifest, out = write_manifest(tmp_path, [add_case(tmp_path, "a")]), tmp_path / "out"
    batch = BatchSettings(shard=shard)
    run_manifest(manifest, make_bundle(), out, models=[threshold_model], batch=batch)
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    with pytest.raises(ManifestError, match=r"segmentation run .* another folder with --out"):
        evaluate(manifest, out / "masks", out)
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before
    again = run_manifest(manifest, make_bundle(), out, models=[threshold_model], batch=batch)
    assert again.kept == 1


def test_a_record_that_cannot_be_read_is_not_overwritten(cohort: Path) -> None:
    (cohort / "out").mkdir()
    (cohort / "out/run.json").write_text("{")
    with pytest.raises(ManifestError, match=r"run\.json cannot be read \(.* another folder"):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")


def test_a_folder_in_use_is_refused_and_an_earlier_evaluation_is_replaced(cohort: Path) -> None:
    evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    with (
        locked(cohort / "out", Shard(1, 2)),
        pytest.raises(EnvironmentFault, match="is in use by process"),
    ):
        evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    assert len(evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")) == 4


def test_a_report_records_which_masks_were_scored(cohort: Path) -> None:
    before = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    path = cohort / "masks/exact.nii.gz"
    assert before[0].mask == {"file": path.name, "sha256": content_hash(path)}
    _, truth = ball()
    write_mask(path, truth)
    after = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    same = [one.fingerprint == other.fingerprint for one, other in zip(before, after, strict=True)]
    assert same == [False, True, True, True]
    write_mask(cohort / "truth.nii.gz", truth.with_array(np.roll(truth.array, 2, axis=1)))
    moved = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out")
    assert moved[0].mask == after[0].mask
    assert moved[0].fingerprint != after[0].fingerprint


def test_cases_of_an_earlier_evaluation_are_not_counted(cohort: Path) -> None:
    manifest, out = cohort / "m.csv", cohort / "out"
    assert len(evaluate(manifest, cohort / "masks", out)) == 4
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    evaluate(manifest, cohort / "masks", out)
    assert len(list((out / "cases").iterdir())) == 4
    assert [report.case_id for report in read_run(out).reports] == ["exact"]


def test_a_prediction_that_is_changed_while_it_is_read_is_not_scored(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = voxtile.run.evaluation.read_label_map

    def read_while_changed(path: Path, what: str, **options):
        if path.name == "exact.nii.gz":
            path.write_bytes(path.read_bytes())
        return read(path, what, **options)

    monkeypatch.setattr(voxtile.run.evaluation, "read_label_map", read_while_changed)
    labels = plain_labels({1: "ball"})
    reports = evaluate(cohort / "m.csv", cohort / "masks", cohort / "out", labels=labels)
    reasons = {report.case_id: report.reason for report in reports}
    assert reasons["exact"] is not None
    assert reasons["exact"].code == "input_changed"
    assert "the prediction was changed by another program" in reasons["exact"].sentence
    assert reasons["shifted"] is None


def test_ignored_voxels_give_no_label_no_warning_and_no_score(tmp_path: Path) -> None:
    _, truth = ball()
    (tmp_path / "masks").mkdir()
    hidden = np.zeros(truth.shape, bool)
    hidden[: truth.shape[0] // 2] = True
    write_mask(tmp_path / "t.nii.gz", truth.with_array(np.where(hidden, 255, truth.array)))
    stored = truth.with_array(np.where(hidden, 9, truth.array).astype(np.uint8))
    write_mask(tmp_path / "masks/a.nii.gz", reorient(stored, Axes((2, 0, 1), (True, False, True))))
    (tmp_path / "m.csv").write_text("case_id,image,label\na,gone.nii,t.nii.gz\n")
    (report,) = evaluate(
        tmp_path / "m.csv", tmp_path / "masks", tmp_path / "out", measures=Measures(ignore=255)
    )
    assert [(row.label, row.dice) for row in report.labels] == [(1, 1.0)]
    assert [notice.code for notice in report.warnings] == ["prediction_reoriented"]
    facts = json.loads((tmp_path / "out/run.json").read_text())
    assert facts["measures"]["ignore"] == 255
    with pytest.raises(ManifestError, match=r"label 1 .* has the value 1, which --ignore"):
        evaluate(
            tmp_path / "m.csv",
            tmp_path / "masks",
            tmp_path / "out",
            labels=plain_labels({1: "one"}),
            measures=Measures(ignore=1),
        )
