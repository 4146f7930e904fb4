"""`quality.json`: read, refused if it is damaged or of another model."""

from dataclasses import replace
from pathlib import Path

import pytest
from phantoms import make_bundle

from voxtile.errors import ModelError
from voxtile.models.quality import FILE, LabelQuality, Quality, read_quality


def written(folder: Path, **changes):
    bundle = replace(make_bundle(), folder=folder)
    one = LabelQuality(label=1, offset=-0.5, slope=1, left_out=((-0.5, 1.0, 0.1),) * 20)
    values = {"model": bundle.sha256, "source": "20 cases", "labels": (one,), **changes}
    quality = Quality(**values)
    (folder / FILE).write_text(quality.dump())
    return bundle, quality


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    bundle, quality = written(tmp_path)
    assert read_quality(bundle) == quality
    assert read_quality(replace(bundle, others=(bundle,))) is None
    (tmp_path / FILE).unlink()
    assert read_quality(bundle) is None


def test_the_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    bundle, _ = written(tmp_path, model="0" * 64)
    with pytest.raises(ModelError, match=r"made for another model.*voxtile models calibrate"):
        read_quality(bundle)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "voxtile-quality"}', "\0"])
def test_a_damaged_calibration_is_refused(tmp_path: Path, text: str) -> None:
    bundle, _ = written(tmp_path)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ModelError, match=r"quality.json is not valid.*or remove the file"):
        read_quality(bundle)


def test_a_label_is_calibrated_once(tmp_path: Path) -> None:
    bundle, quality = written(tmp_path)
    with pytest.raises(ValueError, match="appears twice"):
        Quality(model=bundle.sha256, source="", labels=quality.labels * 2)
