"""A cohort that trains in seconds, and a recipe for it."""

import csv
from pathlib import Path

import numpy as np

from voxtile.models.spec import Label, NoScaling
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.recipe.recipe import Recipe
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask

INNER = Label(value=2, name="core", color="#3cb44b")
OUTER = Label(value=1, name="shell", color="#e6194b")
TINY = Recipe(
    epochs=3,
    steps_per_epoch=30,
    filters=4,
    depth=1,
    batch=8,
    tile=(24, 24),
    context_slices=1,
    optimizer="muon",
    learning_rate=1e-2,
    ema=0.8,
    intensity=NoScaling(),
    normalisation="batch",
    precision="float32",
    network="shared",
    augmentation=Augmentation(elastic_mm=0.3),
)


def cohort(folder: Path, splits: str = "ttttv") -> Path:
    """A manifest of noisy two-part balls on grids of several sizes and orientations."""
    rows = []
    for number, split in enumerate(splits):
        shape = 24 + number, 22, 10
        affine = centred_affine(shape, (1.0, 1.2, 2.0), axes=["RAS", "LPS"][number % 2])
        at = (number - 2.0, 1.0, 0.0)
        solids = [Ellipsoid(at, (9, 9, 8), 1, label=1), Ellipsoid(at, (5, 5, 5), 2, label=2)]
        image, truth = draw(shape, affine, solids)
        noise = np.random.default_rng(number).normal(0, 0.1, shape)
        write_image(folder / f"{number}.nii", image.with_array(image.array + noise))
        write_mask(folder / f"{number}_label.nii.gz", truth)
        rows.append([f"c{number}", f"{number}.nii", f"{number}_label.nii.gz", split])
    return write_rows(folder, rows)


def write_image(path: Path, volume: Volume) -> None:
    """A float image as NIfTI."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(volume.array.astype(np.float32), volume.affine), path)


def write_rows(folder: Path, rows: list[list[str]]) -> Path:
    """A manifest with its split letters spelt out."""
    names = {"t": "train", "v": "val", "": ""}
    path = folder / "cohort.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "image", "label", "split"])
        writer.writerows([*row[:3], names[row[3]]] for row in rows)
    return path
