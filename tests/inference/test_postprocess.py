"""Laws of cleaning a mask, and holes and parts that a pencil can check."""

import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import ball, make_bundle, make_spec, threshold_model
from pydantic import ValidationError

from voxtile.inference.infer import infer
from voxtile.inference.postprocess import clean
from voxtile.models.spec import Cleaning, Label, ModelSpec
from voxtile.preparation.plan import make_plan
from voxtile.volume import Axes, Volume, reorient

SPACING = (1.0, 2.0, 3.0)


def label(value: int, *region: int) -> Label:
    return Label(value=value, name=f"label {value}", color="#e6194b", region=region)


PLAIN = (label(1), label(2), label(3))
NESTED = (label(1, 1, 2, 3), label(2, 2, 3), label(3))
CROSSING = (label(1, 1, 2), label(2, 2, 3), label(3, 1, 3))


def spec_of(*steps: Cleaning, labels: tuple[Label, ...] = PLAIN) -> ModelSpec:
    return make_spec(labels=labels, activation="sigmoid", postprocess=steps)


def volume(array, spacing_mm=SPACING) -> Volume:
    return Volume(np.asarray(array, np.uint8), np.diag([*spacing_mm, 1.0]))


def cleaned(array, *steps: Cleaning, **settings) -> list:
    """The mask after the steps, on voxels of 6 mm3."""
    return clean(volume(array), spec_of(*steps, **settings)).array.tolist()


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Small masks of mostly background, and some of mostly foreground."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    common = draw(st.integers(0, 3))
    values = st.sampled_from([common] * 5 + [0, 1, 2, 3])
    return draw(arrays(np.uint8, shape, elements=values))


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    steps = [
        Cleaning(
            label=value,
            largest=draw(st.none() | st.integers(1, 2)),
            smallest_mm3=draw(st.sampled_from([0.0, 12.0, 20.0])),
            fill_holes=draw(st.booleans()),
        )
        for value in draw(st.lists(st.integers(1, 3), unique=True))
    ]
    return spec_of(*steps, labels=draw(st.sampled_from([PLAIN, NESTED, CROSSING])))


@settings(max_examples=150, deadline=None)
@given(masks(), specs())
def test_cleaning_twice_is_cleaning_once(array: np.ndarray, spec: ModelSpec) -> None:
    once = clean(volume(array), spec)
    np.testing.assert_array_equal(clean(once, spec).array, once.array)


@settings(max_examples=100, deadline=None)
@given(masks(), specs())
def test_no_label_appears_and_no_label_turns_into_another(
    array: np.ndarray, spec: ModelSpec
) -> None:
    result = clean(volume(array), spec).array
    assert set(np.unique(result)) <= {0, *np.unique(array)}
    assert result.dtype == array.dtype


@settings(max_examples=100, deadline=None)
@given(masks())
def test_parts_only_go_where_holes_stay_and_holes_only_fill_where_parts_stay(
    array: np.ndarray,
) -> None:
    parts = spec_of(*(Cleaning(label=value, largest=1, smallest_mm3=12) for value in (1, 2, 3)))
    result = clean(volume(array), parts).array
    assert (result[result > 0] == array[result > 0]).all()
    holes = spec_of(*(Cleaning(label=value, fill_holes=True) for value in (1, 2, 3)))
    result = clean(volume(array), holes).array
    assert (result[array > 0] == array[array > 0]).all()


