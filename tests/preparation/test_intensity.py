"""Intensities are scaled as the spec says, and a constant image is no accident."""

from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import make_spec
from skimage.exposure import equalize_adapthist

from voxtile.engines.trial_tiles import trial_tiles
from voxtile.models.spec import (
    Clahe,
    Fixed,
    Foreground,
    Intensity,
    IntensityMethod,
    MinMax,
    NoScaling,
    Percentile,
    Window,
    ZScore,
)
from voxtile.preparation.intensity import measure, scaled_planes

METHODS = [
    NoScaling(),
    Window(center=40, width=400),
    Fixed(mean=90, sd=40, low=-100, high=250),
    MinMax(),
    Percentile(),
    ZScore(),
    ZScore(nonzero=True),
    ZScore(clip=(0.5, 99.5)),
    # Their statistics; what they do to a volume is tested below.
    Foreground(),
    Clahe(),
]
arrays = hnp.arrays(
    st.sampled_from((np.int16, np.uint8, np.float32, np.int32)),
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
)


def normalise(array: np.ndarray, method: IntensityMethod) -> np.ndarray:
    """A channel scaled by its own statistics."""
    return measure(array, method).apply(array)  # type: ignore[arg-type]


@given(arrays.filter(lambda array: np.isfinite(array).all()), st.sampled_from(METHODS))
def test_any_finite_image_stays_finite_and_float32(array, method) -> None:
    if array.dtype == np.float32:
        array = np.clip(array, -1e30, 1e30)
    scaled = normalise(array, method)
    assert scaled.dtype == np.float32
    assert scaled.shape == array.shape
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize("method", METHODS[3:])
@pytest.mark.parametrize("value", [0, 0.1, -1000, 1704295])
def test_a_constant_image_becomes_zeros(method, value) -> None:
    assert not normalise(np.full((3, 4, 5), value, np.float32), method).any()


@given(
    hnp.arrays(
        st.sampled_from((np.float32, np.float64)),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.one_of(
            st.just(0), st.floats(-2000, 2000, width=16), st.floats(1e3, 1001, width=32)
        ),
    ),
    # About 1e-20 to 1e20; powers of two, so that the product is not rounded.
    st.integers(-66, 66),
    st.sampled_from(METHODS[3:]),
)
def test_a_factor_on_all_voxels_changes_nothing(array, exponent, method) -> None:
    scaled = normalise(np.ldexp(array, exponent), method)
    np.testing.assert_allclose(scaled, normalise(array, method), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS[3:])
