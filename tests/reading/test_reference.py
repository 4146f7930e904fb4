"""A reference is used only if it lies on the scan's grid and its values are labels."""

import pickle
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicoms import voxels, write_series
from phantoms import LABELS, ball

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.reference import integral, on_grid_of, read_label_map, read_reference
from voxtile.scoring.overlap import plain_labels
from voxtile.volume import Axes, Volume, reorient
from voxtile.writing.nifti import write_volume

IMAGE, TRUTH = ball(axes="LPS", tilt_degrees=20)
TWO = plain_labels({1: "one", 2: "two"})


def reference(tmp_path: Path, mask: Volume, labels=LABELS, label_map=None):
    write_volume(tmp_path / "label.nii.gz", mask)
    return read_reference(tmp_path / "label.nii.gz", IMAGE, labels, label_map)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_any_storage_order_of_one_grid_is_reordered(tmp_path: Path, order, flips) -> None:
    mask, notices = reference(tmp_path, reorient(TRUTH, Axes(order, flips)))
    np.testing.assert_array_equal(mask.array, TRUTH.array)
    np.testing.assert_array_equal(mask.affine, IMAGE.affine)
    moved = (order, flips) != ((0, 1, 2), (False, False, False))
    assert [notice.code for notice in notices] == ["label_reoriented"] * moved


def stretched(voxels: float) -> Volume:
    """The true mask on a grid whose last corner is off by some voxels along each axis in turn."""
    step = np.diag([*(1 + voxels / (np.array(TRUTH.shape) - 1)), 1])
    return Volume(TRUTH.array, TRUTH.affine @ step)


