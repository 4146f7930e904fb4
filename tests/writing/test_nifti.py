"""Masks and images written as NIfTI: the header of a mask, and which volumes are refused."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from phantoms import ball

from voxtile.reading.nifti import read_nifti
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume
from voxtile.writing.read_back import check_written


def test_a_sheared_grid_gets_its_sform_only(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 1.5
    mask = Volume(np.ones((4, 5, 6), np.uint8), affine)
    write_mask(tmp_path / "m.nii.gz", mask)
    header = nibabel.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    np.testing.assert_allclose(header.get_sform(), affine)
    np.testing.assert_allclose(header.get_zooms(), mask.spacing_mm, rtol=1e-6)
    scan = read_nifti(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(scan.volume.affine, affine)
    assert not scan.notices


def test_a_grid_that_a_quaternion_cannot_express_gets_its_sform_only(tmp_path: Path) -> None:
    # Half a turn less 0.0008: 1 - b*b - c*c - d*d is 1.6e-7, less than float32 can tell from 0.
    turned = np.diag([-0.8, -0.8, 2.0, 1.0])
    turned[:2, :2] = 0.8 * np.array([[-np.cos(8e-4), np.sin(8e-4)], [-np.sin(8e-4), -np.cos(8e-4)]])
    mask = Volume(np.zeros((512, 512, 3), np.uint8), turned)
    write_mask(tmp_path / "m.nii.gz", mask)
    scan = read_nifti(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(scan.volume.affine, turned, rtol=1e-6)
    assert scan.volume.codes == (1, 0)
    assert not scan.notices
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "m.nii.gz").header.get_zooms(), (0.8, 0.8, 2)
    )
    assert check_written(tmp_path / "m.nii.gz", mask)["check"]["voxels_equal"]


def test_nothing_of_a_source_reaches_a_mask(tmp_path: Path) -> None:
    image, truth = ball()
    write_mask(tmp_path / "m.nii", truth)
    header = nibabel.load(tmp_path / "m.nii").header
    fresh = nibabel.Nifti1Header()
    for name in ("descrip", "aux_file", "db_name"):
        text = bytes(header[name].item() if hasattr(header[name], "item") else header[name])
        assert text.rstrip(b"\0") in (b"", b"voxtile")
        assert not bytes(fresh[name].item())
    assert len(header.extensions) == 0
    write_volume(tmp_path / "v.nii.gz", image)
    np.testing.assert_array_equal(read_nifti(tmp_path / "v.nii.gz").volume.array, image.array)
    with pytest.raises(ValueError, match="one channel at a time"):
        write_volume(tmp_path / "v.nii.gz", Volume(np.zeros((2, 2, 2, 2)), np.eye(4)))


def test_an_axis_too_long_for_nifti_1_makes_nifti_2(tmp_path: Path) -> None:
    mask = Volume(np.ones((1, 1, 40000), np.uint8), np.eye(4))
    write_mask(tmp_path / "m.nii.gz", mask)
    assert read_nifti(tmp_path / "m.nii.gz").volume.shape == mask.shape


def test_write_mask_refuses_volumes_that_are_not_label_maps(tmp_path: Path) -> None:
    image, truth = ball()
    with pytest.raises(ValueError, match="unsigned integer"):
        write_mask(tmp_path / "m.nii.gz", image)
    with pytest.raises(ValueError, match=r"must end in .nii"):
        write_mask(tmp_path / "m.nrrd", truth)
