"""The rules that fill in a recipe, and what a recipe refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.training.recipe import Extent, Recipe, settle

shapes = st.tuples(*[st.integers(1, 600)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)
extents = st.lists(st.builds(Extent, shapes, spacings, st.just((1,))), min_size=1, max_size=4)


@given(extents, st.none() | st.integers(1, 5))
def test_a_settled_recipe_is_complete_and_settling_it_again_changes_nothing(
    cases: list[Extent], depth: int | None
) -> None:
    recipe = settle(Recipe(depth=depth), cases)
    assert recipe.views and recipe.depth and recipe.tile and recipe.batch
    assert recipe.steps_per_epoch and recipe.labels and recipe.minutes == 20
    assert all(size % 2**recipe.depth == 0 for size in recipe.tile)
    assert settle(recipe, cases) == recipe


@given(extents)
def test_rules_do_not_depend_on_the_order_of_cases(cases: list[Extent]) -> None:
    assert settle(Recipe(), cases) == settle(Recipe(), cases[::-1])


def test_planes_show_the_finest_detail() -> None:
    thick = Extent((512, 512, 60), (0.8, 0.8, 5.0), (1,))
    cube = Extent((35, 59, 47), (1.0, 1.0, 1.0), (1, 2))
    assert settle(Recipe(), [thick]).views == ("axial",)
    assert settle(Recipe(), [thick]).tile == (256, 256)
    small = settle(Recipe(), [cube])
    assert (small.views, small.tile, small.depth, small.batch) == (("sagittal",), (64, 48), 3, 16)
    assert [label.value for label in small.labels] == [1, 2]


def test_resampling_counts_in_the_size_of_a_tile() -> None:
    case = Extent((40, 40, 10), (1.0, 1.0, 3.0), (1,))
    assert settle(Recipe(spacing_mm=(0.5, 0.5, 3.0), depth=2), [case]).tile == (80, 80)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"minutes": 1, "epochs": 2}, "both budgets"),
        ({"minutes": 0}, "minutes is 0, but must be more than 0"),
        ({"context_slices": 4}, "must be odd"),
        ({"tile": (40, 48), "depth": 4}, "must be a multiple of 16"),
        ({"views": ("oblique",)}, "must be some of axial, coronal, sagittal"),
        ({"views": ()}, "views is empty"),
        ({"flips": ("R", "R")}, "each once"),
        ({"ema": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_a_contradiction_is_refused(choices: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**choices)  # type: ignore[arg-type]
