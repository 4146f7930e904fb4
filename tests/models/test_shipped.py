"""The shipped hippocampus model: its split follows the written rule, its card tells the truth."""

import csv
import hashlib
from pathlib import Path

import pytest

from voxtile import load_bundle, read_volume, score, segment
from voxtile.models.bundle import SHIPPED
from voxtile.reading.reference import read_reference

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "manifests/hippocampus.csv"


def split() -> dict[str, str]:
    """The split of each case of the manifest."""
    with MANIFEST.open() as file:
        return {row["case_id"]: row["split"] for row in csv.DictReader(file)}


def test_the_split_follows_its_rule() -> None:
    cases = split()
    order = sorted(cases, key=lambda name: hashlib.sha256(name.encode("ascii")).hexdigest())
    assert len(cases) == 217
    assert {name for name in cases if cases[name] == "val"} == set(order[:40])
    assert {name for name in cases if cases[name] == "train"} == set(order[40:])


def test_the_model_was_trained_on_that_manifest_and_is_small() -> None:
    spec = load_bundle("hippocampus").spec
    cases = split()
    facts = spec.training
    assert facts["manifest_sha256"] == hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    assert sorted(facts["train"]) == sorted(name for name in cases if cases[name] == "train")
    assert sorted(facts["val"]) == sorted(name for name in cases if cases[name] == "val")
    files = list((SHIPPED / "hippocampus").iterdir())
    assert {path.name for path in files} == {
        "spec.json",
        "quality.json",
        "unet_axial.keras",
        "unet_coronal.keras",
        "unet_sagittal.keras",
        "README.md",
        "LICENSE",
        "fingerprint.json",
        "history.csv",
        "recipe.toml",
        "training.png",
    }
    assert sum(path.stat().st_size for path in files) < 10e6


def test_the_card_has_the_scores_of_the_spec() -> None:
    card = (SHIPPED / "hippocampus/README.md").read_text()
    scores = load_bundle("hippocampus").spec.training["validation_dice"]
    assert scores["mean"] >= 0.89
    for row in scores["labels"]:
        low, high = row["ci"]
        assert low < row["mean"] < high
        assert (
            f"| {row['name']} | {row['mean']:.3f} | {low:.3f} to {high:.3f} | {row['sd']:.3f} |"
            in card
        )


@pytest.mark.slow
def test_the_model_scores_as_its_spec_says(data_dir: Path) -> None:
    bundle = load_bundle("hippocampus")
    folder = data_dir / "hippocampus"
    recorded = bundle.spec.training["validation_dice"]["cases"]
    for case_id in sorted(recorded)[:3]:
        image = read_volume(folder / f"images/{case_id}.nii.gz")
        labels = bundle.spec.labels
        truth, _ = read_reference(folder / f"labels/{case_id}.nii.gz", image, labels)
        dice = [part.overlap.dice for part in score(segment(image, bundle), truth, labels)]
        # Another kind of CPU may turn a few voxels on the border.
        assert dice == pytest.approx(recorded[case_id], abs=5e-3)
