"""Distances between surfaces: laws for any pair of masks, and numbers by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_pairs import metrics, pairs

from voxtile.scoring.surface import SurfaceDistances, measure_surfaces, surface_voxels

SHEARED = np.array([[2, 0.3, 0, 0], [0, 1, 0.7, 0], [0, 0, 3, 0], [0, 0, 0, 1]])


affines = st.one_of(
    st.tuples(*[st.floats(0.2, 5)] * 3).map(lambda spacing: np.diag([*spacing, 1])),
    st.just(SHEARED),
)


def brute(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> SurfaceDistances:
    """Every distance between every pair of surface voxels, and no shortcut."""
    places = []
    for mask in (one, other):
        padded = np.pad(mask, 1)
        surface = [
            index
            for index in np.argwhere(mask)
            if not all(
                padded[tuple(index + 1 + step)]
                for step in [*np.eye(3, dtype=int), *-np.eye(3, dtype=int)]
            )
        ]
        places.append(np.array(surface) @ affine[:3, :3].T)
    between = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
    return SurfaceDistances(between.min(axis=1), between.min(axis=0))


@given(pairs(), affines)
def test_distances_are_those_of_every_pair_of_surface_voxels(pair, affine) -> None:
    measured, expected = measure_surfaces(*pair, affine), brute(*pair, affine)
    np.testing.assert_allclose(measured.pred_to_ref, expected.pred_to_ref, atol=1e-9)
    np.testing.assert_allclose(measured.ref_to_pred, expected.ref_to_pred, atol=1e-9)


@given(pairs(), affines)
def test_swapping_the_masks_changes_nothing(pair, affine) -> None:
    one, other = pair
    np.testing.assert_allclose(
        metrics(measure_surfaces(one, other, affine)),
        metrics(measure_surfaces(other, one, affine)),
        rtol=1e-12,
    )


@given(pairs(), affines, st.tuples(*[st.integers(0, 3)] * 6))
def test_where_the_masks_lie_in_the_image_changes_nothing(pair, affine, margins) -> None:
    widths = np.array(margins).reshape(3, 2)
    moved = [np.pad(mask, widths) for mask in pair]
    np.testing.assert_allclose(
        metrics(measure_surfaces(*moved, affine)),
        metrics(measure_surfaces(*pair, affine)),
        atol=1e-9,
    )


@given(pairs(), affines, st.floats(0.5, 4))
def test_distances_grow_with_the_spacing(pair, affine, factor) -> None:
    larger = affine.copy()
    larger[:3, :3] *= factor
    before, after = (metrics(measure_surfaces(*pair, grid))[:3] for grid in (affine, larger))
    np.testing.assert_allclose(after, factor * np.array(before), atol=1e-9)


@given(pairs(), affines)
def test_equal_masks_are_at_distance_zero(pair, affine) -> None:
    assert metrics(measure_surfaces(pair[0], pair[0], affine)) == [0, 0, 0, 1, 1, 1, 1, 1]


@given(pairs(), affines)
def test_the_metrics_are_ordered(pair, affine) -> None:
    distances = measure_surfaces(*pair, affine)
    assert 0 <= distances.assd_mm <= distances.hd_mm
    assert 0 <= distances.hd95_mm <= distances.hd_mm
    shares = [distances.nsd(tolerance) for tolerance in np.linspace(0, 20, 30)]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert distances.nsd(distances.hd_mm) == 1


@given(pairs(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=40)
def test_storage_order_changes_nothing(pair, order, flips) -> None:
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    spacing = np.array([0.7, 1.5, 4.0])
    plain = measure_surfaces(*pair, np.diag([*spacing, 1]))
    turned = [mask.transpose(order)[turn] for mask in pair]
    other = measure_surfaces(*turned, np.diag([*spacing[list(order)], 1]))
    np.testing.assert_allclose(metrics(other), metrics(plain), atol=1e-9)


def slab(stop: int, shape=(100, 20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[:stop] = True
    return mask


def test_two_voxels_by_hand() -> None:
    one, other = np.zeros((2, 5, 5, 5), bool)
    one[1, 1, 1] = other[3, 1, 1] = True
    distances = measure_surfaces(one, other, np.diag([3, 2, 1, 1]))
    assert metrics(distances)[:3] == [6, 6, 6]
    assert (distances.nsd(5.9), distances.nsd(6)) == (0, 1)


def test_two_slabs_by_hand() -> None:
    # The far ends differ by one voxel of 2 mm; every other surface voxel is shared.
    distances = measure_surfaces(slab(50), slab(51), np.diag([2, 1, 1, 1]))
    assert (distances.hd_mm, distances.nsd(2), distances.nsd(1.5) < 1) == (2, 1, True)
    face, ring = 18 * 18, 4 * 19  # inner voxels of an end, and its rim
    # The end of the longer slab is one step from the shorter; the end of the shorter lies 2 mm
    # from the end of the longer, but at its rim the longer has surface too.
    total = (face + ring) * 2 + sum(
        min(2, row, 19 - row, column, 19 - column) for row in range(20) for column in range(20)
    )
    voxels = sum(len(surface_voxels(slab(stop))) for stop in (50, 51))
    assert distances.assd_mm == pytest.approx(total / voxels)


def test_percentiles_are_directed() -> None:
    distances = SurfaceDistances(np.arange(101.0), np.zeros(1000))
    assert distances.hd95_mm == 95  # pooled it would be 45
    assert distances.assd_mm == pytest.approx(5050 / 1101)


def test_the_border_of_the_image_is_outside() -> None:
    assert len(surface_voxels(np.ones((3, 3, 3), bool))) == 26
    assert len(surface_voxels(np.ones((4, 4, 1), bool))) == 16


def test_a_tolerance_of_one_voxel_is_met_in_spite_of_single_precision() -> None:
    one, other = np.zeros((2, 3, 1, 1), bool)
    one[0] = other[1] = True
    affine = np.diag([np.float32(0.8), 1, 1, 1])
    assert float(affine[0, 0]) > 0.8
    assert measure_surfaces(one, other, affine).nsd(0.8) == 1


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance -1 mm must be at least 0"):
        SurfaceDistances(np.zeros(1), np.zeros(1)).nsd(-1)
