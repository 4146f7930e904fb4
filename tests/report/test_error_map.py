"""Errors of voxels: counted as the scores count them, in colours that everyone sees apart."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from voxtile.report.error_map import ERRORS, error_map
from voxtile.report.page.page import resource

MASKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1)
# Vision without L, M or S cones (Machado, Oliveira and Fernandes 2009), on linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@given(MASKS)
def test_one_label_has_the_errors_of_its_scores(pairs) -> None:
    prediction, reference = np.array(pairs).T > 0
    counts = np.bincount(error_map(prediction, reference), minlength=5)
    assert counts[1] == (prediction & reference).sum()
    assert counts[2] == (prediction & ~reference).sum()
    assert counts[3] == (~prediction & reference).sum()
    assert counts[4] == 0


@given(MASKS)
def test_swapping_the_masks_swaps_false_positives_and_false_negatives(pairs) -> None:
    prediction, reference = np.array(pairs).T
    swapped = np.array([0, 1, 3, 2, 4])[error_map(reference, prediction)]
    np.testing.assert_array_equal(error_map(prediction, reference), swapped)


@pytest.mark.parametrize("vision", VISIONS)
def test_every_kind_of_colour_vision_sees_the_errors_apart(vision: str) -> None:
    rgb = np.array([[int(color[at : at + 2], 16) for at in (1, 3, 5)] for _, color in ERRORS]) / 255
    seen = (rgb**2.2 @ np.transpose(VISIONS[vision])).clip(0, 1) ** (1 / 2.2)
    lab = rgb2lab(seen)
    assert min(deltaE_ciede2000(one, other) for one, other in combinations(lab, 2)) > 15


def test_the_page_has_the_same_names_and_colours() -> None:
    script = resource("errors.js")
    assert all(f'name: "{name}", color: "{color}"' in script for name, color in ERRORS)
