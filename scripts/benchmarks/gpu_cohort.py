"""Measure `voxtile run` on one GPU against reading and writing the same files alone."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from workload import anatomy, scan, write_scan

# Scans that are really different; the others are links to them, read and hashed like any file.
_DIFFERENT = 4


def cohort(
    folder: Path, model: Path, cases: int, shape: tuple[int, int], workers: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the time of a case: read and written alone, then by `voxtile run` on the device.

    Parameters
    ----------
    folder : Path
        Where scans and results are written.
    model : Path
    cases : int
    shape : (rows, slices)
    workers : sequence of int
        Processes at once; each is measured.
    """
    manifest = folder / "cases.csv"
    if not manifest.exists():
        _write_cases(folder, cases, shape)
    what = f"a case of {shape[0]}x{shape[0]}x{shape[1]}, {cases} cases"
    for count in workers:
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            work = partial(_read_and_write, folder / "copies")
            list(pool.map(work, range(count)))  # starts and imports
            begin = time.perf_counter()
            list(pool.map(work, range(cases)))
            alone = (time.perf_counter() - begin) / cases
        said = "1 process" if count == 1 else f"{count} processes"
        yield {"what": f"{what}, {said}", "who": "reading and writing alone", "ms": 1e3 * alone}
        out = folder / f"out{count}"
        taken, stages = _run(manifest, model, out, count)
        yield {
            "what": f"{what}, {said}",
            "who": "voxtile run",
            "ms": 1e3 * taken,
            "x": taken / alone,
        }
        print(json.dumps(stages), file=sys.stderr)


def _write_cases(folder: Path, cases: int, shape: tuple[int, int]) -> Path:
    """Write scans, their references and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(_DIFFERENT, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write_case, folder, shape), range(min(_DIFFERENT, cases))))
    for number in range(_DIFFERENT, cases):
        for kind in ("scan", "label"):
            target = folder / f"{kind}{number}.nii.gz"
            target.unlink(missing_ok=True)
            target.hardlink_to(folder / f"{kind}{number % _DIFFERENT}.nii.gz")
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case_id", "image", "label"])
        for number in range(cases):
            rows.writerow([f"c{number}", f"scan{number}.nii.gz", f"label{number}.nii.gz"])
    return path


def _write_case(folder: Path, shape: tuple[int, int], number: int) -> None:
    """Write one scan and its reference."""
    rows, slices = shape
    write_scan(folder / f"scan{number}.nii.gz", scan(slices, rows, seed=number))
    write_scan(folder / f"label{number}.nii.gz", anatomy(slices, rows))


def _read_and_write(copies: Path, number: int) -> None:
    """Read a scan and its reference, and write a mask, as voxtile does."""
    from voxtile import read_volume
    from voxtile.writing.nifti import write_mask

    copies.mkdir(exist_ok=True)
    read_volume(copies.parent / f"scan{number}.nii.gz")
    label = read_volume(copies.parent / f"label{number}.nii.gz")
    write_mask(copies / f"{number}.nii.gz", label.with_array(label.array.astype(np.uint8)))


def _run(manifest: Path, model: Path, out: Path, workers: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a case after each worker has loaded; and those of each stage."""
    command = [sys.executable, "-m", "voxtile", "run", str(manifest), str(model)]
    command += ["--out", str(out), "--workers", str(workers), "--engine", "keras"]
    command += ["--precision", "bfloat16"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = sorted((out / "cases").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    ends = [path.stat().st_mtime_ns / 1e9 for path in records]
    # The first case of each worker waits for its start, and compiles.
    taken = (ends[-1] - ends[workers - 1]) / (len(ends) - workers)
    stages: dict[str, list[float]] = {}
    for record in records:
        for stage, seconds in json.loads(record.read_text())["timings_s"].items():
            stages.setdefault(stage, []).append(seconds)
    return taken, {stage: float(np.median(values)) for stage, values in stages.items()}
