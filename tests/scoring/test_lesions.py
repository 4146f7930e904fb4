"""Lesions matched one to one: laws, a pencil case, and empty masks."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_pairs import pairs

from voxtile.scoring.components import find_components
from voxtile.scoring.lesions import LEAST_IOU, match_lesions, matches
from voxtile.scoring.overlap import count_overlaps
from voxtile.scoring.score import Measures, score
from voxtile.volume import Volume

UNIT = np.eye(4)[:3]


@given(pairs(), st.randoms(use_true_random=False))
def test_the_numbers_of_components_change_nothing(pair, random) -> None:
    found, known = map(find_components, pair)
    new = list(range(found.count))
    random.shuffle(new)
    renamed = replace(found, component=np.array(new)[found.component])
    expected = {(new[one], other, shared) for one, other, shared in matches(found, known)}
    assert set(matches(renamed, known)) == expected


@given(pairs())
def test_swapping_the_masks_swaps_missed_and_false(pair) -> None:
    one, other = match_lesions(*pair, UNIT), match_lesions(*pair[::-1], UNIT)
    assert (one.matched, one.missed, one.false) == (other.matched, other.false, other.missed)
    assert one.matched + one.missed == find_components(pair[1]).count
    assert one.matched + one.false == find_components(pair[0]).count
    assert all(lesion.iou > LEAST_IOU for lesion in one.each if lesion.status == "matched")


@given(pairs())
def test_a_mask_matches_itself(pair) -> None:
    found = match_lesions(pair[0], pair[0], UNIT)
    assert {lesion.dice for lesion in found.each} == {1.0}
    assert found.lesionwise_dice == 1
    assert found.hd95_mm == 0


@given(pairs())
def test_a_single_lesion_has_the_scores_of_the_mask(pair) -> None:
    pred, ref = (np.where(find_components(mask).count == 1, mask, False) for mask in pair)
    found = match_lesions(pred, ref, UNIT)
    if found.matched == 1 and len(found.each) == 1:
        (overlap,) = count_overlaps(pred.astype(np.uint8), ref.astype(np.uint8), [(1,)])
        assert found.dice == found.lesionwise_dice == overlap.dice


def line(*parts: tuple[int, int]) -> np.ndarray:
    """A line of 40 voxels with lesions from a first to a last voxel."""
    mask = np.zeros((1, 1, 40), bool)
    for first, last in parts:
        mask[..., first : last + 1] = True
    return mask


def test_lesions_by_hand() -> None:
    # One matches with 4 of 6 voxels; one touches too little (1 of 12); the best of two wins.
    reference = line((0, 4), (10, 15), (20, 29))
    prediction = line((1, 5), (15, 21), (23, 29), (35, 36))
    affine = np.array([[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 2.0, 7]])
    found = match_lesions(prediction, reference, affine, (2,))
    rows = [(one.status, one.dice, one.iou, one.hd95_mm) for one in found.each]
    assert rows == [
        ("matched", 0.8, 4 / 6, 2.0),
        ("missed", None, None, None),
        ("matched", 14 / 17, 7 / 10, pytest.approx(5.7)),
        ("false", None, None, None),
        ("false", None, None, None),
    ]
    assert found.each[0].centre_mm == (5, 6, 11)
    assert (found.each[0].volume_ml_ref, found.each[0].volume_ml_pred) == (0.01, 0.01)
    assert found.lesionwise_dice == pytest.approx((0.8 + 14 / 17) / 5)
    assert found.dice == pytest.approx((0.8 + 14 / 17) / 2)


def test_empty_masks() -> None:
    nothing, some = line(), line((3, 5))
    both = match_lesions(nothing, nothing, UNIT)
    assert (both.matched, both.missed, both.false) == (0, 0, 0)
    assert isnan(both.dice)
    assert isnan(both.lesionwise_dice)
    for one, other, counts in ((nothing, some, (0, 1, 0)), (some, nothing, (0, 0, 1))):
        found = match_lesions(one, other, UNIT)
        assert (found.matched, found.missed, found.false) == counts
        assert found.lesionwise_dice == 0
        assert isnan(found.hd95_mm)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_place_of_a_lesion_is_in_the_world(order: tuple[int, ...]) -> None:
    mask = np.zeros((8, 9, 10), np.uint8)
    mask[2:5, 3, 4] = 1
    affine = np.array([[-1.5, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1]])
    volume = Volume(mask.transpose(order), affine[:, [*order, 3]])
    (found,) = score(volume, volume, measures=Measures(per_lesion=True))
    assert found.matched is not None
    assert found.matched.each[0].centre_mm == pytest.approx((10 - 4.5, -20 + 6, 30 + 12))
