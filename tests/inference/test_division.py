"""Labels that planes divide: laws, pencil examples, and how validation cases choose them."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import make_bundle, make_spec
from pydantic import ValidationError

from voxtile.inference.postprocess import clean, divide
from voxtile.models.spec import Cleaning, Division, Label, ModelSpec
from voxtile.training.choosing.candidates import FEWEST
from voxtile.training.choosing.mask_choices import (
    DecidedMask,
    choose_divisions,
    likely_divisions,
    usual_divisions,
)
from voxtile.training.folds.ensemble import ensemble_spec
from voxtile.volume import Axes, Volume, reorient

LABELS = tuple(Label(value=value, name=f"label {value}", color="#e6194b") for value in (1, 2, 3))
HALVES = Division(axis="A", labels=(1, 2))

masks = arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 5)] * 3),
    elements=st.integers(0, 3),
)
divisions = st.lists(
    st.builds(
        Division,
        axis=st.sampled_from("RAS"),
        labels=st.permutations((1, 2, 3)).flatmap(
            lambda order: st.sampled_from((tuple(order), tuple(order[:2])))
        ),
    ),
    max_size=2,
)


def spec_of(*steps: Division, **changes) -> ModelSpec:
    return make_spec(labels=LABELS, activation="softmax", divisions=steps, **changes)


def divided(array: np.ndarray, *steps: Division) -> np.ndarray:
    result = array.copy()
    divide(result, steps)
    return result


@given(masks, divisions)
def test_a_plane_has_one_label_of_the_last_division(array: np.ndarray, steps) -> None:
    result = divided(array, *steps)
    for step in steps[-1:]:
        for plane in np.moveaxis(result, "RAS".index(step.axis), 0):
            assert len(set(plane.ravel().tolist()) & set(step.labels)) <= 1


@given(masks, divisions)
def test_only_labels_of_a_division_change_and_none_becomes_background(array, steps) -> None:
    result = divided(array, *steps)
    np.testing.assert_array_equal(result > 0, array > 0)
    named = [value for step in steps for value in step.labels]
    outside = ~np.isin(array, named)
    np.testing.assert_array_equal(result[outside], array[outside])
    assert set(np.unique(result)) <= set(np.unique(array))


@given(masks, st.sampled_from("RAS"))
def test_dividing_twice_is_dividing_once(array: np.ndarray, axis) -> None:
    once = divided(array, Division(axis=axis, labels=(1, 2, 3)))
    np.testing.assert_array_equal(divided(once, Division(axis=axis, labels=(1, 2, 3))), once)


@settings(max_examples=48)
@given(
    masks,
    st.sampled_from(list(permutations(range(3)))),
    st.sampled_from(list(product((False, True), repeat=3))),
)
def test_the_axis_is_the_worlds_however_a_scan_is_stored(array, order, flips) -> None:
    mask = Volume(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    turned = reorient(mask, Axes(order, flips))
    spec = spec_of(HALVES, postprocess=(Cleaning(label=1, largest=1),))
    np.testing.assert_array_equal(
        clean(turned, spec).array, reorient(clean(mask, spec), Axes(order, flips)).array
    )


def test_a_ragged_border_becomes_straight() -> None:
    array = np.array([[1, 1, 1, 2, 2], [1, 1, 2, 2, 0], [1, 2, 2, 1, 3]], np.uint8)[..., np.newaxis]
    assert divided(array, HALVES)[..., 0].tolist() == [
        [1, 1, 2, 2, 2],
        [1, 1, 2, 2, 0],
        [1, 1, 2, 2, 3],
    ]


def test_of_two_that_are_as_many_the_first_that_is_named_wins() -> None:
    array = np.array([1, 2], np.uint8).reshape(2, 1, 1)
    assert divided(array, HALVES).ravel().tolist() == [1, 1]
    assert divided(array, Division(axis="A", labels=(2, 1))).ravel().tolist() == [2, 2]


def test_a_bundle_with_a_division_is_another_bundle() -> None:
    plain = {"labels": LABELS[:2], "activation": "softmax"}
    assert make_bundle(**plain).sha256 != make_bundle(**plain, divisions=(HALVES,)).sha256


@pytest.mark.parametrize(
    ("division", "message"),
    [
        ({"axis": "A", "labels": [1]}, "at least 2"),
        ({"axis": "X", "labels": [1, 2]}, "axis"),
        (
            {"axis": "A", "labels": [1, 7]},
            r"labels \[1, 7\]; it needs different labels without regions, from \[1, 2, 3",
        ),
        ({"axis": "A", "labels": [1, 1]}, r"labels \[1, 1\]; it needs different labels"),
    ],
)
def test_a_division_that_cannot_be_is_refused(division, message) -> None:
    with pytest.raises(ValidationError, match=message):
        spec_of(division)


def test_regions_cannot_be_divided() -> None:
    nested = (LABELS[0].model_copy(update={"region": (1, 2)}), LABELS[1])
    with pytest.raises(ValidationError, match=r"different labels without regions, from \[2\]"):
        make_spec(labels=nested, activation="sigmoid", divisions=(HALVES,))


# Choosing


def halves(cut: int = 5) -> np.ndarray:
    """A bar along A whose front is 1 and whose back is 2."""
    truth = np.zeros((6, 10, 6), np.uint8)
    truth[1:5, 1:cut, 1:5] = 1
    truth[1:5, cut:9, 1:5] = 2
    return truth


def decided(mask: np.ndarray, truth: np.ndarray) -> DecidedMask:
    totals = np.array([np.count_nonzero(truth == label.value) for label in LABELS])
    return DecidedMask(Volume(mask, np.eye(4)), truth, totals)


def chosen(*masks: DecidedMask) -> tuple[Division, ...]:
    return choose_divisions(masks, [mask.reference for mask in masks], spec_of())


def test_references_show_what_planes_divide() -> None:
    assert list(likely_divisions([halves(), halves(4)], LABELS)) == [HALVES]


def test_labels_that_share_planes_or_never_touch_are_not_divided() -> None:
    slanted = halves()
    slanted[1:3, 5, 1:5] = 1  # one plane of eight has both
    assert not list(likely_divisions([slanted], LABELS))
    apart = halves()
    apart[:, 4:6] = 0
    assert not list(likely_divisions([apart], LABELS))
    assert not list(likely_divisions([np.zeros((2, 2, 2), np.uint8)], LABELS))


def test_without_masks_the_labels_must_touch_in_half_of_the_references() -> None:
    apart = halves()
    apart[:, 4:6] = 0
    assert usual_divisions([halves()] * 3 + [apart] * 3, LABELS) == (HALVES,)
    assert usual_divisions([halves()] * 2 + [apart] * 3, LABELS) == ()
    assert usual_divisions([halves()] * (FEWEST - 1), LABELS) == ()


def test_one_slip_in_fifty_planes_is_forgiven() -> None:
    long = np.concatenate(
        [halves()[:, 1:5].repeat(8, axis=1), halves()[:, 5:9].repeat(8, axis=1)], axis=1
    )
    long[1, 32, 1] = 1
    assert list(likely_divisions([long], LABELS)) == [HALVES]


def test_a_division_is_chosen_where_it_helps() -> None:
    truth = halves()
    ragged = truth.copy()
    ragged[1, 5, 1:5] = 1
    assert chosen(*[decided(ragged, truth)] * FEWEST) == (HALVES,)
    assert chosen(*[decided(ragged, truth)] * (FEWEST - 1)) == ()


def test_a_division_that_the_references_show_need_not_help() -> None:
    truth = halves()
    assert chosen(*[decided(truth, truth)] * FEWEST) == (HALVES,)
    rough = truth.copy()
    rough[1:4, 5, 1:4] = (
        1  # 9 of 16 voxels are wrong, and 16 when divided: 0.038 of the mean of three labels
    )
    costing = [decided(rough, truth)]
    assert chosen(*costing, *[decided(truth, truth)] * 39) == (HALVES,)
    assert chosen(*costing, *[decided(truth, truth)] * 9) == ()


def test_a_division_that_costs_is_left_out() -> None:
    truth = halves()
    rough = truth.copy()
    rough[1:4, 5, 1:5] = 1  # most of a plane is wrong, and dividing makes it all of it
    assert chosen(*[decided(rough, truth)] * FEWEST) == ()


def test_an_ensemble_divides_what_most_folds_divide() -> None:
    other = Division(axis="S", labels=(1, 2))
    folds = [spec_of(HALVES), spec_of(HALVES, other), spec_of()]
    assert ensemble_spec(folds, "all", {}).divisions == (HALVES,)


# Cleaning


CLOSED = Cleaning(label=3, fill_holes=True)
UNION = (*LABELS[:2], LABELS[2].model_copy(update={"region": (1, 2, 3)}))


def cleaned(array: np.ndarray, *steps: Cleaning) -> np.ndarray:
    """The mask after the steps, divided along S; label 3 has every value in its region."""
    along = Division(axis="S", labels=(1, 2))
    spec = make_spec(labels=UNION, activation="sigmoid", divisions=(along,), postprocess=steps)
    result = clean(Volume(array, np.eye(4)), spec)
    np.testing.assert_array_equal(clean(result, spec).array, result.array)
    return result.array


def test_a_hole_across_a_border_is_divided_by_it() -> None:
    array = np.ones((5, 5, 6), np.uint8)
    array[..., 3:] = 2
    expected = array.copy()
    array[2, 2, 2:4] = 0
    np.testing.assert_array_equal(cleaned(array, CLOSED), expected)


def test_a_part_that_dividing_again_makes_small_goes() -> None:
    array = np.full((7, 7, 3), 3, np.uint8)
    array[2:5, 2:5, :] = 1
    array[2:5, 2:5, 1] = 0  # closes as nine voxels of 1, more than the one of 2 in its plane
    array[0, 0, 1] = 2
    expected = array.copy()
    expected[2:5, 2:5, 1] = 1
    expected[0, 0, 1] = 0
    np.testing.assert_array_equal(cleaned(array, CLOSED, Cleaning(label=1, largest=1)), expected)


def test_a_part_that_is_filled_and_removed_without_end_stops_somewhere() -> None:
    array = np.full((13, 13, 3), 3, np.uint8)
    array[1:4, 1:4, :] = 1
    array[1:4, 1:4, 1] = 0  # filled with 1, which is 2 in this plane, and too small a part of 2
    array[6:12, 6:12, 1] = 2
    result = cleaned(array, CLOSED, Cleaning(label=2, largest=1))
    assert (result[1:4, 1:4, 1] == 2).all()
