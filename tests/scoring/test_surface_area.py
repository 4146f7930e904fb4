"""The area-weighted surface Dice: laws, cubes by hand, and the numbers of DeepMind's program."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_pairs import pairs

from voxtile.scoring.surface_area import _areas, weigh_surfaces

UNIT = np.eye(3)


@given(pairs(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=30)
def test_storage_order_changes_nothing(pair, order, flips) -> None:
    linear = np.diag([1.0, 1.5, 3.0])
    axes = tuple(axis for axis, flip in enumerate(flips) if flip)
    signs = np.where(flips, -1, 1)
    moved = [np.flip(mask, axes).transpose(order) for mask in pair]
    found = weigh_surfaces(*moved, (linear * signs)[:, list(order)])
    assert found.nsd(1) == pytest.approx(weigh_surfaces(*pair, linear).nsd(1), abs=1e-12)


@given(pairs())
@settings(max_examples=30)
def test_swapping_the_masks_changes_nothing_and_equal_masks_agree(pair) -> None:
    one, other = weigh_surfaces(*pair, UNIT), weigh_surfaces(*pair[::-1], UNIT)
    assert one.nsd(0.7) == pytest.approx(other.nsd(0.7))
    assert weigh_surfaces(pair[0], pair[0], UNIT).nsd(0) == 1


def box(size: int, at: int = 2, shape=(12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(at, at + size) for _ in shape)] = True
    return mask


def test_the_area_of_a_cube_by_hand() -> None:
    # Faces of (n - 1)^2 squares, 12 (n - 1) bevelled edges, 8 corners of a triangle each.
    found = weigh_surfaces(box(4), box(4), UNIT)
    corner = np.sqrt(3) / 8
    expected = 6 * 9 + 12 * 3 * np.sqrt(0.5) + 8 * corner
    assert found.areas[0].sum() == pytest.approx(expected)
    assert found.areas[0].size == 5**3 - 3**3


def test_the_length_of_a_square_by_hand() -> None:
    mask = box(3, shape=(9, 9))
    found = weigh_surfaces(mask, mask, np.array([[2.0, 0], [0, 1], [0, 0]]))
    assert found.areas[0].sum() == pytest.approx(2 * 2 * 2 + 2 * 2 * 1 + 4 * np.sqrt(5) / 2)


def test_a_shift_by_one_voxel_is_within_one_voxel() -> None:
    found = weigh_surfaces(box(4), box(4, 3), np.diag([1.0, 1, 1]))
    assert found.nsd(0) < 0.5 < found.nsd(1)
    assert found.nsd(2) == 1


def test_empty_masks() -> None:
    nothing = np.zeros((4, 4, 4), bool)
    assert isnan(weigh_surfaces(nothing, nothing, UNIT).nsd(1))
    assert weigh_surfaces(nothing, box(2, 1, (4, 4, 4)), UNIT).nsd(100) == 0


def test_a_table_of_areas_scales_with_the_voxel() -> None:
    small, large = _areas(UNIT), _areas(3 * UNIT)
    np.testing.assert_allclose(large, 9 * small)
    assert small[0] == small[255] == 0


def pair_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that any NumPy draws alike."""
    values = np.random.RandomState(seed).random_sample((3, 7, 8, 6))
    blocks = values[1].repeat(2, 0)[:7].repeat(2, 1)[:, :8]
    return (values[0] + blocks) > 1.2, (values[2] + blocks) > 1.5


# compute_surface_dice_at_tolerance of surface-distance 0.1 (DeepMind, Apache License 2.0) for
# pair_of(seed) with this spacing and tolerance.
DEEPMIND = [
    (0, (1.0, 1.0, 1.0), 0.5, 0.7343788845),
    (1, (0.5, 0.8, 3.0), 0.8, 0.9691403273),
    (2, (2.0, 0.7, 1.1), 0.7, 0.6865456986),
    (3, (0.9, 0.9, 5.0), 2.0, 0.9828847336),
]


@pytest.mark.parametrize(("seed", "spacing", "tolerance", "value"), DEEPMIND)
def test_the_numbers_are_those_of_deepmind(seed, spacing, tolerance, value) -> None:
    found = weigh_surfaces(*pair_of(seed), np.diag(spacing))
    assert found.nsd(tolerance) == pytest.approx(value, abs=1e-9)


def test_the_numbers_of_a_plane_are_those_of_deepmind() -> None:
    one, other = (mask[..., 0] for mask in pair_of(1))
    found = weigh_surfaces(one, other, np.diag([0.7, 2.0, 1.0])[:, :2])
    assert found.nsd(0.7) == pytest.approx(0.6446804741, abs=1e-9)
