"""Intervals of the bootstrap: laws, and the normal distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.report.bootstrap import mean_intervals


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.randoms())
@settings(max_examples=25, deadline=None)
def test_an_interval_does_not_depend_on_order_and_lies_within_the_values(values, random) -> None:
    groups = [f"g{number % 7}" for number in range(len(values))]
    pairs = list(zip(values, groups, strict=True))
    (low, high) = mean_intervals(np.array(values)[:, None], groups)[0]
    random.shuffle(pairs)
    mixed = mean_intervals(np.array([[value] for value, _ in pairs]), [g for _, g in pairs])[0]
    assert (low, high) == tuple(mixed)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_an_interval_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = mean_intervals(values[:, None], [str(n) for n in range(400)])[0]
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_repeated_scans_of_a_patient_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(2).normal(0, 1, 30)
    once = mean_intervals(values[:, None], [f"p{n}" for n in range(30)])[0]
    tenfold = np.repeat(values, 10)[:, None]
    grouped = mean_intervals(tenfold, [f"p{n // 10}" for n in range(300)])[0]
    alone = mean_intervals(tenfold, [f"c{n}" for n in range(300)])[0]
    assert np.diff(grouped) == pytest.approx(np.diff(once), rel=0.1)
    assert np.diff(alone) < 0.5 * np.diff(grouped)


def test_one_patient_gives_no_interval() -> None:
    values = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, np.nan]])
    assert np.isnan(mean_intervals(values, ["p", "p", "p"])).all()
    assert np.isnan(mean_intervals(values, ["a", "b", "c"])[1]).all()
