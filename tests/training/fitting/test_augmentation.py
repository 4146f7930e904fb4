"""Laws of augmentation: what must hold for any plane, tile and seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.training.fitting.augmentation import (
    Augmentation,
    Warp,
    blur,
    contrast,
    coordinates,
    draw_variation,
    draw_warp,
    flip,
    gamma,
    read_linear,
    read_nearest,
    vary_intensity,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
spacings = st.tuples(st.floats(0.3, 5), st.floats(0.3, 5))


def varied_by(image: np.ndarray, rng: np.random.Generator, how: Augmentation) -> np.ndarray:
    """A tile with random changes of its intensities."""
    shape = image.shape[:-1]
    return vary_intensity(image, [draw_variation(rng, how, shape) for _ in range(image.shape[-1])])


@given(sizes, spacings, seeds)
def test_no_warp_reads_the_plane_itself(
    shape: tuple[int, int], spacing_mm: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.random((*shape, 2), np.float32)
    label = rng.integers(0, 4, shape)
    centre = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    where = coordinates(shape, centre, Warp(), spacing_mm)
    np.testing.assert_array_equal(read_linear(plane, where), plane)
    np.testing.assert_array_equal(read_nearest(label, where), label)


@given(sizes, spacings, seeds)
def test_augmentation_none_changes_nothing(
    tile: tuple[int, int], spacing_mm: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((*tile, 3, 2), np.float32)
    warp = draw_warp(rng, tile, spacing_mm, Augmentation.none())
    where = coordinates(tile, (0.0, 0.0), warp, spacing_mm)
    straight = coordinates(tile, (0.0, 0.0), Warp(), spacing_mm)
    np.testing.assert_array_equal(where, straight)
    np.testing.assert_array_equal(varied_by(image, rng, Augmentation.none()), image)


@given(sizes, sizes, spacings, seeds)
def test_labels_stay_in_their_set_and_intensities_in_their_range(
    shape: tuple[int, int], tile: tuple[int, int], spacing_mm: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 3, 17], shape)
    plane = rng.random((*shape, 1), np.float32)
    warp = draw_warp(rng, tile, spacing_mm, Augmentation(geometry_rate=1))
    where = coordinates(tile, tuple(rng.uniform(-5, 25, 2)), warp, spacing_mm)
    assert set(np.unique(read_nearest(label, where))) <= set(np.unique(label))
    read = read_linear(plane, where)
    assert read.shape == (*tile, 1)
    assert plane.min() - 1e-6 <= read.min() <= read.max() <= plane.max() + 1e-6


@given(seeds, spacings)
def test_image_and_label_move_together(seed: int, spacing_mm: tuple[float, float]) -> None:
    # A plane that shows its own label: wherever it is read away from an edge, both agree.
    rng = np.random.default_rng(seed)
    label = np.zeros((40, 40), np.uint8)
    label[12:28, 15:30] = 1
    warp = draw_warp(rng, (32, 32), spacing_mm, Augmentation(geometry_rate=1))
    where = coordinates((32, 32), (19.5, 19.5), warp, spacing_mm)
    image = read_linear(label[..., np.newaxis].astype(np.float32), where)[..., 0]
    truth = read_nearest(label, where)
    np.testing.assert_array_equal(truth[image == 1], 1)
    np.testing.assert_array_equal(truth[image == 0], 0)


@given(seeds)
def test_a_warp_never_folds_the_tile(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = Augmentation(geometry_rate=1, elastic_mm=50)
    warp = draw_warp(rng, (48, 48), (1.0, 1.0), wild)
    rows, columns = coordinates((48, 48), (0.0, 0.0), warp, (1.0, 1.0)).astype(float)
    area = np.gradient(rows, axis=0) * np.gradient(columns, axis=1) - np.gradient(
        rows, axis=1
    ) * np.gradient(columns, axis=0)
    assert (area > 0).all()


@given(st.floats(-180, 180), spacings)
def test_turning_keeps_distances_in_mm(angle_deg: float, spacing_mm: tuple[float, float]) -> None:
    where = coordinates((9, 7), (3.0, 4.0), Warp(angle_deg), spacing_mm)
    straight = coordinates((9, 7), (3.0, 4.0), Warp(), spacing_mm)
    scale = np.reshape(spacing_mm, (2, 1, 1))
    distances = [
        np.hypot(*((points - points[:, 4:5, 3:4]) * scale)) for points in (where, straight)
    ]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-3)


def test_magnifying_twice_reads_half_as_far() -> None:
    where = coordinates((5, 5), (10.0, 10.0), Warp(scale=(2.0, 1.0)), (1.0, 1.0))
    np.testing.assert_allclose(where[0, :, 0], [9, 9.5, 10, 10.5, 11])
    np.testing.assert_allclose(where[1, 0], [8, 9, 10, 11, 12])


@given(seeds, st.lists(st.sampled_from([0, 1, 2]), unique=True))
def test_flipping_twice_is_the_identity_and_labels_ignore_the_slices(
    seed: int, axes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    image, label = rng.random((4, 5, 3, 2)), rng.integers(0, 3, (4, 5))
    there = flip(image, label, axes)
    back = flip(*there, axes)
    np.testing.assert_array_equal(back[0], image)
    np.testing.assert_array_equal(back[1], label)
    if axes == [2]:
        np.testing.assert_array_equal(there[1], label)
        np.testing.assert_array_equal(there[0], image[:, :, ::-1])


@given(seeds)
def test_intensity_changes_are_finite_and_the_identity_at_their_neutral_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (8, 9, 3)).astype(np.float32)
    for same in (blur(image, 0), contrast(image, 1), gamma(image, 1)):
        np.testing.assert_array_equal(same, image)
    varied = varied_by(image[..., np.newaxis], rng, Augmentation(intensity_rate=1))
    assert varied.dtype == np.float32
    assert np.isfinite(varied).all()


def test_a_constant_image_stays_finite() -> None:
    image = np.full((6, 6, 1, 1), 3, np.float32)
    varied = varied_by(image, np.random.default_rng(0), Augmentation(intensity_rate=1))
    np.testing.assert_allclose(varied, 3)


@given(st.floats(0.3, 3), st.booleans(), seeds)
def test_gamma_keeps_range_and_order(exponent: float, inverted: bool, seed: int) -> None:
    image = np.sort(np.random.default_rng(seed).normal(0, 1, 50).astype(np.float32))
    bent = gamma(image, exponent, inverted=inverted)
    assert (np.diff(bent) >= -1e-5).all()
    assert bent[0] == pytest.approx(image[0], abs=1e-4)
    assert bent[-1] == pytest.approx(image[-1], abs=1e-4)


def test_blur_does_not_mix_neighbour_slices() -> None:
    image = np.zeros((9, 9, 3), np.float32)
    image[4, 4, 1] = 1
    smooth = blur(image, 0.8)
    assert smooth[..., 1].sum() == pytest.approx(1, abs=1e-3)
    assert not smooth[..., [0, 2]].any()
