"""Where the benchmarks call voxtile, and nowhere else."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Way:
    """How voxtile is to run a network.

    Parameters
    ----------
    engine, precision : str
        As the options of ``voxtile run`` say.
    tile : int or None
        Pixels along either axis, at half overlap; None leaves it to the planner.
    """

    engine: str = "auto"
    precision: str = "float32"
    tile: int | None = 256


def segmenter(folder: Path, way: Way) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns a scan, int16 of shape (i, j, k), into a label map."""
    from voxtile.inference import infer
    from voxtile.volume import Volume

    bundle, plan, models = _load(folder, way)

    def segment(array: np.ndarray) -> np.ndarray:
        """Return the labels of a scan."""
        volume = Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]), (1, 1))
        return infer(volume, bundle.spec, models, plan).array

    return segment


def network(folder: Path, way: Way) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Return a network alone, and the tiles that it takes at once."""
    _, plan, models = _load(folder, way)
    return models[0], plan.batch


def case_command(folder: Path, manifest: Path, out: Path, way: Way) -> list[str]:
    """Return the command line that segments and scores the cases of a manifest."""
    tile = [] if way.tile is None else ["--tile", str(way.tile), "--overlap", "0.5"]
    program = str(Path(sys.executable).with_name("voxtile"))
    return [program, "run", str(manifest), str(folder), "--out", str(out), "--no-html", *tile]


def write_manifest(path: Path, cases: dict[str, tuple[Path, Path | None]]) -> None:
    """Write a manifest of scans and their references."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "image", "label"])
        table.writerows([name, image, label or ""] for name, (image, label) in cases.items())


def case_record(out: Path, case_id: str) -> dict[str, Any]:
    """Return what a run kept of a case, `timings_s` among it; refuse one that failed."""
    record: dict[str, Any] = json.loads((out / "cases" / f"{case_id}.json").read_text())
    if record["status"] != "done":
        raise RuntimeError(f"voxtile failed: {record['reason']}")
    return record


def _load(folder: Path, way: Way) -> tuple[Any, Any, Any]:
    """Return a bundle, the plan and the models."""
    from voxtile.engine import load_models
    from voxtile.models.bundle import load_bundle
    from voxtile.plan import make_plan

    if way.engine not in ("auto", "keras") or way.precision not in ("auto", "float32"):
        raise ValueError(f"this version runs Keras in float32 only, not {way}")
    bundle = load_bundle(folder)
    plan = make_plan(
        bundle.spec,
        tile=None if way.tile is None else (way.tile, way.tile),
        overlap=None if way.tile is None else 0.5,
    )
    return bundle, plan, load_models(bundle, plan)
