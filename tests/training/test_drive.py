"""Training: from a manifest to a bundle, and what it refuses."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from training_cohort import INNER, OUTER, TINY, cohort, write_image, write_rows

from voxtile import Bundle, load_bundle, score, segment, train
from voxtile.batch.drive import run_manifest
from voxtile.engines.keras_engine import build as build_network
from voxtile.errors import EnvironmentFault, ManifestError, UsageError
from voxtile.models.spec import Division, Label, ZScore
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.run.settings import RunSettings
from voxtile.scoring.measures import Measures
from voxtile.training.fitting.judging import Scores
from voxtile.training.fitting.loss import make_loss
from voxtile.training.fitting.networks import build_network as first_network
from voxtile.training.options import TrainOptions
from voxtile.training.plan import plan_training
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe
from voxtile.training.recipe.warm_start import continued
from voxtile.training.source import read_source, reading_facts
from voxtile.writing.nifti import write_mask


@dataclass(frozen=True)
class Trained:
    """A bundle with the manifest it was trained on."""

    bundle: Bundle
    manifest: Path

    @property
    def history(self) -> list[dict[str, str]]:
        """Rows of history.csv."""
        with (self.bundle.folder / "history.csv").open() as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two exclusive labels, two views in one network, resampled planes."""
    folder = tmp_path_factory.mktemp("softmax")
    manifest = cohort(folder)
    recipe = replace(
        TINY, views=("axial", "coronal"), spacing_mm=(1.2, 1.2, 1.2), labels=(OUTER, INNER)
    )
    licence = folder / "licence.txt"
    licence.write_text("CC0")
    bundle = train(manifest, folder / "balls", recipe=recipe, licence=licence, description="Balls.")
    return Trained(bundle, manifest)


@pytest.mark.slow
def test_loss_falls(trained: Trained) -> None:
    losses = [float(row["loss"]) for row in trained.history]
    assert len(losses) == 3
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_the_bundle_is_whole_and_says_how_it_was_made(trained: Trained) -> None:
    files = {path.name for path in trained.bundle.folder.iterdir()}
    assert files == {
        "spec.json",
        "fingerprint.json",
        "recipe.toml",
        "unet.keras",
        "README.md",
        "history.csv",
        "training.html",
        "LICENSE",
    }
    spec = load_bundle(trained.bundle.folder).spec
    assert spec.name == "balls"
    assert spec.views == ("axial", "coronal")
    assert spec.activation == "softmax"
    facts = spec.training
    assert (facts["n_train"], facts["n_val"]) == (4, 1)
    assert facts["train"] == ["c0", "c1", "c2", "c3"]
    assert facts["steps"] == 90
    assert facts["domain"]["cases"] == 4
    assert facts["domain"]["faces"] == {"1": {"cases": 4}, "2": {"cases": 4}}
    assert set(facts["domain"]["intensity"]) == set(spec.channels)
    card = (trained.bundle.folder / "README.md").read_text()
    for words in ("Balls.", "core", "Not a medical device", "95 % interval"):
        assert words in card


@pytest.mark.slow
def test_the_scores_are_those_of_a_run(trained: Trained) -> None:
    # What validation saw while training is what the loaded bundle gives, resampling included.
    facts = trained.bundle.spec.training["validation_dice"]
    folder = trained.manifest.parent
    mask = segment(read_nifti(folder / "4.nii").volume, trained.bundle)
    truth = read_nifti(folder / "4_label.nii.gz").volume
    dice = [part.overlap.dice for part in score(mask, truth, trained.bundle.spec.labels)]
    assert dice == pytest.approx(facts["cases"]["c4"], abs=2e-3)
    # The kernels are rounded to bfloat16 after the last validation, which moves the Dice of
    # these small phantoms by 0.0014 to 0.0018 (seeds 0 and 1).
    assert max(float(row["val_dice"]) for row in trained.history) == pytest.approx(
        facts["mean"], abs=3e-3
    )
    assert facts["mean"] > 0.3


