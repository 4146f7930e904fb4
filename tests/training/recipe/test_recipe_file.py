"""Recipes as TOML: what is written reads back, what is misspelt is refused."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.errors import ManifestError
from voxtile.models.spec import Concept, Label, NoScaling, Window, ZScore
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import (
    asked_recipe,
    dump_recipe,
    read_recipe,
    read_settled,
)

recipes = st.builds(
    Recipe,
    minutes=st.none() | st.floats(0.01, 1e4),
    seed=st.integers(0, 2**31),
    views=st.none() | st.just(("axial", "sagittal")),
    spacing_mm=st.none() | st.just("native") | st.tuples(*[st.floats(0.1, 9)] * 3),
    intensity=st.none()
    | st.builds(Window, center=st.floats(-1e3, 1e3), width=st.floats(1, 1e4))
    | st.builds(ZScore, clip=st.none() | st.just((0.5, 99.5)))
    | st.builds(NoScaling),
    tile=st.none() | st.just((48, 64)),
    class_weights=st.none() | st.lists(st.floats(0, 10), min_size=1, max_size=3).map(tuple),
    labels=st.lists(
        st.builds(
            Label,
            value=st.just(3),
            name=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
            | st.just('a "b" \\ \t'),
            color=st.just("#00ff00"),
            region=st.just(()) | st.just((3, 4)),
            concept=st.none() | st.just(Concept(value="1", scheme="SCT", meaning="Liver")),
        ),
        max_size=2,
    ).map(tuple),
    augmentation=st.builds(Augmentation, noise=st.floats(0, 1)),
)


@given(recipes)
def test_a_recipe_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, recipe: Recipe
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(dump_recipe(recipe, {"minutes": "a reason"}), "utf-8")
    assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    ("written", "position", "optimizer"),
    [("", False, "adamw"), ('position = true\noptimizer = "muon"\n', True, "muon")],
)
def test_what_earlier_versions_did_not_write_is_what_they_did(
    tmp_path: Path, written: str, position: bool, optimizer: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"filters = 16\n{written}")
    recipe = read_settled(path)
    assert (recipe.position, recipe.optimizer) == (position, optimizer)


def test_reasons_stand_beside_their_choices() -> None:
    text = dump_recipe(
        Recipe(filters=24, intensity=NoScaling()), {"filters": "why", "intensity": "so"}
    )
    assert "filters = 24  # why" in text
    assert '[intensity]  # so\nmethod = "none"' in text
    assert "minutes" not in tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filtres = 3", "unknown key filtres; did you mean filters?"),
        ("[augmentation]\nrotation = 1", "unknown key augmentation.rotation; did you mean rota"),
        ("filters = 2.5", "filters must be a whole number, not 2.5"),
        ("context_slices = 4", "context_slices 4 must be odd"),
        ("minutes = 1\nsteps = 3", "minutes and steps are all budgets; give one of them"),
        ('views = ["oblique"]', "views.0 must be 'axial', 'coronal' or 'sagittal', not 'oblique'"),
        ("filters = ", "is not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_option_overrides_the_file_and_a_budget_any_other(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("minutes = 5\nfilters = 8\nseed = 3")
    recipe = asked_recipe(path, {"steps": 40, "filters": 16, "seed": None, "views": None})
    assert (recipe.minutes, recipe.steps, recipe.filters, recipe.seed) == (None, 40, 16, 3)
    with pytest.raises(ValueError, match="minutes and epochs are all budgets"):
        asked_recipe(path, {"minutes": 1, "epochs": 2})
    with pytest.raises(ValueError, match="network must be 'per_view' or 'shared'"):
        asked_recipe(None, {"network": "both"})
