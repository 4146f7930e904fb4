"""`models calibrate`: cases with references, segmented once, become a calibration."""

from dataclasses import replace
from pathlib import Path

import pytest
from phantoms import make_bundle, threshold_model
from runs import add_case, write_manifest

from voxtile.errors import ManifestError, UsageError
from voxtile.inference.infer import Member
from voxtile.inference.segmenter import Segmenter
from voxtile.measuring import calibration
from voxtile.models.bundle import Bundle
from voxtile.models.quality import FILE, read_quality
from voxtile.preparation.plan import make_plan
from voxtile.report.quality import predict_dice


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle whose network is a function, in its own folder."""
    (tmp_path / "model").mkdir()
    made = replace(make_bundle(), folder=tmp_path / "model")
    trained = made.spec.model_copy(update={"training": {"train": ["t1"]}})
    made = replace(made, spec=trained)
    member = Member(made.spec, (threshold_model,), make_plan(made.spec))
    monkeypatch.setattr(calibration, "load_bundle", lambda name: made)
    monkeypatch.setattr(calibration, "choose_engine", lambda bundle: None)
    monkeypatch.setattr(calibration, "make_plans", lambda bundle, wish: ())
    monkeypatch.setattr(calibration, "load_segmenter", lambda *given: Segmenter((member,)))
    return made


def cohort(folder: Path, count: int) -> Path:
    rows = [add_case(folder, f"c{n}", shape=(12, 12, 6), label=n > 0) for n in range(count)]
    return write_manifest(folder, rows)


def test_a_calibration_is_written_and_predicts(tmp_path: Path, bundle: Bundle) -> None:
    seen = []
    done = calibration.calibrate_model(
        "model", cohort(tmp_path, 21), on_case=lambda *now: seen.append(now)
    )
    assert done.path == bundle.folder / FILE
    assert done.problems == ("c0: no_label: the case has no reference; add a column label",)
    quality = read_quality(bundle)
    assert quality == done.quality
    assert quality.source == "20 cases of cases.csv"
    (one,) = predict_dice(quality, bundle.spec.labels, [1.0])
    assert one.predicted > 0.9
    assert "label 1: 20 cases" in "\n".join(done.lines())
    assert seen[-1] == (21, 21)


def test_too_few_cases_write_nothing_and_say_how_many_are_needed(
    tmp_path: Path, bundle: Bundle
) -> None:
    with pytest.raises(ManifestError, match=r"19 cases can be used, but at least 20 independent"):
        calibration.calibrate_model("model", cohort(tmp_path, 20))
    assert not (bundle.folder / FILE).exists()


def test_cases_that_trained_the_model_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "t1", shape=(8, 8, 4))])
    with pytest.raises(ManifestError, match=r"was trained on t1.*use other cases"):
        calibration.calibrate_model("model", manifest)


def test_several_models_are_calibrated_alone(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "load_bundle", lambda name: replace(bundle, others=(bundle,)))
    with pytest.raises(UsageError, match="calibrate each one alone"):
        calibration.calibrate_model("a,b", tmp_path / "cases.csv")


def test_no_input_and_no_other_file_is_replaced(tmp_path: Path, bundle: Bundle) -> None:
    manifest = write_manifest(tmp_path, [add_case(tmp_path, "c1", shape=(8, 8, 4))])
    path = bundle.folder / FILE
    path.write_text("notes")
    with pytest.raises(ManifestError, match="is not a calibration; move it away"):
        calibration.calibrate_model("model", manifest)
    assert path.read_text() == "notes"
    path.unlink()
    path.symlink_to(manifest)
    before = manifest.read_bytes()
    with pytest.raises(ManifestError, match="the manifest"):
        calibration.calibrate_model("model", manifest)
    assert manifest.read_bytes() == before
