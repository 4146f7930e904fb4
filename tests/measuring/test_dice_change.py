"""The change of Dice: its mean and worst case by hand, and a bound that holds for other scans."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.measuring.dice_change import DiceChange, dice_change
from voxtile.measuring.samples import Sample
from voxtile.volume import Volume

SPEC = SimpleNamespace(
    labels=(SimpleNamespace(name="a", values=(1,)), SimpleNamespace(name="b", values=(2, 3)))
)


def compare(cases, *, labelled: bool = True) -> DiceChange:
    """Compare masks of some cases, each (found, reference, truth) of (planes, rows, columns)."""
    samples = []
    for name, (_, _, truth) in cases.items():
        array = np.moveaxis(truth, 0, 2)  # planes along S
        volume = Volume(array, np.eye(4))
        label = array if labelled else None
        samples.append(Sample(name, volume, label, "axial", tuple(range(len(truth)))))
    found, reference, _ = zip(*cases.values(), strict=True)
    return dice_change(SPEC, samples, found, reference)


def random_case(seed: int, wrong: float, planes: int = 8):
    """A case whose masks differ from the truth in a share of the voxels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (planes, 6, 5)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < wrong, 0, truth).astype(np.uint8)
    return found, truth, truth


@given(st.integers(0, 99), st.integers(1, 3), st.booleans())
def test_equal_masks_change_nothing_and_are_bound_by_nothing(seed, cases, labelled) -> None:
    masks = {
        str(k): (random_case(seed + k, 0.2)[0],) * 2 + random_case(seed + k, 0)[2:]
        for k in range(cases)
    }
    found = compare(masks, labelled=labelled)
    assert set(found.by_label.values()) == {0.0}
    assert (found.bound, found.worst) == (0.0, 0.0)


@given(st.integers(0, 99), st.floats(0.05, 0.5))
def test_the_bound_is_above_the_mean_and_no_worse_than_the_worst_case_allows(seed, wrong) -> None:
    found = compare({str(k): random_case(seed + k, wrong) for k in range(4)})
    mean = np.mean([abs(change) for change in found.by_label.values()])
    assert found.bound is not None
    assert mean < found.bound <= 1
    assert found.worst is not None
    assert abs(found.worst) >= max(abs(change) for change in found.by_label.values())


def test_mean_and_worst_case_are_those_computed_by_hand() -> None:
    truth = np.zeros((2, 2, 2), np.uint8)
    truth[:, 0] = 1
    half = truth.copy()
    half[1] = 0  # 2 of 4 voxels: Dice 2 / 3
    found = compare({"x": (half, truth, truth), "y": (truth, truth, truth)})
    assert found.by_label == {"a": pytest.approx(-1 / 6)}  # label b occurs nowhere
    assert (found.worst, found.worst_label) == (pytest.approx(-1 / 3), "a")


def test_a_label_that_only_the_engine_sees_is_a_change_where_masks_are_compared() -> None:
    none, some = np.zeros((2, 2, 2), np.uint8), np.full((2, 2, 2), 3, np.uint8)
    assert compare({"x": (some, none, none)}, labelled=False).by_label == {"b": -1.0}
    assert compare({"x": (none, none, none)}) == DiceChange({}, None, None, "")


def test_one_bad_plane_or_one_bad_case_of_many_widens_the_bound() -> None:
    truth = np.zeros((8, 4, 4), np.uint8)
    truth[:, :2] = 1
    spread, single = truth.copy(), truth.copy()
    spread[:, 0, 0] = 0  # one voxel of eight in each plane
    single[0] = 0  # all voxels of one plane of eight
    even, uneven = (compare({"x": (mask, truth, truth)}) for mask in (spread, single))
    assert even.by_label == uneven.by_label
    assert even.bound == pytest.approx(abs(even.by_label["a"]))
    assert uneven.bound is not None
    assert uneven.bound > 2 * even.bound
    quiet = {str(k): (truth, truth, truth) for k in range(3)}
    cases = compare({**quiet, "bad": (np.where(truth, 0, truth), truth, truth)})
    assert cases.by_label["a"] == pytest.approx(-0.25)
    assert cases.bound is not None
    assert cases.bound >= 0.5