@settings(max_examples=60, deadline=None)
@given(masks(), specs(), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_the_orientation_of_storage_does_not_matter(array, spec, order, flips) -> None:
    mask = volume(array)
    axes = Axes(tuple(order), flips)
    np.testing.assert_array_equal(
        clean(reorient(mask, axes), spec).array, reorient(clean(mask, spec), axes).array
    )


def test_all_48_orientations_give_one_result() -> None:
    rng = np.random.default_rng(4)
    array = (rng.random((9, 8, 7)) < 0.4) * rng.integers(1, 4, (9, 8, 7))
    steps = [Cleaning(label=value, largest=2, fill_holes=True) for value in (1, 2, 3)]
    mask, spec = volume(array), spec_of(*steps)
    result = clean(mask, spec)
    assert np.count_nonzero(result.array) < np.count_nonzero(array)
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        axes = Axes(order, flips)
        turned = clean(reorient(mask, axes), spec)
        np.testing.assert_array_equal(turned.array, axes.apply(result.array))


def test_the_largest_part_stays_and_those_as_large() -> None:
    line = [[[1, 1, 0, 1, 0, 1, 1, 1]]]
    assert cleaned(line, Cleaning(label=1, largest=1)) == [[[0, 0, 0, 0, 0, 1, 1, 1]]]
    assert cleaned(line, Cleaning(label=1, largest=2)) == [[[1, 1, 0, 0, 0, 1, 1, 1]]]
    assert cleaned([[[1, 0, 1]]], Cleaning(label=1, largest=1)) == [[[1, 0, 1]]]


def test_a_part_goes_below_the_least_volume_and_stays_at_it() -> None:
    line = [[[1, 1, 0, 2, 0, 1]]]  # 12, 6 and 6 mm3
    assert cleaned(line, Cleaning(label=1, smallest_mm3=12)) == [[[1, 1, 0, 2, 0, 0]]]
    assert cleaned(line, Cleaning(label=1, smallest_mm3=12.1)) == [[[0, 0, 0, 2, 0, 0]]]
    assert cleaned(line, Cleaning(label=2, smallest_mm3=7)) == [[[1, 1, 0, 0, 0, 1]]]


def test_volume_is_that_of_a_sheared_voxel() -> None:
    affine = np.array([[1.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    mask = Volume(np.array([[[1, 0, 1, 1]]], np.uint8), affine)
    result = clean(mask, spec_of(Cleaning(label=1, smallest_mm3=6.5)))
    assert result.array.tolist() == [[[0, 0, 1, 1]]]


def test_corners_connect() -> None:
    array = np.zeros((2, 2, 5), np.uint8)
    array[0, 0, 0] = array[1, 1, 1] = array[0, 0, 4] = 1
    kept = clean(volume(array), spec_of(Cleaning(label=1, largest=1))).array
    assert kept.tolist() == np.where(np.arange(5) < 4, array, 0).tolist()


def box_with_hole(around: int = 1, size: int = 5) -> np.ndarray:
    array = np.zeros((7, 7, 7), np.uint8)
    array[1:6, 1:6, 1:6] = around
    array[3, 3, 2 : 2 + size - 2] = 0
    return array


def test_a_hole_closes_but_not_a_dent_nor_what_is_open_to_the_border() -> None:
    step = Cleaning(label=1, fill_holes=True)
    assert np.count_nonzero(cleaned(box_with_hole(), step)) == 125
    dent = box_with_hole(size=6)  # it reaches the box's side
    assert cleaned(dent, step) == dent.tolist()
    at_border = box_with_hole(size=6)[1:6, 1:6, 1:6]  # the same, where the scan ends
    assert cleaned(at_border, step) == at_border.tolist()
    assert cleaned(box_with_hole(), Cleaning(label=2, fill_holes=True)) == box_with_hole().tolist()


def test_a_hole_beside_another_label_stays_and_one_around_it_closes_when_it_goes() -> None:
    array = box_with_hole()
    array[3, 3, 2] = 2
    step = Cleaning(label=1, fill_holes=True)
    assert cleaned(array, step) == array.tolist()
    both = cleaned(array, step, Cleaning(label=2, smallest_mm3=12))
    assert np.count_nonzero(np.array(both) == 1) == 125


def test_an_outer_region_is_connected_through_the_inner_one() -> None:
    line = [[[1, 2, 1, 0, 1, 0, 2]]]
    step = Cleaning(label=1, largest=1)
    # The region of label 1 is every value, so its largest part is 1 2 1, and the lone 2 goes too.
    assert cleaned(line, step, labels=NESTED) == [[[1, 2, 1, 0, 0, 0, 0]]]
    assert cleaned(line, step, labels=PLAIN) == line  # three parts of one voxel each


def test_what_a_region_loses_becomes_background() -> None:
    # The inner label was written over the outer; a removed inner voxel is 0 and not the outer one.
    line = [[[1, 2, 2, 1, 2, 1]]]
    step = Cleaning(label=2, largest=1)
    assert cleaned(line, step, labels=NESTED) == [[[1, 2, 2, 1, 0, 1]]]


def test_a_hole_inside_the_inner_region_takes_the_inner_value() -> None:
    steps = Cleaning(label=1, fill_holes=True)
    assert np.array(cleaned(box_with_hole(2), steps, labels=NESTED))[3, 3, 3] == 2


def test_an_empty_mask_stays_empty_and_nothing_asked_returns_the_mask_itself() -> None:
    empty = np.zeros((3, 4, 5), np.uint8)
    steps = [Cleaning(label=1, largest=1, smallest_mm3=5, fill_holes=True)]
    assert cleaned(empty, *steps) == empty.tolist()
    mask = volume(empty)
    assert clean(mask, spec_of()) is mask


def test_large_label_values_and_fortran_order_are_kept() -> None:
    array = np.zeros((4, 5, 6), np.uint16, order="F")
    array[0, 0, :3] = array[3, 4, 5] = 60000
    spec = spec_of(Cleaning(label=60000, largest=1), labels=(label(60000),))
    result = clean(Volume(array, np.eye(4)), spec).array
    assert (result.dtype, result.flags.f_contiguous) == (np.uint16, True)
    assert np.argwhere(result).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]


def test_a_run_cleans_its_masks() -> None:
    image, truth = ball()
    noisy = image.array.copy()
    noisy[0, 0, 0] = 100
    spec = make_spec(postprocess=(Cleaning(label=1, largest=1),))
    assert spec != make_spec()
    plan = make_plan(spec)
    raw = infer(image.with_array(noisy), make_spec(), [threshold_model], plan)
    assert raw.array[0, 0, 0] == 1
    mask = infer(image.with_array(noisy), spec, [threshold_model], plan)
    np.testing.assert_array_equal(mask.array, truth.array)


def test_it_is_part_of_a_bundles_identity() -> None:
    step = Cleaning(label=1, largest=1)
    assert make_bundle().sha256 != make_bundle(postprocess=(step,)).sha256


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"label": 7, "largest": 1}], r"postprocess names label 7, but the labels are \[1\]"),
        ([{"label": 1}, {"label": 1}], "postprocess of label 1 appears twice"),
        ([{"label": 1, "largest": 0}], "greater than or equal to 1"),
        ([{"label": 1, "smallest": 3}], "Extra inputs"),
    ],
)
def test_a_wrong_step_is_refused(steps, words) -> None:
    with pytest.raises(ValidationError, match=words):
        make_spec(postprocess=steps)


