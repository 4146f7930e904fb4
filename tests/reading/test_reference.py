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
from voxtile.reading.reference import integral, read_label_map, read_reference
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.array([10.0, 0, 0]), "is up to 10 mm away from the image"),
        (np.array([0, 0.002, 0]), "is up to 0.002 mm away"),
    ],
)
def test_another_position_in_the_world_is_refused(tmp_path: Path, change, message) -> None:
    affine = TRUTH.affine.copy()
    affine[:3, 3] += change
    with pytest.raises(CaseError, match=message):
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
    nibabel.Nifti1Image(np.stack([TRUTH.array] * 2, axis=-1), TRUTH.affine).to_filename(path)
    for survey in (False, True):
        with pytest.raises(
            CaseError, match=r"^the prediction cannot be used: .* one of them in the"
        ):
            read_label_map(path, "prediction", survey=survey)
    with pytest.raises(CaseError, match=r"l\.nii\.gz holds 2 volumes") as caught:
        read_reference(path, IMAGE, LABELS)
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
