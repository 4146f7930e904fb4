"""A model that all cases trained is calibrated by the folds of a cross-validation."""

import json
from pathlib import Path

import pytest
from bundles import write_bundle

from voxtile.errors import ManifestError, ModelError
from voxtile.measuring.calibration_by_folds import calibrate_by_folds
from voxtile.models.bundle import load_bundle
from voxtile.models.quality import FILE, read_quality
from voxtile.report.quality import predict_dice

RECIPE = {"steps": 9, "seed": 0, "filters": 2}


def cross_validation(folder: Path, network: bytes, cases: int = 10, **recipe) -> Path:
    """Two folds that each held out some cases, with a Dice of 0.8 where 0.9 was expected."""
    folder.mkdir()
    for number in (0, 1):
        fold = write_bundle(
            folder / f"fold{number}", network, training={"recipe": {**RECIPE, **recipe}}
        )
        rows = [[f"f{number} c{case}", [0.9], [0.8]] for case in range(cases)]
        (fold / "held_out_dice.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def model(tmp_path: Path, network: bytes) -> Path:
    return write_bundle(
        tmp_path / "model", network, training={"recipe": {**RECIPE, "steps": 20, "seed": 1}}
    )


def test_the_held_out_cases_of_the_folds_calibrate(
    tmp_path: Path, network: bytes, model: Path
) -> None:
    done = calibrate_by_folds(str(model), cross_validation(tmp_path / "cv", network))
    bundle = load_bundle(str(model))
    quality = read_quality(bundle)
    assert quality == done.quality
    assert quality.source.startswith("20 cases of 2 folds of a cross-validation")
    (one,) = predict_dice(quality, bundle.spec.labels, [0.9])
    assert one.predicted == pytest.approx(0.8, abs=1e-3)


def test_folds_of_another_recipe_are_refused(tmp_path: Path, network: bytes, model: Path) -> None:
    folds = cross_validation(tmp_path / "cv", network, filters=4)
    with pytest.raises(ModelError, match=r"recipe's filters 4 instead of 2; train the model with"):
        calibrate_by_folds(str(model), folds)
    assert not (model / FILE).exists()


def test_no_fold_and_too_few_cases_are_refused(tmp_path: Path, network: bytes, model: Path) -> None:
    with pytest.raises(ModelError, match="has no finished fold"):
        calibrate_by_folds(str(model), tmp_path)
    few = cross_validation(tmp_path / "cv", network, cases=9)
    with pytest.raises(ModelError, match="18 cases of 2 folds, but at least 20 independent"):
        calibrate_by_folds(str(model), few)


def test_no_other_file_is_replaced(tmp_path: Path, network: bytes, model: Path) -> None:
    (model / FILE).write_text("notes")
    with pytest.raises(ManifestError, match="is not a calibration; move it away"):
        calibrate_by_folds(str(model), cross_validation(tmp_path / "cv", network))
    assert (model / FILE).read_text() == "notes"
