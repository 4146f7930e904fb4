"""Which cases of a manifest a run does."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs import add_case, run, write_manifest

from voxtile.errors import ManifestError, UsageError
from voxtile.run.job import RunSettings


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
