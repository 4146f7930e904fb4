"""Validation cases calibrate a trained bundle; held-out cases calibrate an ensemble."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from phantoms import ball, make_bundle, threshold_model

from voxtile.inference.infer import Member
from voxtile.inference.segmenter import Segmenter
from voxtile.models.quality import FILE, read_quality
from voxtile.preparation.plan import make_plan
from voxtile.training.bundle import calibration
from voxtile.training.folds.finished_folds import FinishedFold
from voxtile.training.folds.held_out import OBSERVED, read_observed
from voxtile.training.folds.joining import _quality

IMAGE, REFERENCE = ball(shape=(12, 12, 6))
CASE = SimpleNamespace(case_id="a", volume=IMAGE, reference=REFERENCE)


def calibrated(folder: Path, groups: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    bundle = replace(make_bundle(), folder=folder)
    member = Member(bundle.spec, (threshold_model,), make_plan(bundle.spec))
    monkeypatch.setattr(calibration, "load_bundle", lambda folder: bundle)
    monkeypatch.setattr(calibration, "make_plans", lambda bundle, wish: ())
    monkeypatch.setattr(calibration, "choose_engine", lambda bundle: None)
    monkeypatch.setattr(calibration, "load_segmenter", lambda *given: Segmenter((member,)))
    return calibration.calibrate(folder, [CASE] * len(groups), groups)


def test_twenty_groups_of_validation_cases_calibrate(tmp_path: Path, monkeypatch) -> None:
    said = calibrated(tmp_path, [f"g{n}" for n in range(20)], monkeypatch)
    assert said == (
        "predicted Dice: learned from 20 validation cases, which also chose the checkpoint"
    )
    quality = read_quality(replace(make_bundle(), folder=tmp_path))
    assert len(quality.labels[0].left_out) == 20


def test_fewer_groups_give_none_and_say_so(tmp_path: Path, monkeypatch) -> None:
    said = calibrated(tmp_path, ["g"] * 10 + [f"g{n}" for n in range(18)], monkeypatch)
    assert "at least 20 independent validation cases" in said
    assert "there are 19;" in said
    assert not (tmp_path / FILE).exists()


def folds(folder: Path, counts: list[int | None]) -> list[FinishedFold]:
    made = []
    for number, count in enumerate(counts):
        home = folder / f"fold{number}"
        home.mkdir(parents=True)
        if count is not None:
            rows = [[f"case {number} {n}", [0.9], [0.8 if n else None]] for n in range(count)]
            (home / OBSERVED).write_text(json.dumps(rows))
        made.append(FinishedFold(number, replace(make_bundle(), folder=home), None))
    return made


def test_held_out_cases_of_all_folds_calibrate_the_ensemble(tmp_path: Path) -> None:
    ensemble = make_bundle()
    quality = _quality(ensemble, folds(tmp_path, [12, 10]))
    assert quality.model == ensemble.sha256
    assert [len(one.left_out) for one in quality.labels] == [20]
    assert quality.source.startswith("22 cases of the cross-validation")


def test_a_fold_of_an_earlier_version_gives_no_calibration(tmp_path: Path) -> None:
    made = folds(tmp_path, [30, None])
    assert read_observed(made[1].bundle.folder) is None
    assert _quality(make_bundle(), made) is None
