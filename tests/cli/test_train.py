"""`voxtile train`: what it prints, what it refuses, with which exit code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_cohort import cohort
from typer.testing import CliRunner

from voxtile import train
from voxtile.cli import app
from voxtile.training import drive
from voxtile.training.folds.cross_validation import cross_validate
from voxtile.training.options import TrainOptions
from voxtile.training.recipe.recipe import Recipe


def invoke(*words: object) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(app, ["train", *(str(word) for word in words)])
    return result.exit_code, result.output


def test_a_dry_run_prints_fingerprint_and_recipe_without_a_network(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "tv")
    before = set(tmp_path.iterdir())
    code = (
        "import sys; from voxtile.cli import app\n"
        "try: app()\n"
        "finally: assert 'keras' not in sys.modules"
    )
    words = ["train", str(manifest), "--out", str(tmp_path / "out"), "--dry-run", "--steps", "90"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "spacing_mm: [" in done.stdout
    assert "steps = 90\n" in done.stdout  # asked for: it needs no reason
    assert 'views = ["axial"]  # median spacings differ by a factor of 2' in done.stdout
    assert "# time: 1 network of 90 steps" in done.stdout
    assert set(tmp_path.iterdir()) == before


def test_options_override_the_recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Recipe] = []

    def interrupted(manifest: Path, out: Path, options: TrainOptions) -> None:
        assert options.recipe is not None
        asked.append(options.recipe)
        assert options.resume
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "train_bundle", interrupted)
    (tmp_path / "r.toml").write_text("minutes = 3\nfilters = 8\ndepth = 2\n")
    (tmp_path / "m.csv").write_text("case_id,image,label\na,a.nii,b.nii\n")
    words = [tmp_path / "m.csv", "--out", "o", "--recipe", tmp_path / "r.toml", "--resume"]
    code, said = invoke(
        *words, "--filters", 16, "--epochs", 4, "--spacing", "native", "--view", "axial,coronal"
    )
    assert (code, said.strip()) == (
        130,
        "interrupted; the same command with --resume goes on from the last checkpoint",
    )
    (recipe,) = asked
    assert (recipe.minutes, recipe.epochs, recipe.filters, recipe.depth) == (None, 4, 16, 2)
    assert (recipe.views, recipe.spacing_mm) == (("axial", "coronal"), "native")


@pytest.mark.parametrize(
    "words",
    [[], ["--dry-run"], ["--folds", 2], ["--folds", 2, "--dry-run"], ["--folds", 2, "--join"]],
)
def test_a_name_that_no_model_can_have_is_refused_before_anything_is_read(
    tmp_path: Path, words: list[object]
) -> None:
    code, said = invoke(tmp_path / "no.csv", "--out", tmp_path / "liver cv", *words)
    assert code == 2
    assert "'liver cv' is not a valid name" in said
    assert "rename the folder, for example to 'liver-cv'" in said


@pytest.mark.parametrize("begin", [train, cross_validate])
def test_a_call_from_python_refuses_such_a_name_as_early(
    tmp_path: Path, begin: Callable[..., object]
) -> None:
    with pytest.raises(ValueError, match="for example to 'liver-cv'"):
        begin(tmp_path / "no.csv", tmp_path / "liver cv")


def test_a_licence_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for wrong, words in ((tmp_path / "none.txt", "does not exist"), (tmp_path, "is a directory")):
        code, said = invoke(tmp_path / "no.csv", "--out", tmp_path / "out", "--licence", wrong)
        assert code == 2
        assert "--licence" in said and words in " ".join(said.replace("│", " ").split())


def test_a_misspelt_recipe_exits_with_4_and_a_wrong_choice_with_2(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("filtres = 8\n")
    code, said = invoke("m.csv", "--out", "o", "--recipe", tmp_path / "r.toml")
    assert code == 4
    assert "unknown key filtres; did you mean filters?" in said
    code, said = invoke("m.csv", "--out", "o", "--precision", "double")
    assert code == 2
    assert "'double' is not one of" in said
    code, said = invoke("m.csv", "--out", "o", "--view", "frontal")
    assert code == 2
    assert "views" in said and "must be 'axial', 'coronal' or 'sagittal'" in said


def test_two_labels_with_one_value_exit_with_2(tmp_path: Path) -> None:
    named = ((1, "one"), (1, "again"), (2, "two"))
    labels = ", ".join(
        f'{{value = {value}, name = "{name}", color = "#ff0000"}}' for value, name in named
    )
    (tmp_path / "r.toml").write_text(f"labels = [{labels}]\n")
    words = ("--out", tmp_path / "out", "--dry-run", "--recipe", tmp_path / "r.toml")
    code, said = invoke(cohort(tmp_path, "tv"), *words)
    assert "recipe: label value 1 appears twice" in said
    assert code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "+60"], "trains a finished model further; add --resume"),
        (["--minutes", "+60", "--resume", "--dry-run"], "leave out --dry-run and --folds"),
        (["--steps", "+9", "--resume", "--folds", 2], "leave out --dry-run and --folds"),
        (["--steps", "+9", "--resume"], "o is not a finished model"),
        (["--epochs", "many"], "--epochs 'many' must be like 20 or +20"),
    ],
)
def test_a_budget_with_plus_is_for_a_finished_model(
    words: list[object], message: str, tmp_path: Path
) -> None:
    code, said = invoke(cohort(tmp_path, "tv"), "--out", tmp_path / "o", *words)
    assert code == 2
    assert message in said
