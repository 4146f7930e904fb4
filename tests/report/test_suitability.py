"""A scan of another kind than the training scans is a warning before anything runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from phantoms import ball, make_bundle, make_spec
from runs import write_manifest
from typer.testing import CliRunner

from voxtile.case import Case
from voxtile.cli import app
from voxtile.models.bundle import Bundle
from voxtile.report.domain import describe_scan, training_domain
from voxtile.report.suitability import suitability
from voxtile.writing.nifti import write_volume


def bundle(folder: Path, modality: str | None, **changes) -> Bundle:
    if modality is not None:
        folder.mkdir(exist_ok=True)
        content = {"channels": [{"name": "image", "modality": modality}]}
        (folder / "fingerprint.json").write_text(json.dumps(content))
    return Bundle(folder, make_spec(**changes))


def codes(model: Bundle, scan, stated: str = "", voxels: bool = True) -> list[str]:
    extras = (("modality", stated),) if stated else ()
    case = Case("a", (("image", Path("a.nii")),), extras=extras)
    return [notice.code for notice in suitability(model)(case, scan, voxels)]


@pytest.mark.parametrize(
    ("trained", "stated", "low", "found"),
    [
        ("other", "CT", 0, True),
        ("other", "ct", 0, True),
        ("other", "MR", -1000, False),  # the column knows better than the voxels
        ("other", "", -1000, True),
        ("other", "", 0, False),
        ("CT", "MR", 0, True),
        ("CT", "CT", 0, False),
        ("CT", "", -1000, False),
        (None, "CT", -1000, False),
    ],
)
def test_another_modality_is_said(tmp_path: Path, trained, stated, low, found) -> None:
    scan, _ = ball()
    voxels = scan.array.copy()
    voxels[0, 0, 0], voxels[1, 0, 0] = low, 500
    model = bundle(tmp_path / "m", trained)
    assert codes(model, scan.with_array(voxels), stated) == ["domain_modality"] * found
    empty = scan.with_array(np.zeros_like(voxels))
    assert codes(model, empty, stated, voxels=False) == ["domain_modality"] * (
        found and stated != ""
    )


def test_a_fixed_window_is_of_a_ct_model(tmp_path: Path) -> None:
    window = {"method": "window", "center": 40, "width": 400}
    scan, _ = ball()
    assert codes(bundle(tmp_path, None, intensity=window), scan, "MR") == ["domain_modality"]


def test_spacing_is_compared_by_headers_and_intensities_by_voxels(tmp_path: Path) -> None:
    scans = [ball()[0] for _ in range(6)]
    facts = [describe_scan(scan, ["image"], make_spec().intensity) for scan in scans]
    model = bundle(tmp_path, None, training={"domain": training_domain(facts)})
    assert codes(model, scans[0]) == codes(model, scans[0], voxels=False) == []
    bright = scans[0].with_array(scans[0].array + np.int16(5000))
    assert codes(model, bright) == ["domain_intensity"]
    assert codes(model, bright, voxels=False) == []
    coarse, _ = ball(spacing_mm=(3.0, 3.0, 9.0))
    assert "domain_spacing" in codes(model, coarse, voxels=False)


def test_a_damaged_fingerprint_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "fingerprint.json").write_text("[1")
    assert codes(Bundle(tmp_path, make_bundle().spec), ball()[0], "CT") == []


def test_a_ct_for_the_shipped_mr_model_is_a_warning_of_the_check(tmp_path: Path) -> None:
    scan, _ = ball()
    voxels = scan.array.astype(np.int16) * 20 - 1000
    write_volume(tmp_path / "a.nii.gz", scan.with_array(voxels))
    manifest = write_manifest(tmp_path, [{"case_id": "a", "image": "a.nii.gz"}])
    words = ["manifest", "check", str(manifest), "--model", "hippocampus"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "domain_modality: the scan goes from below -500 to above 100" in done.output
