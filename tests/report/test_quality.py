"""The predicted Dice: its laws, numbers by hand, and how often its bound holds."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import make_bundle

from voxtile.models.quality import FEWEST, LabelQuality, Quality
from voxtile.report.quality import (
    CONFIDENCE,
    Observation,
    _rank,
    dice_flags,
    learn_quality,
    predict_dice,
)
from voxtile.scoring.overlap import plain_labels

LABELS = plain_labels({1: "one"})
SHARES = st.floats(0, 1)


def observed(expected, dice, groups=None) -> list[Observation]:
    names = groups or [f"c{n}" for n in range(len(dice))]
    return [Observation(*row) for row in zip(names, zip(expected), zip(dice), strict=True)]


def learned(expected, dice, groups=None) -> Quality | None:
    return learn_quality(make_bundle(), observed(expected, dice, groups), "test cases")


@given(st.lists(st.tuples(SHARES, SHARES), min_size=FEWEST, max_size=30), SHARES, SHARES)
def test_a_prediction_is_a_dice_above_its_bound_and_rises_with_certainty(rows, low, high) -> None:
    quality = learned(*zip(*rows, strict=True))
    low, high = sorted((low, high))
    ((one,), (other,)) = (predict_dice(quality, LABELS, [value]) for value in (low, high))
    assert 0 <= one.lower <= one.predicted <= 1
    if quality.labels[0].slope > 0:
        assert one.predicted <= other.predicted


@given(st.lists(st.tuples(SHARES, SHARES), min_size=FEWEST, max_size=30), st.randoms())
def test_the_order_of_the_cases_does_not_change_a_prediction(rows, random) -> None:
    mixed = random.sample(rows, len(rows))
    predictions = {
        predict_dice(learned(*zip(*order, strict=True)), LABELS, [0.8]) for order in (rows, mixed)
    }
    ((one,), *others) = predictions
    for (other,) in others:
        assert (other.predicted, other.lower) == pytest.approx((one.predicted, one.lower), abs=2e-4)


def test_equal_cases_are_predicted_exactly() -> None:
    ((one,),) = [predict_dice(learned([0.9] * 20, [0.8] * 20), LABELS, [0.9])]
    assert (one.label, one.predicted, one.lower) == (1, 0.8, 0.8)


def test_the_bound_is_the_third_lowest_of_forty() -> None:
    errors = tuple((0.0, 1.0, -0.1 * n) for n in range(40))
    one = LabelQuality(label=1, offset=0, slope=1, left_out=errors)
    quality = Quality(model="0" * 64, source="", labels=(one,))
    (got,) = predict_dice(quality, LABELS, [0.5])
    assert got.predicted == 0.5
    assert got.lower == pytest.approx(1 / (1 + np.exp(3.7)), abs=1e-4)


@pytest.mark.parametrize(("cases", "rank"), [(20, 1), (24, 2), (40, 3), (100, 8), (1000, 95)])
def test_with_few_cases_the_bound_is_lower_than_the_tenth(cases: int, rank: int) -> None:
    assert _rank(cases) == rank
    # The probability that `rank` or more of the cases are among the worst tenth.
    few = sum(comb(cases, k) * 0.1**k * 0.9 ** (cases - k) for k in range(rank))
    assert 1 - few >= CONFIDENCE


def test_the_bound_holds_for_nine_of_ten_new_cases() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        logits = rng.normal(3, 0.4, 60)
        dice = 1 / (1 + np.exp(-(logits - 0.8 + rng.normal(0, 0.5, 60))))
        expected = 1 / (1 + np.exp(-logits))
        quality = learned(expected[:40], dice[:40])
        for value, real in zip(expected[40:], dice[40:], strict=True):
            (one,) = predict_dice(quality, LABELS, [value])
            held.append(real >= one.lower - 1e-4)
    assert 0.9 <= np.mean(held) <= 0.96


def test_few_cases_or_groups_give_no_prediction() -> None:
    assert learned([0.9] * 19, [0.8] * 19) is None
    assert learned([0.9] * 40, [0.8] * 40, ["p"] * 40) is None
    assert learned([None] * 5 + [0.9] * 19, [0.8] * 24) is None
    assert predict_dice(None, LABELS, [0.9]) == ()
    assert predict_dice(learned([0.9] * 20, [0.8] * 20), LABELS, [None]) == ()


def test_a_low_bound_is_a_flag_with_both_numbers() -> None:
    dice = predict_dice(learned([0.9] * 20, [0.6] * 20), LABELS, [0.9])
    (flag,) = dice_flags(dice, LABELS)
    assert (flag.code, flag.label) == ("dice", 1)
    assert flag.sentence == "one has a predicted Dice of 0.60 (90% bound 0.60)"
    assert not list(
        dice_flags(predict_dice(learned([0.9] * 20, [0.8] * 20), LABELS, [0.9]), LABELS)
    )
