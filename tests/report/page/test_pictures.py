"""Pictures: cropped, reduced, windowed, and of the right channel and volume."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import BALL, LABELS, ball

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.models.spec import Label
from voxtile.phantoms.ellipsoids import centred_affine, draw
from voxtile.reading.scan import ReadPolicy
from voxtile.report.page.pictures import make_picture, read_picture
from voxtile.volume import Volume, canonical
from voxtile.writing.nifti import write_mask, write_volume


def centre_mm(volume: Volume, chosen: np.ndarray) -> np.ndarray:
    return (volume.affine @ np.append(np.argwhere(chosen).mean(axis=0), 1))[:3]


@given(
    st.tuples(st.integers(5, 30), st.integers(5, 30), st.integers(1, 20)),
    st.sampled_from(["RAS", "LPS", "PIR"]),
    st.integers(40, 4000),
)
def test_a_reduced_picture_keeps_its_position_and_its_labels(shape, axes, most) -> None:
    affine = centred_affine(shape, (1.0, 1.5, 2.0), axes=axes, tilt_degrees=10)
    image, truth = map(canonical, draw(shape, affine, [BALL]))
    picture = make_picture(image, truth, None, most_voxels=most)
    assert picture.image.array.size <= most
    assert picture.image.shape == picture.prediction.shape
    assert set(np.unique(picture.prediction.array)) <= {0, 1}
    np.testing.assert_array_equal(picture.image.affine, picture.prediction.affine)
    # Cut edges aside, the middle of the grid stays where it was.
    moved = centre_mm(image, np.ones(image.shape)) - centre_mm(
        picture.image, np.ones(picture.image.shape)
    )
    assert np.linalg.norm(moved) <= np.linalg.norm(np.multiply(picture.image.spacing_mm, 1.0))


def test_a_large_scan_is_cropped_to_its_masks_in_place() -> None:
    affine = centred_affine((150, 140, 60), (1.0, 1.0, 2.0))
    image, truth = draw((150, 140, 60), affine, [BALL])
    picture = make_picture(image, truth, None, most_voxels=400_000)
    assert picture.notes == ("cropped to 25 mm around the masks",)
    assert picture.prediction.array.sum() == truth.array.sum()
    np.testing.assert_allclose(
        centre_mm(picture.prediction, picture.prediction.array > 0),
        centre_mm(truth, truth.array > 0),
        atol=1e-9,
    )


def test_intensities_are_windowed_where_the_masks_are() -> None:
    image, truth = ball()
    bright = np.array(image.array, np.float32)
    bright[0, 0, 0] = 1e6  # one bright voxel must not make the rest black
    picture = make_picture(image.with_array(bright), truth, None)
    assert picture.window == (0, 100)
    assert set(np.unique(picture.image.array)) == {0, 255}


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "AIL"])
def test_masks_become_positions_on_the_grid_of_the_scan(tmp_path: Path, axes: str) -> None:
    image, truth = ball(axes=axes)
    write_volume(tmp_path / "i.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", canonical(truth.with_array(truth.array * np.uint8(7))))
    write_mask(tmp_path / "l.nii.gz", truth.with_array(truth.array * np.uint8(9)))
    labels = (Label(value=3, name="a", color="#000000"), Label(value=7, name="b", color="#ffffff"))
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), label=tmp_path / "l.nii.gz")
    picture = read_picture(case, tmp_path / "m.nii.gz", labels, label_map={9: 7})
    expected = canonical(truth).array * 2
    np.testing.assert_array_equal(picture.prediction.array, expected)
    assert picture.reference is not None
    np.testing.assert_array_equal(picture.reference.array, expected)
    assert picture.image.orientation == "RAS"


def test_a_reference_that_cannot_be_shown_is_noted(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / "i.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", truth)
    write_mask(tmp_path / "l.nii.gz", ball(shape=(9, 9, 9))[1])
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), label=tmp_path / "l.nii.gz")
    picture = read_picture(case, tmp_path / "m.nii.gz", LABELS)
    assert picture.reference is None
    assert "reference not shown: " in picture.notes[0]
    with pytest.raises(CaseError, match=r"the mask x\.nii\.gz is missing"):
        read_picture(case, tmp_path / "x.nii.gz", LABELS)


def test_a_picture_is_of_the_volume_that_the_row_of_the_case_names(tmp_path: Path) -> None:
    image, truth = ball()
    both = np.stack([np.zeros_like(image.array), image.array], axis=-1)
    nibabel.Nifti1Image(both, image.affine).to_filename(tmp_path / "i.nii.gz")
    write_mask(tmp_path / "m.nii.gz", truth)
    case = Case("c", (("image", tmp_path / "i.nii.gz"),), volume=1)
    for policy in (None, ReadPolicy(volume=0)):
        picture = read_picture(case, tmp_path / "m.nii.gz", LABELS, policy=policy)
        np.testing.assert_array_equal(picture.image.array > 0, canonical(image).array > 0)


def test_a_picture_is_of_the_models_first_channel(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / "pet.nii.gz", image.with_array(np.zeros_like(image.array)))
    write_volume(tmp_path / "ct.nii.gz", image)
    write_mask(tmp_path / "m.nii.gz", truth)
    case = Case("c", (("pet", tmp_path / "pet.nii.gz"), ("ct", tmp_path / "ct.nii.gz")))
    picture = read_picture(case, tmp_path / "m.nii.gz", LABELS, channels=("ct",))
    np.testing.assert_array_equal(picture.image.array > 0, canonical(image).array > 0)
    assert picture.notes[0] == "channel ct of 2"
    assert read_picture(case, tmp_path / "m.nii.gz", LABELS).notes[0] == "channel pet of 2"
