"""Splines give what scikit-image gives, which other programs use."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import make_spec
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from voxtile.preparation.prepared import resampling
from voxtile.preparation.resampling import resamplers
from voxtile.preparation.tiling import Padding, tile_weight
from voxtile.volume import Volume

sizes = st.integers(1, 24)


@settings(max_examples=40)
@given(sizes, sizes, st.floats(0.3, 3), st.integers(0, 99))
def test_splines_equal_those_of_scikit_image(rows, columns, factor, seed) -> None:
    plane = np.random.default_rng(seed).normal(0, 1, (rows, columns, 2)).astype(np.float32)
    there, back = resamplers((rows, columns), (1.0, 1.0), (factor, 1.0), "spline")
    after = max(1, round(rows / factor)), columns
    assert there.shape == after
    found = there.apply(plane)
    for channel in range(2):
        one = plane[..., channel].astype(np.float64)
        expected = resize(one, after, order=3, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(found[..., channel], expected, atol=2e-5)
        returned = resize(expected, (rows, columns), order=1, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(back.apply(found)[..., channel], returned, atol=3e-5)


def test_planes_keep_their_pixels_if_splines_would_not_change_their_number() -> None:
    volume = Volume(np.zeros((10, 10, 3, 1), np.float32), np.diag([1.01, 1.01, 2, 1]))
    spec = make_spec(spacing_mm=(1, 1, 1), resampling="spline")
    assert resampling(volume, "axial", (10, 10), spec) == (None, None)
    linear = make_spec(spacing_mm=(1, 1, 1))
    assert resampling(volume, "axial", (10, 10), linear)[0].shape == (11, 11)


def test_the_weights_of_nnunet_are_a_filtered_pixel() -> None:
    pixel = np.zeros((16, 8))
    pixel[8, 4] = 1
    expected = gaussian_filter(pixel, (2, 1), mode="constant")
    weight = tile_weight((16, 8), "gaussian_nnunet")
    np.testing.assert_allclose(weight, expected / expected.max(), atol=1e-7)


def test_small_planes_can_be_surrounded_by_zeros() -> None:
    padded = Padding((1, 2), (2, 5), zeros=True).apply(np.ones((1, 2, 1)))
    np.testing.assert_array_equal(padded[..., 0], [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