@pytest.mark.parametrize("factor", [5e-13, 1e-40, 1e-290, 1e290])
def test_a_scan_of_any_unit_keeps_its_contrast(factor, method) -> None:
    array = np.random.default_rng(0).normal(900, 90, (6, 7, 8))
    np.testing.assert_allclose(
        normalise(array * factor, method), normalise(array, method), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("factor", [1e-20, 1, 1e20])
def test_a_constant_object_is_apart_from_its_background_in_any_unit(factor) -> None:
    array = np.array([[[0, 0, 3, 3, 3]]], np.float32) * np.float32(factor)
    np.testing.assert_array_equal(normalise(array, ZScore(nonzero=True)), [[[-1, -1, 0, 0, 0]]])


@given(arrays.filter(lambda a: a.dtype != np.float32 and a.std() > 1), st.integers(-500, 500))
def test_zscore_has_mean_zero_deviation_one_and_forgets_an_offset(array, offset) -> None:
    wide = array.astype(np.float64)
    scaled = normalise(wide, ZScore())
    assert scaled.mean() == pytest.approx(0, abs=1e-4)
    assert scaled.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(normalise(wide + offset, ZScore()), scaled, atol=1e-3)


@given(arrays.filter(lambda array: np.isfinite(array).all()), st.sampled_from(METHODS))
def test_scaled_intensities_stay_in_the_range_that_their_method_names(array, method) -> None:
    if method.output_range is None:
        return
    if array.dtype == np.float32:
        array = np.clip(array, -1e30, 1e30)
    low, high = method.output_range
    scaled = normalise(array, method)
    assert low - 1e-6 <= scaled.min() <= scaled.max() <= high + 1e-6


def test_every_method_of_a_spec_is_tested_here() -> None:
    (union, _) = get_args(Intensity)
    assert {type(method) for method in METHODS} == set(get_args(union))


def test_trial_tiles_are_in_the_range_that_a_method_names() -> None:
    for method in METHODS:
        tiles = trial_tiles(make_spec(intensity=method, tile=(32, 32)))
        if method.output_range is None:
            assert tiles.mean() == pytest.approx(0, abs=1e-4)
            assert tiles.std() == pytest.approx(1, abs=1e-4)
        else:
            assert (tiles.min(), tiles.max()) == pytest.approx(method.output_range, abs=0.2)


def test_a_method_that_does_not_say_its_range_is_an_error() -> None:
    class Halved(IntensityMethod):
        method: Literal["halved"] = "halved"

    with pytest.raises(AttributeError, match="output_range"):
        Halved().output_range  # noqa: B018


def test_numbers_of_the_training_scans_by_hand() -> None:
    array = np.array([[[-200, -100, 90, 130, 900]]], np.int16)
    scaled = normalise(array, Fixed(mean=90, sd=40, low=-100, high=250))
    np.testing.assert_allclose(scaled, [[[-4.75, -4.75, 0, 1, 4]]])


def test_the_foreground_of_any_channel_is_measured_with_its_holes_and_zero_outside() -> None:
    one = np.zeros((5, 5, 5), np.int16)
    one[1:4, 1:4, 1:4] = 7
    one[2, 2, 2] = 0  # a hole, which is inside
    other = np.zeros_like(one)
    other[1, 1, 1] = 3
    spec = make_spec(channels=("t1", "t2"), intensity=Foreground())
    planes, scalings = scaled_planes(np.stack([one, other], axis=-1), "axial", spec)
    assert all(scaling.apply(planes[0]).dtype == np.float32 for scaling in scalings)
    inside = planes[1:4, 1:4, 1:4, 0]
    assert inside.mean() == pytest.approx(0, abs=1e-6) and inside.std() == pytest.approx(1)
    assert inside[1, 1, 1] == pytest.approx(-np.sqrt(26), rel=1e-5)  # one of 27 voxels
    assert not planes[0].any() and not planes[:, 0].any()


def test_each_plane_is_equalised_as_by_scikit_image() -> None:
    volume = np.random.default_rng(0).integers(0, 900, (32, 24, 3, 1)).astype(np.int16)
    volume[:, :, 2] = 5  # a constant plane
    planes, _ = scaled_planes(volume, "axial", make_spec(intensity=Clahe(clip_limit=0.03)))
    for index in (0, 1):
        plane = volume[:, :, index, 0] / volume.max()
        expected = equalize_adapthist(plane, clip_limit=0.03)
        np.testing.assert_allclose(planes[index, ..., 0], expected, atol=1e-4)
    assert not planes[2].any()


def test_each_channel_may_have_its_own_method() -> None:
    volume = np.random.default_rng(0).normal(50, 9, (4, 5, 6, 2))
    methods = (Window(center=50, width=20), ZScore())
    for others in (methods, (methods[0], Foreground())):
        spec = make_spec(channels=("ct", "pet"), channel_intensity=others)
        planes, scalings = scaled_planes(volume, "coronal", spec)
        for index, method in enumerate(methods):  # all voxels are foreground
            found = scalings[index].apply(np.moveaxis(planes[..., index], 0, 1))
            np.testing.assert_allclose(found, normalise(volume[..., index], method), atol=1e-5)


def test_window_by_hand() -> None:
    array = np.array([[[-200, -160, 40, 240, 3000]]], np.int16)
    np.testing.assert_allclose(
        normalise(array, Window(center=40, width=400)), [[[0, 0, 0.5, 1, 1]]], atol=1e-6
    )


def test_zscore_over_nonzero_voxels_by_hand() -> None:
    array = np.array([[[0, 0, 0, 2, 4]]], np.int16)
    scaling = measure(array, ZScore(nonzero=True))
    assert (scaling.shift, scaling.scale) == (3, 1)


def test_clipping_tames_one_bright_voxel() -> None:
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    array[0, 0, 0] = 1e6
    assert normalise(array, ZScore(clip=(0.5, 99.5))).max() < 2


def test_slices_scaled_one_by_one_are_the_volume_scaled_at_once() -> None:
    array = np.random.default_rng(0).normal(500, 90, (6, 7, 8)).astype(np.float32)
    scaling = measure(array, ZScore())
    by_slice = np.stack([scaling.apply(plane) for plane in array])
    np.testing.assert_array_equal(by_slice, normalise(array, ZScore()))


@pytest.mark.parametrize("order", ["C", "F"])
def test_storage_order_does_not_change_the_scaling(order) -> None:
    array = np.random.default_rng(0).normal(500, 90, (30, 40, 50)).astype(np.float32)
    one, other = measure(array, ZScore()), measure(np.array(array, order=order), ZScore())
    assert one.shift == pytest.approx(other.shift, rel=1e-12)
    assert one.scale == pytest.approx(other.scale, rel=1e-12)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
def test_percentiles_between_neighbours_far_apart_do_not_wrap(kind) -> None:
    array = np.array([[[-100, 100]]], kind) * kind(np.iinfo(kind).max // 100)
    largest = float(array.max())
    scaling = measure(array, Percentile(lower=25, upper=75))
    assert (scaling.low, scaling.high) == (-largest / 2, largest / 2)


@given(
    hnp.arrays(
        st.sampled_from((np.uint8, np.int16, np.uint16, np.int32)),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 255),
    ),
    st.floats(0, 99),
)
def test_percentiles_of_integers_are_those_of_numpy(array, lower) -> None:
    scaling = measure(array, Percentile(lower=lower, upper=100))
    low, high = np.percentile(array.astype(np.float64), (lower, 100))
    assert (scaling.low, scaling.high) == (low, high)
