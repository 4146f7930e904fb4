"""Groups of cases take turns, and every case is drawn as often as if all were there."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.training.fitting.rotation import STEPS, Rotation

sizes = st.lists(st.integers(1, 50), min_size=1, max_size=12).map(tuple)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, more=st.integers(0, 100), seed=st.integers(0, 9), start=st.integers(0, 3))
def test_in_a_round_each_case_has_the_same_expected_number_of_tiles(
    sizes: tuple[int, ...], more: int, seed: int, start: int
) -> None:
    rotation = Rotation(sizes, max(sizes) + more, seed)
    length = STEPS * len(sizes)
    shares = dict.fromkeys(range(len(sizes)), Fraction())
    begins = []
    for step in range(start * length, (start + 1) * length):
        begin, group = rotation.at(step)
        begins.append(begin)
        assert begin <= step and rotation.at(begin) == (begin, group)
        assert sum(sizes[case] for case in group) <= max(rotation.room, sum(sizes) * (begin == 0))
        for case in group:
            shares[case] += Fraction(1, len(group))
    assert set(shares.values()) == {Fraction(STEPS)}
    assert begins == sorted(begins)


def test_drawn_cases_are_as_frequent_as_without_groups() -> None:
    rotation = Rotation((5, 3, 4, 4, 2), 9, seed=1)
    rng = np.random.default_rng(0)
    rounds = 20 * STEPS * 5
    drawn = [rng.choice(rotation.at(step)[1]) for step in range(rounds)]
    counts = np.bincount(drawn, minlength=5)
    # A binomial distribution: 3200 times in 1/5 of the steps, standard deviation 23.
    assert np.abs(counts - rounds / 5).max() < 4 * np.sqrt(rounds * 0.2 * 0.8)


def test_groups_follow_from_the_seed_and_change_from_round_to_round() -> None:
    def rounds(seed: int) -> list[tuple[int, ...]]:
        rotation = Rotation((1,) * 8, 4, seed)
        return [rotation.at(step)[1] for step in range(0, 10 * 8 * STEPS, 4 * STEPS)]

    assert rounds(0) == rounds(0) != rounds(1)
    assert len(set(rounds(0))) > 10


def test_all_cases_are_there_from_the_first_step_where_they_fit() -> None:
    assert Rotation((1, 2, 3), 6).at(10**6) == (0, (0, 1, 2))