@pytest.mark.slow
def test_nothing_is_left_beside_the_bundle(trained: Trained) -> None:
    names = [path.name for path in trained.bundle.folder.parent.iterdir()]
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.slow
def test_overlapping_regions_train_by_time_and_an_interrupted_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxtile.training import drive

    whole = Label(value=1, name="whole", color="#e6194b", region=(1, 2))
    recipe = replace(TINY, epochs=None, minutes=0.02, labels=(whole, INNER))
    publish = drive.publish

    def interrupt(work: Path, out: Path, *, replaces: bool) -> None:
        assert load_bundle(work / "bundle").spec.activation == "sigmoid"
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "publish", interrupt)
    manifest = cohort(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "out", recipe=recipe)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out.training"}
    said = capsys.readouterr().err
    assert "validation Dice" in said  # a line per epoch: not a terminal
    with pytest.raises(
        EnvironmentFault, match="an interrupted training run; continue it with --resume"
    ):
        train(manifest, tmp_path / "out", recipe=recipe)
    with pytest.raises(EnvironmentFault, match=r"seed 0 instead of 1\); use the same"):
        train(manifest, tmp_path / "out", recipe=replace(recipe, seed=1), resume=True)
    monkeypatch.setattr(drive, "publish", publish)
    bundle = train(manifest, tmp_path / "out", recipe=recipe, resume=True)
    assert "epoch" not in capsys.readouterr().err  # nothing was left to fit
    assert bundle.spec.training["fit_seconds"] > 1
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out"}


@pytest.mark.slow
def test_a_bundle_is_fine_tuned_from_its_own_weights(trained: Trained, tmp_path: Path) -> None:
    start = trained.bundle
    recipe = Recipe(
        epochs=1, steps_per_epoch=2, batch=4, precision="float32", learning_rate=1e-7, ema=0
    )
    tuned = train(trained.manifest, tmp_path / "tuned", recipe=recipe, init=start.folder)
    known = [*start.spec.training["train"], *start.spec.training["val"]]
    assert tuned.spec.training["init"] == {
        "name": "balls",
        "sha256": start.sha256,
        "cases": sorted(known),
        "seen": start.spec.training["val"],
    }
    # It is validated on cases that its start has seen, and says so.
    assert "1 of the 1 scored cases" in (tuned.folder / "README.md").read_text()
    same = ("channels", "context_slices", "spacing_mm", "intensity", "tile", "labels", "views")
    assert [getattr(tuned.spec, key) for key in same] == [getattr(start.spec, key) for key in same]
    assert "filters = 4\n" in (tuned.folder / "recipe.toml").read_text()
    # Two steps of nothing: the gains and filters are those of the start.
    ours, theirs = (build_network(b, b.spec.networks[0]).get_weights() for b in (tuned, start))
    assert max(np.abs(a - b).max() for a, b in zip(ours[:1], theirs[:1], strict=True)) < 1e-6
    assert "The fit started with the weights of balls" in (tuned.folder / "README.md").read_text()


