"""Thresholds that a run chooses instead of the model's."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import make_bundle

from voxtile.errors import UsageError
from voxtile.models.spec import Label
from voxtile.models.thresholds import changed_thresholds, with_thresholds

LABELS = (
    Label(value=2, name="whole", color="#00ff00", region=(1, 2)),
    Label(value=1, name="core", color="#ff0000"),
)
BUNDLE = make_bundle(activation="sigmoid", labels=LABELS, thresholds=(0.5, 0.3))
numbers = st.floats(0.01, 0.99)


@given(numbers, numbers)
def test_names_and_values_choose_the_same_thresholds(one: float, other: float) -> None:
    named = with_thresholds(BUNDLE, {"whole": one, "core": other})
    assert named == with_thresholds(BUNDLE, {"1": other, "2": one})
    assert named.spec.thresholds == (one, other)


@given(numbers)
def test_only_thresholds_that_differ_are_changed(number: float) -> None:
    found = changed_thresholds(BUNDLE, with_thresholds(BUNDLE, {"core": number, "whole": 0.5}))
    assert found == ({} if number == 0.3 else {"core": number})


def test_all_models_of_an_ensemble_get_the_thresholds() -> None:
    both = with_thresholds(replace(BUNDLE, others=(BUNDLE,)), {"core": 0.4})
    assert [one.spec.thresholds for one in both.members] == [(0.5, 0.4)] * 2


def test_without_a_choice_the_bundle_stays() -> None:
    assert with_thresholds(make_bundle(), {}).spec == make_bundle().spec


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"liver": 0.4}, r"label 'liver', but the model's are 2 \(whole\), 1 \(core\)"),
        ({"core": 0.4, "1": 0.4}, "core and 1 are the same label"),
        ({"core": 1.0}, "core=1 must be above 0 and below 1"),
        ({"core": float("nan")}, "must be above 0 and below 1"),
    ],
)
def test_other_labels_and_numbers_are_refused(chosen: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_thresholds(BUNDLE, chosen)


def test_a_softmax_model_has_no_thresholds() -> None:
    with pytest.raises(UsageError, match=r"most probable of 2 classes \(softmax\).*leave --thresh"):
        with_thresholds(make_bundle(), {"ball": 0.4})
