"""Call voxtile. The benchmarks call it only in this module."""

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
    """The settings with which voxtile runs a network.

    Parameters
    ----------
    engine, precision : str
        As in the options of ``voxtile run``.
    tile : int or None
        Pixels along either axis, with half overlap; if None, the planner chooses.
    """

    engine: str = "auto"
    precision: str = "float32"
    tile: int | None = 256


@dataclass(frozen=True)
class Network:
    """A network that is loaded.

    Parameters
    ----------
    model : callable
        From tiles (n, rows, columns, 1) to probabilities.
    tile : (rows, columns)
    batch : int
        Tiles that the network takes at once.
    engine : str
        The engine that was chosen.
    """

    model: Callable[[np.ndarray], np.ndarray]
    tile: tuple[int, int]
    batch: int
    engine: str


def segmenter(folder: Path, way: Way) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from a scan, int16 of shape (i, j, k), to a label map."""
    from voxtile.inference.segmenter import load_segmenter
    from voxtile.volume import Volume

    bundle, plans, engine = _chosen(folder, way)
    loaded = load_segmenter(bundle, plans, engine)

    def segment(array: np.ndarray) -> np.ndarray:
        """Return the labels of a scan."""
        return loaded(Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]), (1, 1))).array

    return segment


def network(folder: Path, way: Way, plane: int = 512) -> Network:
    """Return the network, with the tile size and batch for a plane of this many pixels per side."""
    from voxtile.engines import load_models

    bundle, (plan,), engine = _chosen(folder, way)
    tiling = plan.for_plane((plane, plane))
    (model,) = load_models(bundle, engine)
    return Network(model, tiling.tile, tiling.batch, str(engine))


def case_command(folder: Path, manifest: Path, out: Path, way: Way) -> list[str]:
    """Return the command line that segments and scores the cases of a manifest."""
    options = ["--engine", way.engine, "--precision", way.precision, "--no-html"]
    if way.tile is not None:
        options += ["--tile", f"{way.tile}x{way.tile}", "--overlap", "0.5"]
    program = str(Path(sys.executable).with_name("voxtile"))
    return [program, "run", str(manifest), str(folder), "--out", str(out), *options]


def verify_command(folder: Path, manifest: Path, cases: int, planes: int) -> list[str]:
    """Return the command line that measures engines and precisions on cases of a manifest."""
    program = str(Path(sys.executable).with_name("voxtile"))
    options = ["--cases", str(cases), "--planes", str(planes)]
    return [program, "models", "verify", str(folder), str(manifest), *options]


def write_manifest(path: Path, cases: dict[str, tuple[Path, Path | None]]) -> None:
    """Write a manifest of scans and their references."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "image", "label"])
        table.writerows([name, image, label or ""] for name, (image, label) in cases.items())


def case_record(out: Path, case_id: str) -> dict[str, Any]:
    """Return the record of a case, which includes `timings_s`; refuse a case that failed."""
    record: dict[str, Any] = json.loads((out / "cases" / f"{case_id}.json").read_text())
    if record["status"] != "done":
        raise RuntimeError(f"voxtile failed: {record['reason']}")
    return record


def _chosen(folder: Path, way: Way) -> tuple[Any, Any, Any]:
    """Return a bundle, its plans and the engine."""
    from voxtile.engines import Wish, choose_engine
    from voxtile.inference.segmenter import make_plans
    from voxtile.models.bundle import load_bundle
    from voxtile.preparation.plan import PlanWish

    bundle = load_bundle(folder)
    tile = None if way.tile is None else (way.tile, way.tile)
    wish = PlanWish(tile=tile, overlap=None if tile is None else 0.5)
    engine = choose_engine(bundle, Wish(way.engine, way.precision))
    return bundle, make_plans(bundle, wish), engine
