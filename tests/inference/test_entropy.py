"""Mean entropy of probabilities: its bounds, numbers by hand, and planes that stay unchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import ball, make_spec, threshold_model

from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.infer import infer
from voxtile.preparation.plan import make_plan


@given(
    hnp.arrays(np.float32, (3, 4, 5, 3), elements=st.floats(0, 1, width=32)),
    st.sampled_from(("softmax", "sigmoid")),
)
def test_entropy_is_between_certain_and_undecided(values, activation) -> None:
    planes = (
        values / values.sum(axis=-1, keepdims=True).clip(1e-6)
        if activation == "softmax"
        else values
    )
    watch = EntropyWatch(activation)
    passed = list(watch(iter(planes)))
    np.testing.assert_array_equal(passed, planes)
    assert watch.mean is None or -1e-6 <= watch.mean <= 1 + 1e-6
    assert all(value is None or 0 <= value <= 1 + 1e-6 for value in watch.expected_dice)


@pytest.mark.parametrize(
    ("activation", "pixel", "mean"),
    [
        ("softmax", (0.5, 0.5), 1),
        ("softmax", (0, 1), 0),
        ("softmax", (1, 0), None),
        ("softmax", (0.25, 0.25, 0.25, 0.25), 1),
        ("sigmoid", (0.5, 1), 0.5),
        ("sigmoid", (0.05, 0.05), None),
    ],
)
def test_entropy_by_hand(activation, pixel, mean) -> None:
    watch = EntropyWatch(activation)
    plane = np.array(pixel, np.float32).reshape(1, 1, -1)
    list(watch(iter([plane, plane])))
    assert watch.mean == (mean if mean is None else pytest.approx(mean))


def test_the_expected_dice_by_hand() -> None:
    softmax = EntropyWatch("softmax")
    # Two pixels of label 1, with 0.8 and 0.6; a further one has 0.2 of it, and 0.05 does not count.
    plane = [[(0.2, 0.8, 0), (0.4, 0.6, 0), (0.8, 0.2, 0), (0.95, 0.05, 0)]]
    list(softmax(iter([np.array(plane, np.float32)])))
    assert softmax.expected_dice == (pytest.approx(2 * 1.4 / (2 + 1.6)), None)
    sigmoid = EntropyWatch("sigmoid", (0.3, 0.5))
    list(sigmoid(iter([np.array([[(0.4, 0.5), (0.2, 0.4)]], np.float32)])))
    assert sigmoid.expected_dice == pytest.approx((2 * 0.4 / 1.6, 2 * 0.5 / 1.9))
    assert EntropyWatch("softmax").expected_dice == ()


def test_a_certain_network_expects_a_dice_of_one() -> None:
    watch = EntropyWatch("softmax")
    list(watch(iter([np.eye(3, dtype=np.float32)[np.newaxis]])))
    assert watch.expected_dice == (1, 1)


@pytest.mark.parametrize("views", [("axial",), ("axial", "sagittal")])
def test_every_plane_is_measured_once_and_not_changed(views) -> None:
    image, _ = ball()
    spec = make_spec()
    spec = spec.model_copy(
        update={"networks": (spec.networks[0].model_copy(update={"views": views}),)}
    )
    seen = []

    def watch(planes):
        for plane in planes:
            seen.append(plane.shape)
            yield plane

    plan = make_plan(spec)
    watched = infer(image, spec, [threshold_model], plan, watch)
    plain = infer(image, spec, [threshold_model], plan)
    np.testing.assert_array_equal(watched.array, plain.array)
    assert seen == [(24, 20, 2)] * 12
