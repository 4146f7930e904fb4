"""Run the demo on a synthetic cohort with exact references: make scans, train, run, report."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxtile.batch.case_loop import RunResult
from voxtile.batch.drive import run_manifest
from voxtile.case import Case, Split
from voxtile.errors import UsageError, first_few
from voxtile.machine.files import write_text
from voxtile.manifest.table import table_of
from voxtile.models.spec import Label
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.protection import is_remainder
from voxtile.training.drive import train
from voxtile.training.recipe.recipe import Recipe
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

from .dicom import write_series
from .ellipsoids import Ellipsoid, centred_affine, draw

LABELS = (
    Label(value=1, name="organ", color="#3cb44b"),
    Label(value=2, name="lesion", color="#e6194b"),
)
_TRAIN, _VAL = 12, 3
_TESTED = ("axial", "oblique", "reversed", "dicom", "unlabelled", "damaged")
_OF_MODEL = (
    "spec.json", "README.md", "LICENSE", "fingerprint.json", "recipe.toml", "history.csv",
    "training.html",
    "training.png",  # of version 0.1.0
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The results of the demo: the scans with their manifest, the bundle, and its run."""

    cohort: Path
    model: Path
    result: RunResult


def run_demo(
    out: Path,
    *,
    minutes: float = 1.0,
    say: Callable[[str], None] = print,
    on_case: Callable[[CaseReport, int, int], None] | None = None,
) -> DemoResult:
    """Make a cohort, train on part of it, segment and score the rest.

    `out` gets ``cohort/``, ``model/`` and ``run/``. An earlier demo there is replaced; a folder
    with other files is refused. `minutes` is the training budget, and `say` is called with a
    sentence before each step. ValueError if `out` holds files that no demo wrote.
    """
    _clear(out)
    say(f"1. making {_TRAIN + _VAL + 6} synthetic scans in {out / 'cohort'}")
    manifest = make_cohort(out / "cohort")
    say(f"2. training a small U-Net for {minutes:g} min on {_TRAIN} of them")
    recipe = Recipe(
        minutes=minutes,
        filters=8,
        depth=3,
        context_slices=3,
        batch=8,
        learning_rate=3e-3,
        steps_per_epoch=50,
        views=("axial",),
        labels=LABELS,
    )
    train(manifest, out / "model", recipe=recipe, description="Demo: phantoms of two ellipsoids.")
    say("3. running the batch on scans that it was not trained on")
    test = out / "cohort" / "test.csv"
    result = run_manifest(test, out / "model", out / "run", on_case=on_case)
    return DemoResult(out / "cohort", out / "model", result)


def make_cohort(folder: Path) -> Path:
    """Write scans, references and two manifests; return the training manifest.

    ``cases.csv`` has the training and validation cases. ``test.csv`` has six
    others: an axial scan, an oblique anisotropic one, one with reversed storage
    axes, a DICOM series, one without a reference, and one with a damaged file.
    """
    rng = np.random.default_rng(0)
    trained = []
    for number in range(_TRAIN + _VAL):
        split: Split = "train" if number < _TRAIN else "val"
        image, truth = _scan(rng, axes="RAS", tilt_degrees=0)
        trained.append(_write(folder, f"phantom{number + 1:02d}", image, truth, split))
    tested = []
    for name, axes, tilt in (
        ("axial", "RAS", 0.0),
        ("oblique", "RAS", 12.0),
        ("reversed", "LPI", 0.0),
        ("dicom", "LPS", 8.0),
        ("unlabelled", "RAS", 0.0),
        ("damaged", "RAS", 0.0),
    ):
        image, truth = _scan(rng, axes=axes, tilt_degrees=tilt)
        case = _write(folder, name, image, truth, "test")
        path = folder / f"{name}.nii.gz"
        if name == "dicom":
            path.unlink()
            write_series(folder / "dicom_series", image)
            case = replace(case, images=(("image", folder / "dicom_series"),))
        if name == "unlabelled":
            (folder / f"{name}_label.nii.gz").unlink()
            case = replace(case, label=None)
        if name == "damaged":
            path.write_bytes(path.read_bytes()[:-2000])
        tested.append(case)
    write_text(folder / "test.csv", table_of(tested, folder).csv())
    write_text(folder / "cases.csv", table_of(trained, folder).csv())
    return folder / "cases.csv"


