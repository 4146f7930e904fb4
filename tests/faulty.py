"""Models and runs that fail on purpose.

The brightest voxel of a scan says how its case fails, so that a model needs no
case ids.
"""

import csv
import hashlib
import json
import os
import re
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.drive import run_manifest
from voxtile.batch.settings import BatchSettings
from voxtile.errors import EnvironmentFault
from voxtile.phantoms.dicom import write_series
from voxtile.run_folder import lock
from voxtile.writing.nifti import write_mask, write_volume

VALID, DEADLY, DEADLY_ONCE, HANGING, GREEDY, SLOW = 100, 201, 202, 203, 204, 205


class Broken(AssertionError):
    """Something that must not happen; `kind` is "lost", "different", "traceback" or "other"."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


@dataclass(frozen=True)
class FaultyModel:
    """`threshold_model`, except for scans whose brightest voxel makes it fail.

    `folder` records that a deadly case was tried; `pause_s` is the time of
    each batch of tiles.
    """

    folder: Path
    pause_s: float = 0.0

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        brightest = tiles.max()
        time.sleep(self.pause_s)
        if brightest == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if brightest == DEADLY_ONCE and not (self.folder / "tried").exists():
            (self.folder / "tried").touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        if brightest == HANGING:
            time.sleep(3600)
        if brightest == GREEDY:
            hoard = []
            while True:
                hoard.append(np.ones(4_000_000))
                time.sleep(0.01)
        if brightest == SLOW:
            time.sleep(0.5)
        return threshold_model(tiles)


def make_cases(folder: Path, brightness: dict[str, int]) -> Path:
    """Write a small scan with its label for each case, and a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    image, truth = ball()
    rows = []
    for number, (case_id, brightest) in enumerate(brightness.items()):
        array = np.where(image.array > 0, np.int16(brightest), np.int16(number % 40))
        write_volume(folder / f"{case_id}.nii.gz", image.with_array(array))
        write_mask(folder / f"{case_id}_label.nii.gz", truth)
        rows.append((case_id, f"{case_id}.nii.gz", f"{case_id}_label.nii.gz"))
    path = folder / "cases.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("case_id", "image", "label"), *rows])
    return path


def valid_cases(folder: Path, count: int) -> Path:
    """Write cases that succeed."""
    return make_cases(folder, {f"c{number:03d}": VALID for number in range(count)})


def series_cases(folder: Path, count: int) -> Path:
    """Write cases that succeed, whose scans are DICOM series."""
    image, _ = ball()
    path = valid_cases(folder, count)
    for number in range(count):
        write_series(folder / f"series{number:03d}", image)
    path.write_text(re.sub(r"c(\d+)\.nii\.gz,", r"series\1,", path.read_text()))
    return path


def results(out: Path) -> dict[str, str]:
    """Every result of a run folder except times: masks, records and CSVs."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_dir():
            continue
        if path.suffix == ".gz":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.parent.name == "cases":
            report = json.loads(path.read_bytes())
            for key in ("timings_s", "seconds", "peak_memory_mb", "digest", "text_digest"):
                report.pop(key)
            found[path.name] = json.dumps(report, sort_keys=True)
        elif path.name == "summary.csv":
            found[path.name] = path.read_text()
        elif path.name == "report.csv":
            rows = list(csv.DictReader(path.read_text().splitlines()))
            found[path.name] = json.dumps([{**row, "seconds": ""} for row in rows])
    return found


def hashes_of(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def temporary_files(out: Path) -> list[str]:
    """Files that a run must not leave."""
    return [path.name for path in out.rglob(".*") if path.name.endswith((".tmp", ".json"))]


def events(out: Path, kind: str) -> list[dict]:
    """Events of one kind, of all runs in a folder."""
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def run_faulty(
    manifest: Path, out: Path, batch: BatchSettings | None = None, pause_s: float = 0.0, **options
):
    """Run a manifest with the model that may fail."""
    model = FaultyModel(manifest.parent, pause_s)
    return run_manifest(manifest, make_bundle(), out, models=[model], batch=batch, **options)


def descendants(pid: int) -> set[int]:
    """Processes that a process and its children have started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    new = [pid]
    while new:
        new = [child for parent in new for child in children.get(parent, ()) if child not in found]
        found.update(new)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class NoLock:
    """A lock of a file system that has none."""

    def __init__(self, *_, **__) -> None:
        pass

    def acquire(self) -> None:
        """Do nothing."""

    release = acquire


def main() -> None:
    """Run the manifest of the command line, with voxtile's exit codes.

    The environment may take away the file system's locks (NO_LOCKS), or allow
    only so many processes and threads to its user (MOST_PROCESSES).
    """
    manifest, out, workers, pause_s = sys.argv[1:]
    if "NO_LOCKS" in os.environ:
        lock.FileLock = NoLock  # type: ignore[misc, assignment]
    if most := int(os.environ.get("MOST_PROCESSES", 0)):
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    batch = BatchSettings(workers=int(workers) or None)
    try:
        run_faulty(Path(manifest), Path(out), batch, float(pause_s))
    except KeyboardInterrupt as error:
        sys.stderr.write(str(error))
        sys.exit(130)
    except EnvironmentFault as error:
        sys.stderr.write(str(error))
        sys.exit(6)