@pytest.mark.slow
def test_members_are_different_networks_and_fine_tuning_starts_each_from_its_own_weights(
    trained: Trained, tmp_path: Path
) -> None:
    short = replace(TINY, epochs=1, steps_per_epoch=2, members=2, network="per_view")
    recipe = replace(short, views=("axial", "coronal"), labels=(OUTER, INNER))
    bundle = train(trained.manifest, tmp_path / "four", recipe=recipe)
    networks = bundle.spec.networks
    assert [(entry.file, entry.views) for entry in networks] == [
        ("unet_axial.keras", ("axial",)),
        ("unet_coronal.keras", ("coronal",)),
        ("unet_axial_2.keras", ("axial",)),
        ("unet_coronal_2.keras", ("coronal",)),
    ]
    assert len({entry.sha256 for entry in networks}) == 4
    card = (bundle.folder / "README.md").read_text()
    assert "4 U-Nets, 2 for each view, with" in card
    table = (bundle.folder / "history.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in table[1:]] == [
        "axial",
        "coronal",
        "axial 2",
        "coronal 2",
    ]
    plan = plan_training(trained.manifest, init=bundle.folder, progress=False)
    assert [entry.file for entry in plan.spec.networks] == [entry.file for entry in networks]
    for number, entry in enumerate(networks):
        first = first_network(plan.spec, plan.recipe, number, bundle)
        for now, then in zip(
            first.get_weights(), build_network(bundle, entry).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(now, then)


@pytest.mark.slow
def test_what_fine_tuning_cannot_change_is_refused(trained: Trained, tmp_path: Path) -> None:
    for choices, message in (
        ({"context_slices": 3}, "context_slices is 3, but .* has 1"),
        ({"intensity": ZScore()}, "fine-tuning cannot change"),
    ):
        with pytest.raises(ValueError, match=message):
            train(
                trained.manifest,
                tmp_path / "out",
                recipe=Recipe(**choices),  # type: ignore[arg-type]
                init=trained.bundle.folder,
            )
    assert list(tmp_path.iterdir()) == []


def test_fine_tuning_cannot_change_the_architecture() -> None:
    start = load_bundle("hippocampus")
    assert continued(Recipe(filters=32), start).filters == 32
    for choice, message in (
        ({"filters": 16}, "filters is 16, but .*hippocampus has 32, which fine-tuning"),
        ({"normalisation": "group"}, "normalisation is group, but .* has batch"),
        ({"dropout": 0.2}, r"dropout is 0.2, but .* has 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            continued(Recipe(**choice), start)  # type: ignore[arg-type]
    # A network from another program may not say how it was trained.
    told = {name: fact for name, fact in start.spec.training.items() if name != "recipe"}
    silent = replace(start, spec=start.spec.model_copy(update={"training": told}))
    assert continued(Recipe(), silent).normalisation == "batch"
    with pytest.raises(ValueError, match=r"dropout is 0.2, but .* has an unknown one, which"):
        continued(Recipe(dropout=0.2), silent)


def test_fine_tuning_several_bundles_is_refused() -> None:
    start = load_bundle("hippocampus")
    several = replace(start, others=(start,))
    message = r"names 2 models \(hippocampus,hippocampus\), but .*; name one of them"
    with pytest.raises(ValueError, match=message):
        continued(Recipe(), several)


@pytest.mark.slow
def test_small_lesions_are_found(tmp_path: Path) -> None:
    # Balls of 3 mm, one voxel in 400, as bright as the noise is strong twice.
    manifest = lesions(tmp_path)
    plan = plan_training(manifest, progress=False)
    assert plan.fingerprint.foreground < 0.005
    assert plan.spec.activation == "sigmoid"
    recipe = Recipe(
        epochs=4,
        steps_per_epoch=40,
        filters=8,
        depth=2,
        batch=8,
        precision="float32",
        learning_rate=1e-2,
        ema=0.9,
        views=("axial",),
    )
    bundle = train(manifest, tmp_path / "out", recipe=recipe, progress=False)
    assert bundle.spec.training["validation_dice"]["mean"] > 0.6


def lesions(folder: Path) -> Path:
    """A manifest of scans with one small ball each, anywhere."""
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate("ttttttvv"):
        shape = 40, 40, 12
        affine = centred_affine(shape, (1.0, 1.0, 2.5))
        at = tuple(rng.uniform(-10, 10, 3))
        image, truth = draw(shape, affine, [Ellipsoid(at, (3, 3, 4), 1, label=1)])
        write_image(
            folder / f"{number}.nii", image.with_array(image.array + rng.normal(0, 0.5, shape))
        )
        write_mask(folder / f"{number}_label.nii.gz", truth)
        rows.append([f"c{number}", f"{number}.nii", f"{number}_label.nii.gz", split])
    return write_rows(folder, rows)


@pytest.mark.slow
def test_it_trains_on_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    recipe = replace(TINY, epochs=2, steps_per_epoch=3)
    (tmp_path / "recipe.toml").write_text(dump_recipe(recipe))
    command = [sys.executable, "-c", "from voxtile.cli import main; main()", "train"]
    command += [str(cohort(tmp_path, "ttv")), "--recipe", str(tmp_path / "recipe.toml")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    versions = load_bundle(tmp_path / "out").spec.training["versions"]
    assert versions["backend"].startswith("torch")


def test_no_validation_case_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no case with split 'val'.*add a column split"):
        train(cohort(tmp_path, "ttt"), tmp_path / "out", recipe=TINY)


def test_cases_without_label_are_refused_all_at_once(tmp_path: Path) -> None:
    cohort(tmp_path)
    rows = [["c0", "0.nii", "", "t"], ["c1", "1.nii", "1_label.nii.gz", "t"]]
    rows += [["c2", "2.nii", "", "v"], ["c3", "3.nii", "", ""]]
    with pytest.raises(ManifestError) as caught:
        train(write_rows(tmp_path, rows), tmp_path / "out", recipe=TINY)
    assert ["line 2" in problem for problem in caught.value.problems] == [True, False]
    assert "line 4: case c2 has split 'val' but no label" in caught.value.problems[1]


def test_unusable_labels_are_refused_all_at_once(tmp_path: Path) -> None:
    cohort(tmp_path)
    rows = [["c0", "0.nii", "1_label.nii.gz", "t"], ["c1", "1.nii", "1_label.nii.gz", "t"]]
    rows += [["c2", "2.nii", "0_label.nii.gz", "v"]]
    with pytest.raises(ManifestError) as caught:
        train(write_rows(tmp_path, rows), tmp_path / "out", recipe=TINY)
    assert [" line 2: case c0" in caught.value.problems[0], len(caught.value.problems)] == [True, 2]
    assert not (tmp_path / "out").exists()


def test_a_value_that_is_no_label_is_refused(tmp_path: Path) -> None:
    recipe = replace(TINY, labels=(OUTER,))
    with pytest.raises(ManifestError, match="the reference has values 2"):
        train(cohort(tmp_path), tmp_path / "out", recipe=recipe)


def test_a_value_that_only_validation_has_is_refused(tmp_path: Path) -> None:
    cohort(tmp_path)
    shell = read_nifti(tmp_path / "0_label.nii.gz").volume
    write_mask(tmp_path / "0_label.nii.gz", shell.with_array(np.minimum(shell.array, 1)))
    rows = [["c0", "0.nii", "0_label.nii.gz", "t"], ["c1", "1.nii", "1_label.nii.gz", "v"]]
    with pytest.raises(
        ManifestError, match=r"line 3: case c1.*\[2\], but the training labels have only"
    ):
        train(write_rows(tmp_path, rows), tmp_path / "out", recipe=TINY)
    # To ask for a label does not bring a case that has it.
    asked = replace(TINY, labels=(OUTER, INNER))
    with pytest.raises(ManifestError, match=r"\[2\], but the training labels have only \[1\]"):
        train(write_rows(tmp_path, rows), tmp_path / "other", recipe=asked)


def test_a_patient_in_both_splits_is_refused(tmp_path: Path) -> None:
    cohort(tmp_path)
    (tmp_path / "cohort.csv").write_text(
        "case_id,image,label,split,group\n"
        "a,0.nii,0_label.nii.gz,train,p1\nb,1.nii,1_label.nii.gz,val,p1\n"
    )
    with pytest.raises(ManifestError, match="line 3: group 'p1' is in val here but in train on"):
        train(tmp_path / "cohort.csv", tmp_path / "out", recipe=TINY)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_patient_who_is_in_test_as_well_is_refused(tmp_path: Path, split: str) -> None:
    cohort(tmp_path)
    rows = [f"{number},{number}.nii,{number}_label.nii.gz" for number in range(3)]
    other = "val" if split == "train" else "train"
    (tmp_path / "cohort.csv").write_text(
        f"case_id,image,label,split,group\n{rows[0]},test,p1\n{rows[1]},{split},p1\n"
        f"{rows[2]},{other},p2\n"
    )
    message = f"line 3: group 'p1' is in {split} here but in test on line 2; put each group"
    with pytest.raises(ManifestError, match=message):
        train(tmp_path / "cohort.csv", tmp_path / "out", recipe=TINY)


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(EnvironmentFault, match="exists; choose another name"):
        train(cohort(tmp_path), tmp_path / "out", recipe=TINY)


def test_scores_leave_undefined_cases_out() -> None:
    nan = float("nan")
    scores = Scores((("a", (1.0, nan)), ("b", (0.5, nan)), ("c", (nan, nan))))
    assert scores.mean == 0.75
    assert [column.size for column in scores.columns] == [2, 0]


@pytest.fixture(params=[True, False], ids=["softmax", "sigmoid"])
def loss(request: pytest.FixtureRequest) -> Callable[[np.ndarray, np.ndarray], float]:
    """Both losses, on arrays."""
    function = make_loss(softmax=request.param)
    return lambda truth, answer: float(function(truth, answer))


def one_hot(seed: int = 0) -> np.ndarray:
    """Random exclusive targets, shape (2, 6, 6, 3)."""
    return np.eye(3, dtype=np.float32)[np.random.default_rng(seed).integers(0, 3, (2, 6, 6))]


def test_a_perfect_answer_costs_nothing(loss: Callable[[np.ndarray, np.ndarray], float]) -> None:
    assert loss(one_hot(), one_hot()) == pytest.approx(0, abs=1e-4)


def test_a_better_answer_costs_less(loss: Callable[[np.ndarray, np.ndarray], float]) -> None:
    costs = [
        loss(one_hot(), share * one_hot() + (1 - share) / 3) for share in (0.0, 0.3, 0.6, 0.9, 1)
    ]
    assert costs == sorted(costs, reverse=True)


def test_an_absent_label_that_is_not_predicted_costs_nothing(
    loss: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    truth = np.zeros((1, 4, 4, 3), np.float32)
    truth[..., 0] = 1
    assert loss(truth, truth) == pytest.approx(0, abs=1e-4)


def test_dice_of_the_softmax_loss_ignores_the_background() -> None:
    truth = np.zeros((1, 1, 4, 2), np.float32)
    truth[0, 0, :2, 0] = truth[0, 0, 2:, 1] = 1
    answer = np.full((1, 1, 4, 2), 0.5, np.float32)
    # Cross-entropy log 2; Dice of the one label (2 * 1 + 1) / (2 + 2 + 1).
    assert float(make_loss(softmax=True)(truth, answer)) == pytest.approx(np.log(2) + 1 - 3 / 5)


def test_class_weights_count_in_the_cross_entropy() -> None:
    truth = np.zeros((1, 1, 4, 2), np.float32)
    truth[0, 0, :2, 0] = truth[0, 0, 2:, 1] = 1
    answer = np.full((1, 1, 4, 2), 0.5, np.float32)
    # Half the pixels count 1, half 3: log 2 twice over; Dice as above.
    loss = make_loss(softmax=True, weights=(1, 3))
    assert float(loss(truth, answer)) == pytest.approx(2 * np.log(2) + 1 - 3 / 5)


def test_a_device_that_is_missing_or_named_twice_is_refused_before_cases_are_read(
    tmp_path: Path,
) -> None:
    cohort(tmp_path)
    (tmp_path / "0.nii").write_bytes(b"not a scan")
    with pytest.raises(EnvironmentFault, match=r"--device gpu:97: Keras .* finds \d+ GPU"):
        train(tmp_path / "cohort.csv", tmp_path / "out", device="gpu:97")
    with pytest.raises(EnvironmentFault, match="--device gpu:98"):
        train(tmp_path / "cohort.csv", tmp_path / "out", devices=(98, 99))
    with pytest.raises(UsageError, match="must be different numbers"):
        TrainOptions(devices=(1, 1))
    with pytest.raises(UsageError, match="exclude each other"):
        TrainOptions(devices=(0, 1), device="gpu:2")
    with pytest.raises(UsageError, match="must be auto, cpu, gpu or gpu:N"):
        TrainOptions(device="tpu")
    assert not (tmp_path / "out.training").exists()


@pytest.mark.parametrize("softmax", [True, False])
def test_neither_loss_nor_gradient_depends_on_ignored_pixels(softmax: bool) -> None:
    rng = np.random.default_rng(3)
    hidden = rng.random((2, 6, 6)) < 0.4
    truth = np.where(hidden[..., None], -1, one_hot()).astype(np.float32)
    answer = rng.dirichlet((1, 1, 1), (2, 6, 6)).astype(np.float32)
    other = np.where(hidden[..., None], rng.dirichlet((1, 1, 1), (2, 6, 6)), answer)
    loss = make_loss(softmax=softmax, partial=True)
    assert float(loss(truth, answer)) == float(loss(truth, other.astype(np.float32)))
    # The loss of the other pixels alone, as one row of pixels.
    alone = [part[~hidden][None, None] for part in (truth, answer)]
    assert float(loss(truth, answer)) == pytest.approx(
        float(make_loss(softmax=softmax)(*alone)), rel=1e-5
    )
    nothing = np.full_like(truth, -1)
    assert float(loss(nothing, answer)) == float(loss(nothing, 1 - answer)) == 0


def test_a_training_with_ignored_voxels_learns_and_scores_the_others(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "ttv")
    for path in tmp_path.glob("*_label.nii.gz"):
        truth = read_nifti(path).volume
        array = truth.array.copy()
        array[:, :6] = 255
        write_mask(path, truth.with_array(array))
    recipe = replace(TINY, epochs=1, steps_per_epoch=3, ignore=255, views=("axial",))
    model = train(manifest, tmp_path / "model", recipe=recipe, progress=False)
    assert [label.value for label in model.spec.labels] == [1, 2]
    assert model.spec.ignore == 255
    result = run_manifest(
        manifest, model.folder, tmp_path / "out", settings=RunSettings(splits=("val",))
    )
    (case,) = model.spec.training["validation_dice"]["cases"].values()
    found = [row.dice for row in result.reports[0].labels]
    assert found == pytest.approx(case, abs=1e-4)
    with pytest.raises(UsageError, match="--ignore 2 is a value of the model's label 2"):
        run_manifest(
            manifest,
            model.folder,
            tmp_path / "other",
            settings=RunSettings(measures=Measures(ignore=2)),
        )


def test_merged_labels_are_planned_as_if_the_files_were_merged(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "ttv")
    third = Label(value=3, name="none", color="#000000")
    both = OUTER.model_copy(update={"region": (1, 2)})
    plans = []
    for labels in ((both, third), (OUTER, third)):
        recipe = replace(TINY, labels=labels)
        plans.append(plan_training(manifest, recipe=recipe, progress=False))
        for path in tmp_path.glob("*_label.nii.gz"):
            truth = read_nifti(path).volume
            write_mask(path, truth.with_array((truth.array > 0).astype(np.uint8)))
    assert plans[0].fingerprint == plans[1].fingerprint
    assert replace(plans[0].recipe, labels=()) == replace(plans[1].recipe, labels=())
    assert [plan.spec.activation for plan in plans] == ["softmax", "softmax"]


def test_all_cases_may_train_and_only_their_references_choose(tmp_path: Path) -> None:
    manifest = cohort(tmp_path, "ttttv")
    for path in tmp_path.glob("*_label.nii.gz"):
        truth = read_nifti(path).volume
        behind = np.arange(truth.shape[1])[:, np.newaxis] < truth.shape[1] // 2
        write_mask(
            path, truth.with_array(np.where(behind, 2, 1).astype(np.uint8) * (truth.array > 0))
        )
    recipe = replace(TINY, epochs=2, steps_per_epoch=2, views=("axial",))
    model = train(manifest, tmp_path / "model", recipe=recipe, validation=False, progress=False)
    facts = model.spec.training
    assert (facts["n_train"], facts["n_val"], facts["train"][-1]) == (5, 0, "c4")
    assert "validation_dice" not in {**facts, **facts["networks"][0]}
    assert facts["networks"][0]["best_epoch"] == 2
    assert model.spec.divisions == (Division(axis="A", labels=(1, 2)),)
    card = (model.folder / "README.md").read_text()
    assert "Nothing was held out" in card
    assert "chose: only one of labels 1 and 2 in each plane along A" in card
    with pytest.raises(UsageError, match="--patience counts validations"):
        train(manifest, tmp_path / "m", recipe=replace(recipe, patience=1), validation=False)
    written = plan_training(manifest, recipe=recipe, validation=False, progress=False)
    assert written.fingerprint.cases == 5


@pytest.mark.slow
def test_fine_tuning_to_other_labels_and_channels_says_what_is_new(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = trained.manifest.read_text().splitlines()
    cells = [row.split(",") for row in rows[1:]]
    text = "".join(f"{one},{image},{image},{label},{split}\n" for one, image, label, split in cells)
    manifest = trained.manifest.with_name("two.csv")
    manifest.write_text("case_id,image_t2,image_image,label,split\n" + text)
    whole = Label(value=1, name="whole", color="#000000", region=(1, 2))
    recipe = Recipe(epochs=1, steps_per_epoch=1, batch=2, precision="float32", labels=(whole,))
    start = trained.bundle.folder
    tuned = train(manifest, tmp_path / "tuned", recipe=recipe, init=start)
    said = (
        "the last layer is new, because the labels are 1 whole instead of 1 shell, 2 core; new "
        "channels start from the mean of the old ones: t2; all other weights are those of balls"
    )
    assert f"fine-tuning: {said}" in " ".join(capsys.readouterr().err.split())
    assert tuned.spec.training["init"]["adapted"] == said
    assert (tuned.spec.channels, tuned.spec.activation) == (("t2", "image"), "sigmoid")
    assert said in (tuned.folder / "README.md").read_text()


def test_how_scans_were_read_is_recorded_and_must_stay_the_same(tmp_path: Path) -> None:
    assert reading_facts(ReadPolicy()) == {}
    assert reading_facts(ReadPolicy(nan="fill")) == {"reading": {"nan": "fill"}}
    source = read_source(
        cohort(tmp_path, "tv"), "m", TrainOptions(policy=ReadPolicy(tilt="native")), None
    )
    assert source.identity(Recipe())["reading"] == {"tilt": "native"}
