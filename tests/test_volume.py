"""A volume knows where its voxels lie, and refuses to lie anywhere impossible."""

import numpy as np
import pytest

from voxtile.phantoms.ellipsoids import centred_affine
from voxtile.volume import Volume, canonical, grid_difference, is_sheared


def test_spacing_volume_and_orientation_by_hand() -> None:
    affine = np.array([[0, 0, -3.0, 10], [0.5, 0, 0, 20], [0, 2.0, 0, 30], [0, 0, 0, 1]])
    volume = Volume(np.zeros((2, 3, 4)), affine)
    assert volume.spacing_mm == (0.5, 2.0, 3.0)
    assert volume.voxel_volume_ml == pytest.approx(0.003)
    assert volume.orientation == "ASL"
    ras = canonical(volume)
    assert ras.shape == (4, 2, 3)
    np.testing.assert_allclose(ras.affine[:3, 3], (10 - 9, 20, 30))


def test_a_volume_cannot_be_changed() -> None:
    volume = Volume(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 2


def test_sheared_voxels_have_the_volume_of_the_determinant() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 2.0  # a tilted gantry: each slice lies 2 mm further along y
    volume = Volume(np.zeros((1, 1, 1)), affine)
    assert is_sheared(affine)
    assert volume.voxel_volume_ml == pytest.approx(0.005)
    assert not is_sheared(centred_affine((4, 4, 4), (1, 2, 3), tilt_degrees=30))


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1.0, 0, 1, 1]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "finite"),
        (np.eye(3), r"\(4, 4\)"),
        (np.ones((4, 4)), "last row"),
    ],
)
def test_an_impossible_affine_is_refused(affine, message) -> None:
    with pytest.raises(ValueError, match=message):
        Volume(np.zeros((2, 2, 2)), affine)


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        Volume(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="grid has"):
        Volume(np.zeros((2, 2, 2)), np.eye(4)).with_array(np.zeros((2, 2, 3)))


def test_grid_difference_is_the_largest_over_the_corners() -> None:
    moved = np.eye(4)
    moved[0, 3] = 0.0005
    assert not grid_difference((10, 10, 10), np.eye(4), moved)
    stretched = np.diag([1.0, 1.0, 1.001, 1.0])
    difference = grid_difference((10, 10, 101), np.eye(4), stretched)
    assert difference.position_mm == pytest.approx(0.1)
    assert difference.direction == pytest.approx(0)
    assert difference
    # In voxels of the second grid, along its axes.
    assert difference.voxels == pytest.approx(0.1 / 1.001)
    assert difference.tolerable
    assert not grid_difference((10, 10, 103), np.eye(4), stretched).tolerable
    # One voxel along an axis has no corners, so the axis itself is compared.
    leaning = np.eye(4)
    leaning[0, 2] = 0.2
    assert not grid_difference((10, 10, 1), np.eye(4), leaning).tolerable
