"""What differs between two trainings, in words."""

from voxtile.training.differences import differences


def test_equal_values_do_not_differ_and_tuples_are_lists() -> None:
    assert differences({"views": ["axial"], "old": 1}, {"views": ("axial",)}) == []


def test_mappings_are_compared_entry_by_entry_in_both_directions() -> None:
    known = {"recipe": {"batch": 8, "ema": 0.9}, "seed": 0}
    now = {"recipe": {"batch": 5, "steps": 3}, "seed": 0}
    assert differences(known, now) == [
        "recipe's batch 8 instead of 5",
        "recipe's steps null instead of 3",
        "recipe's ema 0.9 instead of null",
    ]
    assert differences(known, now, ignored=("recipe's batch", "recipe's ema")) == [
        "recipe's steps null instead of 3"
    ]


def test_long_values_are_cut_and_named_if_they_look_alike() -> None:
    cases = [f"case{number}" for number in range(50)]
    assert differences({"cases": cases}, {"cases": cases[:-1]}) == ["other cases"]
    (phrase,) = differences({"cases": []}, {"cases": cases})
    assert phrase.startswith('cases [] instead of ["case0"') and phrase.endswith("...")
