"""The reader alone: voxels and place survive, and it says what it found."""

from pathlib import Path

import numpy as np
import pytest
from patients import add_series
from phantoms import ball
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.reading.channels import read_scan
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.writing.nifti import write_volume

runner = CliRunner()


def convert(*words) -> tuple[int, str]:
    done = runner.invoke(app, ["convert", *map(str, words)])
    return done.exit_code, done.output


def test_a_series_becomes_one_file_and_is_described(tmp_path: Path) -> None:
    add_series(tmp_path / "s", PatientName="Zoe^Secret")
    code, said = convert(tmp_path / "s", tmp_path / "o.nii.gz")
    assert code == 0, said
    for line in ("shape: 6 x 5 x 3", "spacing: 1 x 1 x 2 mm", "type: int16", "values: 0 to 0"):
        assert line in said
    assert "Secret" not in said
    scan, written = read_scan(tmp_path / "s"), read_nifti(tmp_path / "o.nii.gz")
    np.testing.assert_array_equal(written.volume.array, scan.volume.array)
    np.testing.assert_allclose(written.volume.affine, scan.volume.affine, atol=1e-4)


def test_nifti_is_converted_too(tmp_path: Path) -> None:
    image, _ = ball(axes="PIR", tilt_degrees=10)
    write_volume(tmp_path / "a.nii.gz", image)
    code, said = convert(tmp_path / "a.nii.gz", tmp_path / "b.nii")
    assert code == 0, said
    assert "orientation: PIR" in said
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii").volume.array, image.array)


def test_an_unreadable_scan_exits_with_4_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    code, said = convert(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert (code, "empty_file" in said) == (4, True)
    assert not (tmp_path / "b.nii.gz").exists()
    add_series(tmp_path / "s/a")
    add_series(tmp_path / "s/b")
    code, said = convert(tmp_path / "s", tmp_path / "b.nii.gz")
    assert (code, "several_series" in said) == (4, True)
    assert convert(tmp_path / "s", tmp_path / "b.png")[0] == 2
    assert convert(tmp_path / "s/a", tmp_path / "b.nii", "--tilt", "maybe")[0] == 2
    assert convert(tmp_path / "none", tmp_path / "b.nii")[0] == 4


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    image, _ = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    (tmp_path / "link.nii.gz").symlink_to("a.nii.gz")
    before = (tmp_path / "a.nii.gz").read_bytes()
    for out in ("a.nii.gz", "link.nii.gz"):
        code, said = convert(tmp_path / "a.nii.gz", tmp_path / out)
        assert (code, "would be replaced; name another file" in said) == (4, True)
    assert (tmp_path / "a.nii.gz").read_bytes() == before
    (tmp_path / "b.nii.gz").write_bytes(b"of an earlier try")
    assert convert(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")[0] == 0


def test_options_choose_the_series(tmp_path: Path) -> None:
    add_series(tmp_path / "s/a")
    add_series(tmp_path / "s/b")
    (tmp_path / "s/b/slice0003.dcm").unlink()
    code, said = convert(tmp_path / "s", tmp_path / "o.nii", "--series", "largest")
    assert code == 0, said
    assert "shape: 6 x 5 x 3" in said
    assert "warning: series_chosen" in said


@pytest.mark.parametrize(("tilt", "sheared"), [("native", True), ("resample", False)])
def test_a_tilted_scan_is_converted_with_a_warning(
    data_dir: Path, tmp_path: Path, tilt, sheared
) -> None:
    series = data_dir / "dicom_to_nifti/ct_tilt18_philips_phantom/dicom"
    assert convert(series, tmp_path / "o.nii.gz")[0] == 4
    code, said = convert(series, tmp_path / "o.nii.gz", "--tilt", tilt)
    assert code == 0, said
    assert "warning: gantry_tilt" in said
    scan = read_scan(series, ReadPolicy(tilt=tilt))
    written = read_nifti(tmp_path / "o.nii.gz").volume
    np.testing.assert_array_equal(written.array, scan.volume.array)
    assert (written.codes[1] == 0) == sheared  # a quaternion cannot say shear
