"""Which cases of a manifest a run does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import add_case, run, write_manifest

from voxtile.errors import ManifestError, UsageError
from voxtile.report.tables import write_reports
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import read_run
from voxtile.scoring.measures import Measures


def test_only_the_chosen_splits_run(tmp_path: Path) -> None:
    rows = [
        {**add_case(tmp_path, name), "split": split}
        for name, split in zip("abc", ("train", "val", "test"), strict=True)
    ]
    manifest = write_manifest(tmp_path, rows)
    result = run(manifest, tmp_path / "out", settings=RunSettings(splits=("val", "test")))
    assert [report.case_id for report in result.reports] == ["b", "c"]
    rows[1]["split"] = rows[2]["split"] = "train"
    with pytest.raises(ManifestError, match="no case of split val"):
        run(write_manifest(tmp_path, rows), tmp_path / "x", settings=RunSettings(splits=("val",)))


def _faint(tiles: np.ndarray) -> np.ndarray:
    """Return 0.4 on the ball, and 0.1 elsewhere."""
    return np.where(tiles[..., :1] > 50, 0.4, 0.1).astype(np.float32)


def test_a_threshold_decides_is_recorded_and_keeps_its_folder(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])

    def dice(out: str, **thresholds: float) -> float:
        settings = RunSettings(thresholds=thresholds)
        result = run(manifest, tmp_path / out, _faint, settings, activation="sigmoid")
        (report,) = result.reports
        facts = json.loads((tmp_path / out / "run.json").read_text())
        assert report.thresholds == thresholds == facts["settings"].get("thresholds", {})
        assert ("0.3 for ball" in facts["methods"]) == bool(thresholds)
        return report.labels[0].dice

    assert dice("own") == 0
    assert dice("lower", ball=0.3) == 1
    with pytest.raises(ManifestError, match=r"1 finished case .*settings \(thresholds\); pass --f"):
        dice("lower")
    assert dice("lower", ball=0.3) == 1


def test_a_threshold_equal_to_the_models_is_no_other_run(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    for settings in (RunSettings(), RunSettings(thresholds={"1": 0.5})):
        result = run(manifest, tmp_path / "out", _faint, settings, activation="sigmoid")
        assert result.reports[0].thresholds == {}
    assert result.kept == 1


def test_a_softmax_model_refuses_a_threshold_before_anything_is_written(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    with pytest.raises(UsageError, match="softmax"):
        run(manifest, tmp_path / "out", settings=RunSettings(thresholds={"ball": 0.4}))
    assert not (tmp_path / "out").exists()


def test_single_lesions_and_weighted_surfaces_are_in_records_and_tables(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "a")])
    out = tmp_path / "out"
    measures = Measures(nsd_mm=(1,), per_lesion=True, nsd_area=True)
    run(manifest, out, settings=RunSettings(measures=measures))
    (report,) = read_run(out).reports
    assert report.labels[0].nsd == {"nsd_1mm": 1, "nsd_area_1mm": 1}
    assert [one.status for one in report.labels[0].lesions] == ["matched"]
    head, row = (out / "lesions.csv").read_text().splitlines()
    assert head == (
        "case_id,label,label_name,lesion,status,volume_ml_ref,volume_ml_pred,dice,iou,hd95_mm,"
        "r_mm,a_mm,s_mm"
    )
    assert row.startswith("a,1,ball,1,matched,")
    head = (out / "report.csv").read_text().splitlines()[0]
    assert head.endswith(",lesionwise_dice,nsd_1mm,nsd_area_1mm")
    methods = json.loads((out / "run.json").read_text())["methods"]
    assert "weighted by their area. Lesions (connected components) were matched" in methods
    with pytest.raises(ManifestError, match=r"settings \(measures\)"):
        run(manifest, out)
    write_reports(out, [replace(report, labels=())])
    assert not (out / "lesions.csv").exists()
