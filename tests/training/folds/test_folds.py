"""Laws of folds: groups stay whole, every case is held out once, the held-out choose nothing."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.manifest.dealing import equal_shares
from voxtile.manifest.split import Division, split_manifest
from voxtile.manifest.table import Table
from voxtile.training.folds.folds import Fold, assign_folds, make_fold

MANIFEST = Path("cohort.csv")


def make_cases(sizes, split="train") -> list[Case]:
    """Cases of groups of these sizes; 0 stands for a case without a group."""
    return [
        Case(
            case_id=f"c{group}-{number}",
            images=(("image", Path("a.nii")),),
            label=Path("b.nii"),
            split=split,
            group=f"g{group}" if size else None,
            line=2 + group,
        )
        for group, size in enumerate(sizes)
        for number in range(size or 1)
    ]


def fold_of(cases, count=3, number=0, seed=0) -> Fold:
    return make_fold(cases, count, number, seed, MANIFEST)


def units_of(cases) -> set[str]:
    return {case.group or f"alone {case.case_id}" for case in cases}


cohorts = st.lists(st.integers(0, 4), min_size=6, max_size=60)


@given(cohorts, st.integers(2, 5), st.integers(0, 9))
def test_each_case_is_held_out_once_and_no_group_is_on_two_sides(sizes, count, seed) -> None:
    cases = make_cases(sizes)
    try:
        folds = [fold_of(cases, count, number, seed) for number in range(count)]
    except ManifestError as error:
        # One large group may be all that other folds are left with: that is refused.
        assert "leaves only one group" in str(error)
        reject()
    held = [case.case_id for fold in folds for case in fold.held_out]
    assert sorted(held) == sorted(case.case_id for case in cases)
    for fold in folds:
        assert len(fold.cases) + len(fold.held_out) == len(cases)
        sides = [
            units_of(fold.held_out),
            units_of(case for case in fold.cases if case.split == "train"),
            units_of(case for case in fold.cases if case.split == "val"),
        ]
        assert all(sides)
        assert sum(map(len, sides)) == len(set.union(*sides))
        # Few choose, unless the smallest group is not small.
        choosing = Counter(case.split for case in fold.cases)["val"]
        groups = Counter(unit for case in fold.cases for unit in units_of([case]))
        assert choosing <= 0.3 * len(fold.cases) or choosing == min(groups.values())


@given(cohorts, st.integers(2, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(sizes, count, random) -> None:
    cases = make_cases(sizes)
    shuffled = random.sample(cases, len(cases))
    one, other = (
        {case.case_id: case.split for case in fold_of(some, count, 1).cases}
        for some in (cases, shuffled)
    )
    assert one == other


@given(cohorts, st.integers(2, 5))
def test_folds_are_balanced(sizes, count) -> None:
    cases = make_cases(sizes)
    counts = Counter(assign_folds(cases, count, 0, MANIFEST).values())
    assert max(counts.values()) - min(counts.values()) <= 2 * max(*sizes, 1)


def test_single_cases_are_divided_evenly_and_a_tenth_chooses() -> None:
    folds = [fold_of(make_cases([1] * 217), 5, number) for number in range(5)]
    assert sorted(len(fold.held_out) for fold in folds) == [43, 43, 43, 44, 44]
    chosen = [sum(case.split == "val" for case in fold.cases) for fold in folds]
    assert chosen == [17] * 5


def test_the_same_seed_gives_the_same_folds_and_another_seed_others() -> None:
    cases = make_cases([1] * 12)
    first = assign_folds(cases, 3, 0, MANIFEST)
    assert "".join(str(first[f"c{number}-0"]) for number in range(12)) == "102100221102"
    assert assign_folds(cases, 3, 1, MANIFEST) != first


@given(cohorts, st.integers(2, 5), st.integers(0, 5))
def test_the_folds_are_those_of_manifest_split(tmp_path_factory, sizes, count, seed) -> None:
    cases = make_cases(sizes)
    path = tmp_path_factory.getbasetemp() / "same.csv"
    rows = tuple((case.case_id, "a.nii", case.group or "") for case in cases)
    path.write_text(Table(("case_id", "image", "group"), rows).csv())
    table = split_manifest(path, Division(equal_shares(count), column="fold", seed=seed))
    divided = dict(zip(table.column("case_id"), map(int, table.column("fold")), strict=True))
    assert assign_folds(cases, count, seed, MANIFEST) == divided


def test_cases_in_test_or_without_split_are_not_in_any_fold() -> None:
    cases = make_cases([1] * 8)
    cases[1] = replace(cases[1], split="val")
    cases[2] = replace(cases[2], split="test", label=None)
    cases[3] = replace(cases[3], split=None, label=None)
    fold = fold_of(cases)
    part = {case.case_id for case in (*fold.cases, *fold.held_out)}
    assert part == {case.case_id for case in cases} - {"c2-0", "c3-0"}


def test_all_problems_are_reported_at_once() -> None:
    cases = make_cases([2, 2, 2, 1])
    cases[0] = replace(cases[0], split="test")
    cases[6] = replace(cases[6], label=None)
    with pytest.raises(ManifestError) as caught:
        fold_of(cases)
    assert [words in str(caught.value) for words in ("group 'g0' is in train", "no label")] == [
        True,
        True,
    ]
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("sizes", "count", "number", "words"),
    [
        ([5, 5], 3, 0, "has 2 groups .* too few for 3 folds"),
        ([5, 5], 2, 0, "leaves only one group"),
        ([], 2, 0, "no case with split 'train' or 'val'"),
    ],
)
def test_too_few_groups_are_refused(sizes, count, number, words) -> None:
    with pytest.raises(ManifestError, match=words):
        fold_of(make_cases(sizes), count, number)


def test_a_fold_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="fold 3 does not exist; choose 0 to 2"):
        fold_of(make_cases([1] * 9), 3, 3)
    with pytest.raises(ValueError, match="1 fold given; at least 2 are needed"):
        fold_of(make_cases([1] * 9), 1, 0)


def with_folds(cases, numbers) -> list[Case]:
    """Cases with these cells in column `fold`."""
    return [
        replace(case, extras=(("fold", str(number)),))
        for case, number in zip(cases, numbers, strict=True)
    ]


@given(st.lists(st.integers(0, 2), min_size=6, max_size=20), st.integers(0, 9))
def test_a_column_fold_decides_which_cases_are_held_out(numbers, seed) -> None:
    numbers = [0, 1, 2, *numbers]
    cases = with_folds(make_cases([0] * len(numbers)), numbers)
    for number in range(3):
        fold = fold_of(cases, 3, number, seed)
        held = [case.case_id for case, own in zip(cases, numbers, strict=True) if own == number]
        assert [case.case_id for case in fold.held_out] == held
        assert fold.facts()["column"] == "fold"
    without = [replace(case, split=None) for case in cases]
    assert fold_of(without, 3, 1, seed).cases == fold_of(cases, 3, 1, seed).cases
    assert "column" not in fold_of(make_cases([0] * 6)).facts()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0, 1, 2, 2, "", 0], "line 6: case c4-0 has no fold, but with --folds 3 each case"),
        ([0, 1, 2, 2, "x", 0], "has fold 'x', but .* needs a number from 0 to 2"),
        ([0, 1, 2, 3, 1, 0], "has fold '3', but .* use another --folds"),
        (
            [0, 1, 1, 0, 1, "0.0"],
            "no case of column fold is in fold 2, but --folds is 3; use as many",
        ),
    ],
)
def test_a_column_fold_that_does_not_fit_is_refused(numbers, message) -> None:
    with pytest.raises(ManifestError, match=message):
        fold_of(with_folds(make_cases([0] * 6), numbers))


def test_a_group_in_two_folds_is_refused() -> None:
    cases = with_folds(make_cases([2, 0, 0]), [0, 1, 2, 0])
    with pytest.raises(ManifestError, match="its group 'g0' is in fold 0 on line 2; put each"):
        fold_of(cases)
