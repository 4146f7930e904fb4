"""Connected components: as in a label image, and lesions by hand."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_pairs import pairs
from scipy import ndimage

from voxtile.scoring.components import component_count, count_lesions, find_components
from voxtile.scoring.score import Measures, score
from voxtile.volume import Volume


@given(pairs())
def test_components_are_those_of_a_label_image(pair) -> None:
    everywhere = np.ones((3, 3, 3))
    images = [ndimage.label(mask, everywhere) for mask in pair]
    found = [find_components(mask) for mask in pair]
    for (image, count), components in zip(images, found, strict=True):
        assert components.count == count
        assert sorted(components.voxels) == sorted(np.bincount(image.ravel())[1:])
    counts = count_lesions(*pair)
    hit = set(images[1][0][pair[0]].tolist()) - {0}
    true = set(images[0][0][pair[1]].tolist()) - {0}
    assert (counts.detected, counts.missed) == (len(hit), images[1][1] - len(hit))
    assert (counts.true, counts.false) == (len(true), images[0][1] - len(true))


@given(pairs())
def test_the_middle_of_a_component_is_the_mean_of_its_voxels(pair) -> None:
    mask, _ = pair
    numbers, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    found = find_components(mask)
    middles = sorted(found.middle(number) for number in range(found.count))
    expected = sorted(
        tuple(np.argwhere(numbers == number).mean(axis=0)) for number in range(1, found.count + 1)
    )
    np.testing.assert_allclose(middles, expected)


def test_lesions_by_hand() -> None:
    pred, ref = np.zeros((2, 1, 1, 20), np.uint8)
    ref[..., [1, 2, 5, 9]] = 1  # three lesions
    pred[..., [2, 3, 12]] = 1  # one found, one false
    result = score(
        Volume(pred, np.eye(4)), Volume(ref, np.eye(4)), measures=Measures(lesions=True)
    )[0]
    assert result.lesions is not None
    counts = result.lesions
    assert (counts.detected, counts.missed, counts.false) == (1, 2, 1)
    assert counts.f1 == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


@given(pairs(), st.integers(1, 100))
def test_slabs_count_the_components_of_the_whole(pair, voxels: int) -> None:
    with mock.patch("voxtile.scoring.components._SLAB_VOXELS", voxels):
        for mask in pair:
            assert component_count(mask) == find_components(mask).count