def turned(degrees: float) -> Volume:
    """The true mask on a grid turned in its plane about its first voxel."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    return Volume(TRUTH.array, TRUTH.affine @ turn)


def shifted(voxels: float, axis: int = 1) -> Volume:
    """The true mask on a grid that is some voxels away."""
    step = np.eye(4)
    step[axis, 3] = voxels
    return Volume(TRUTH.array, TRUTH.affine @ step)


@pytest.mark.parametrize("make", [stretched, shifted])
def test_a_grid_may_be_a_tenth_of_a_voxel_off_at_every_corner(tmp_path: Path, make) -> None:
    for off in (0.005, -0.09, 0.09):
        mask, notices = reference(tmp_path, make(off))
        np.testing.assert_array_equal(mask.array, TRUTH.array)
        np.testing.assert_array_equal(mask.affine, IMAGE.affine)
        assert [notice.code for notice in notices] == ["label_off_grid"]
        assert f"up to {abs(off)} voxels away" in notices[0].sentence
    for off in (-0.11, 0.11, 0.4):
        with pytest.raises(CaseError, match=r"mm away from the image .* resample the reference"):
            reference(tmp_path, make(off))
    assert not reference(tmp_path, make(1e-5))[1]


def test_the_tolerance_is_the_same_in_voxels_of_any_size(tmp_path: Path) -> None:
    for size in (1e-3, 1, 30):
        zoom = np.diag([size, size, 5 * size, 1])
        grid = Volume(TRUTH.array, zoom)
        for off, fits in ((0.09, True), (0.11, False)):
            away = Volume(TRUTH.array, zoom @ np.diag([1, 1, 1 + off / 11, 1]))
            assert away.shape[2] == 12
            if fits:
                _, (notice,) = on_grid_of(away, grid, "label")
                assert notice.code == "label_off_grid"
            else:
                with pytest.raises(CaseError, match="away from the image"):
                    on_grid_of(away, grid, "label")


def test_a_turned_grid_is_judged_by_its_corners_too(tmp_path: Path) -> None:
    assert [notice.code for notice in reference(tmp_path, turned(0.1))[1]] == ["label_off_grid"]
    with pytest.raises(CaseError, match="away from the image"):
        reference(tmp_path, turned(0.5))


def test_another_position_in_the_world_is_refused(tmp_path: Path) -> None:
    affine = TRUTH.affine.copy()
    affine[:3, 3] += (10.0, 0, 0)
    with pytest.raises(CaseError, match="is up to 10 mm away from the image"):
        reference(tmp_path, Volume(TRUTH.array, affine))


def test_another_shape_or_spacing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"shape \(24, 20, 11\) .* resample the reference"):
        reference(tmp_path, Volume(TRUTH.array[:, :, :11], TRUTH.affine))
    with pytest.raises(CaseError, match="spacing"):
        reference(tmp_path, Volume(TRUTH.array, TRUTH.affine @ np.diag([1.01, 1, 1, 1])))


def test_values_near_integers_are_rounded_with_a_notice(tmp_path: Path) -> None:
    noisy = TRUTH.array.astype(np.float32) * np.float32(0.9999)
    mask, notices = reference(tmp_path, TRUTH.with_array(noisy))
    np.testing.assert_array_equal(mask.array, TRUTH.array)
    assert [notice.code for notice in notices] == ["label_rounded"]
    exact, notices = reference(tmp_path, TRUTH.with_array(TRUTH.array.astype(np.float64)))
    assert exact.array.dtype == np.uint8
    assert not notices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a * 0.5, "not_integral|0.5 from an integer"),
        (lambda a: -a.astype(np.int16), "from -1 to 0"),
        (lambda a: a * 7, r"values 7, but the model has only 0, 1; .* 7:1"),
        (lambda a: a.astype(np.int32) * 70000, "70000"),
    ],
)
def test_values_that_are_not_labels_are_refused(tmp_path: Path, change, message) -> None:
    with pytest.raises(CaseError, match=message):
        reference(tmp_path, TRUTH.with_array(change(TRUTH.array)))


def test_an_unreadable_reference_is_refused_without_options_for_scans(tmp_path: Path) -> None:
    path = tmp_path / "l.nii.gz"
    with_nan = TRUTH.array.astype(np.float32)
    with_nan[0, 0, 0] = np.nan
    write_volume(path, TRUTH.with_array(with_nan))
    with pytest.raises(CaseError) as caught:
        read_reference(path, IMAGE, LABELS)
    assert caught.value.code == "not_finite"
    assert caught.value.sentence == (
        "the reference cannot be used: 1 NaN or infinite voxel found; repair the file"
    )
    nibabel.Nifti1Image(np.stack([TRUTH.array * 2] * 2, axis=-1), TRUTH.affine).to_filename(path)
    with pytest.raises(
        CaseError, match=r"^the prediction cannot be used: it has 2 volumes with values"
    ):
        read_label_map(path, "prediction")
    with pytest.raises(CaseError, match="a channel of 0 and 1 for each label; keep") as caught:
        read_reference(path, IMAGE, LABELS)
    assert caught.value.code == "several_volumes"
    assert "--" not in caught.value.sentence


def test_an_unreadable_dicom_reference_is_refused_without_options_for_scans(tmp_path: Path) -> None:
    for number in "12":
        write_series(tmp_path / number, voxels(), SeriesInstanceUID=f"1.2.3.{number}")
    with pytest.raises(CaseError, match="choose one with --series"):
        read_scan(tmp_path)
    with pytest.raises(
        CaseError, match="the reference cannot be used: there are 2 series"
    ) as caught:
        read_reference(tmp_path, IMAGE, LABELS)
    assert "--" not in caught.value.sentence
    assert caught.value.sentence.endswith("put the files of one into a folder of their own")


def test_an_error_is_complete_after_pickling() -> None:
    error = CaseError("code", "what came; what to do", "pass --this")
    other = pickle.loads(pickle.dumps(error))
    assert str(other) == other.sentence == "what came; what to do, or pass --this"
    assert (other.code, other.bare, other.option) == (error.code, error.bare, error.option)


def test_a_label_map_renames_all_at_once(tmp_path: Path) -> None:
    array = TRUTH.array.copy()
    array[0, 0, 0] = 2
    mask, _ = reference(tmp_path, TRUTH.with_array(array), TWO, {1: 2, 2: 1})
    assert mask.array[0, 0, 0] == 1
    np.testing.assert_array_equal(mask.array == 2, TRUTH.array == 1)
    mask, _ = reference(tmp_path, TRUTH.with_array(array), LABELS, {2: 0})
    np.testing.assert_array_equal(mask.array, TRUTH.array)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_uint8_stays_uint8_without_a_copy(kind) -> None:
    array = np.zeros((3, 4, 5), kind)
    whole, notices = integral(array, "label")
    assert whole is array
    assert not notices
