"""One scan: the image on the grid of the mask is written beside it, and replaces no other file."""

from pathlib import Path

import numpy as np
import pytest
from phantoms import ball, make_bundle

from voxtile.errors import ManifestError
from voxtile.models.bundle import Bundle
from voxtile.phantoms.dicom import write_series
from voxtile.reading.scan import ReadPolicy
from voxtile.run import one_scan
from voxtile.volume import Volume
from voxtile.writing.nifti import write_volume


class Threshold:
    """A segmenter without a network."""

    def __call__(self, volume: Volume, watch: object) -> Volume:
        return volume.with_array((volume.array > 50).astype(np.uint8))

    def notices(self) -> tuple:
        return ()


def test_the_image_beside_a_mask_replaces_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_scan, "load_bundle", lambda name: make_bundle())
    monkeypatch.setattr(one_scan, "make_plans", lambda bundle, wish: ())
    monkeypatch.setattr(one_scan, "choose_engine", lambda bundle, wish: None)
    monkeypatch.setattr(one_scan, "load_segmenter", lambda *given, scratch: Threshold())
    write_series(tmp_path / "series", ball()[0])
    sorted((tmp_path / "series").iterdir())[5].unlink()
    policy = ReadPolicy(missing_slices="interpolate")
    out, image = tmp_path / "out/mask.nii.gz", tmp_path / "out/mask_image.nii.gz"

    def segment() -> str:
        done = one_scan.segment_file(tmp_path / "series", "model", out, policy=policy)
        assert str(done.verdict) == "look (scan)"
        return done.notices[-1].code

    assert segment() == segment() == "image_written"
    out.unlink()
    for other in (ball()[0], ball(tilt_degrees=5)[0]):
        write_volume(image, other)
        before = image.read_bytes()
        with pytest.raises(
            ManifestError, match=r"mask_image.nii.gz would be replaced by the image"
        ):
            segment()
        assert (image.read_bytes(), out.exists()) == (before, False)


def test_another_threshold_reaches_the_networks_and_leaves_the_dice_unpredicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def load(bundle: Bundle, *given: object, scratch: Path) -> Threshold:
        seen.append(bundle.spec.thresholds)
        return Threshold()

    monkeypatch.setattr(one_scan, "load_bundle", lambda name: make_bundle(activation="sigmoid"))
    monkeypatch.setattr(one_scan, "make_plans", lambda bundle, wish: ())
    monkeypatch.setattr(one_scan, "choose_engine", lambda bundle, wish: None)
    monkeypatch.setattr(one_scan, "load_segmenter", load)
    write_volume(tmp_path / "scan.nii.gz", ball()[0])
    reasons = [
        one_scan.segment_file(
            tmp_path / "scan.nii.gz",
            "model",
            tmp_path / "mask.nii.gz",
            policy=ReadPolicy(),
            thresholds=thresholds,
        ).no_dice
        for thresholds in ({}, {"ball": 0.4})
    ]
    assert seen == [(), (0.4,)]
    assert "has no calibration" in reasons[0]
    assert "only for the model's own thresholds" in reasons[1]