def _scan(rng: np.random.Generator, *, axes: str, tilt_degrees: float) -> tuple[Volume, Volume]:
    """Return a scan of an organ with a lesion and an equally bright distractor, and its mask."""
    shape = (64, 60, 18)
    spacing = (1.5, 1.5, float(rng.uniform(3.5, 5)))
    centre = rng.uniform(-8, 8, 3)
    radii = rng.uniform((20, 16, 18), (28, 22, 26))
    lesion = rng.uniform(7, 10)
    beside = centre + (radii - lesion - 3) * rng.uniform(-0.5, 0.5, 3)
    distractor = centre + np.array([0, radii[1] + 12, 0]) * rng.choice((-1, 1))
    gain = rng.uniform(0.7, 1.4)

    def solid(middle: np.ndarray, size: np.ndarray, intensity: float, label: int) -> Ellipsoid:
        x, y, z = middle.tolist()
        a, b, c = size.tolist()
        return Ellipsoid((x, y, z), (a, b, c), gain * intensity, label)

    solids = (
        solid(centre, radii, 400, 1),
        solid(distractor, np.full(3, 6.0), 700, 0),
        solid(beside, np.full(3, lesion), 700, 2),
    )
    affine = centred_affine(shape, spacing, axes=axes, tilt_degrees=tilt_degrees)
    seed = int(rng.integers(2**31))
    return draw(shape, affine, solids, noise=60 * gain, seed=seed)


def _write(folder: Path, name: str, image: Volume, truth: Volume, split: Split) -> Case:
    """Write a scan with its reference and return its case."""
    scan, reference = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
    write_volume(scan, image)
    write_mask(reference, truth)
    kind = (("kind", "phantom"),)
    return Case(name, (("image", scan),), reference, split, name, extras=kind)


def _clear(out: Path) -> None:
    """Remove an earlier demo, and refuse a folder with anything else."""
    if not out.exists():
        return
    others = sorted(str(path.relative_to(out)) for path in _not_of_demo(out))
    if others:
        raise UsageError(
            f"{out} holds {first_few(others, 3)}, which is not of a demo; name another"
        )
    for name in ("cohort", "model", "run"):
        shutil.rmtree(out / name, ignore_errors=True)


def _not_of_demo(out: Path) -> Iterator[Path]:
    """Yield the files of a folder that a demo does not write; all files if there is no demo."""
    ids = [*(f"phantom{number + 1:02d}" for number in range(_TRAIN + _VAL)), *_TESTED]
    scans = {f"{name}{end}" for name in ids for end in (".nii.gz", "_label.nii.gz")}
    run = RunFolder(out / "run")
    parts = {part.name for part in (*run.needed[1:], *run.optional)}
    # The table is written after the scans, so a demo that was killed earlier has no table.
    table = out / "cohort" / "test.csv"
    is_demo = table.is_file() and table.read_bytes().startswith(b"case_id,image,label,split,group")
    for root, folders, names in os.walk(out):
        yield from (Path(root, name) for name in folders if Path(root, name).is_symlink())
        for name in names:
            path = Path(root, name)
            match path.relative_to(out).parts:
                case ("cohort", file):
                    known = file in scans or file in ("test.csv", "cases.csv")
                case ("cohort", "dicom_series", file):
                    known = file.endswith(".dcm")
                case ("model", file):
                    known = file in _OF_MODEL or file.endswith(".keras")
                case ("run", file):
                    known = run.is_shared(file) or file in ("events.jsonl", ".lock")
                case ("run", part, *_, file):
                    known = part in parts and (run.is_shared(file) or file.split(".")[0] in _TESTED)
                case _:
                    known = False
            if not (is_demo and (known or is_remainder(path))):
                yield path
