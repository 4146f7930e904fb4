"""Two cohorts with an exact reference for training: organs in CT, small lesions in MR.

Each case has its own random generator, made from the seed, the task and the
number of the case, so a case does not depend on the other cases.
"""

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import write_text
from voxtile.models.spec import Label
from voxtile.phantoms.ellipsoids import centred_affine
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

from . import phantom_lesions, phantom_organs
from .solids import Grid, Layer, occupancy

Task = Literal["organs", "lesions"]
TASKS: tuple[Task, ...] = get_args(Task)
LABELS: dict[Task, tuple[Label, ...]] = {
    "organs": phantom_organs.LABELS,
    "lesions": phantom_lesions.LABELS,
}
# How many cases each split has, in the order of their numbers.
SPLITS = (("train", 32), ("val", 8), ("test", 8))
# Scanners store planes in any order; masks must not depend on it.
_STORED = ("RAS", "LPS", "LAS")


def draw_case(task: Task, number: int, *, seed: int = 0) -> tuple[Volume, Volume]:
    """Return one case of a cohort.

    Parameters
    ----------
    number : int
        From 1.
    seed : int, default 0
        Seed of the cohort.

    Returns
    -------
    image : Volume of int16
    truth : Volume of uint8
        The label of the last solid that fills at least half of the voxel.

    Raises
    ------
    ValueError
        If there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"there is no cohort {task!r}; choose one of {', '.join(TASKS)}")
    rng = np.random.default_rng([seed, TASKS.index(task), number])
    if task == "organs":
        grid = phantom_organs.draw_grid(rng)
        ideal, truth = _paint(phantom_organs.draw_solids(rng), grid, background=-1000)
        image = phantom_organs.degrade(ideal, grid, rng)
    else:
        grid = phantom_lesions.draw_grid(rng)
        ideal, truth = _paint(phantom_lesions.draw_solids(rng, grid, number), grid, background=0)
        image = phantom_lesions.degrade(ideal, grid, rng)
    axes = _STORED[int(rng.integers(len(_STORED)))]
    turn = tuple(slice(None, None, 1 if letter in "RAS" else -1) for letter in axes)
    affine = centred_affine(grid.shape, grid.spacing_mm, axes=axes)
    return Volume(image[turn], affine), Volume(truth[turn], affine)


def write_cohort(
    task: Task,
    folder: str | Path,
    *,
    seed: int = 0,
    splits: tuple[tuple[str, int], ...] = SPLITS,
    on_case: Callable[[str], None] | None = None,
) -> Path:
    """Write a cohort as NIfTI files with their manifest.

    Parameters
    ----------
    folder : str or Path
        Created if missing; must be empty.
    splits : tuple of (split, cases), default 32 train, 8 val, 8 test
    on_case : callable, optional
        Called with the id of each written case.

    Returns
    -------
    Path
        ``cases.csv``, the manifest. Beside it are ``images/``, ``labels/`` and
        ``labels.csv``, the names of the labels.

    Raises
    ------
    ValueError
        If there is no such task.
    EnvironmentFault
        If the folder is not empty or cannot be written.
    """
    if task not in TASKS:
        raise ValueError(f"there is no cohort {task!r}; choose one of {', '.join(TASKS)}")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EnvironmentFault(f"{folder} is not an empty folder; name another or empty it first")
    rows = []
    names = [split for split, count in splits for _ in range(count)]
    for number, split in enumerate(names, start=1):
        case_id = f"{task}_{number:03d}"
        image, truth = draw_case(task, number, seed=seed)
        row = (case_id, f"images/{case_id}.nii.gz", f"labels/{case_id}.nii.gz", split)
        write_volume(folder / row[1], image)
        write_mask(folder / row[2], truth)
        rows.append(row)
        if on_case:
            on_case(case_id)
    labels = [(str(label.value), label.name, label.color) for label in LABELS[task]]
    write_text(folder / "labels.csv", table(("value", "name", "color"), labels))
    # Last, so that a folder with a manifest is a complete cohort.
    manifest = folder / "cases.csv"
    write_text(manifest, table(("case_id", "image", "label", "split"), rows))
    return manifest


def _paint(solids: list[Layer], grid: Grid, *, background: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ideal image, with mixed intensities at borders, and the reference."""
    image = np.full(grid.shape, background, np.float32)
    truth = np.zeros(grid.shape, np.uint8)
    for solid, intensity, label in solids:
        box, share = occupancy(solid, grid)
        image[box] += share * (np.float32(intensity) - image[box])
        truth[box][share >= 0.5] = label
    return image, truth


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as CSV text."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