@settings(max_examples=60, deadline=None)
@given(masks(), st.sampled_from([PLAIN, NESTED, CROSSING]))
def test_renaming_labels_and_cleaning_commute(array: np.ndarray, labels) -> None:
    names = np.array([0, 7, 1000, 2035], np.uint16)
    steps = [Cleaning(label=value, largest=1, fill_holes=True) for value in (1, 2, 3)]
    renamed = tuple(label(int(names[x.value]), *map(int, names[list(x.region)])) for x in labels)
    others = [step.model_copy(update={"label": int(names[step.label])}) for step in steps]
    result = clean(Volume(names[array], np.eye(4)), spec_of(*others, labels=renamed)).array
    expected = clean(Volume(array, np.eye(4)), spec_of(*steps, labels=labels)).array
    np.testing.assert_array_equal(result, names[expected])


def test_a_large_label_value_costs_no_memory() -> None:
    array = np.full((24, 24, 24), 2035, np.uint16)
    array[1:-1:2, 1:-1:2, 1:-1:2] = 0  # 1331 holes
    spec = spec_of(Cleaning(label=2035, fill_holes=True), labels=(label(2035),))
    tracemalloc.start()
    result = clean(Volume(array, np.eye(4)), spec).array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result == 2035).all()
    assert peak < 2e6
