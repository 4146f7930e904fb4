"""Measure the time to read a 120-slice 512 x 512 series, against pydicom and highdicom.

    python scripts/bench_ingest.py

The target for a compressed series (JPEG 2000) is at most 1.3 times the time that
pydicom needs for decoding; for a raw series, at most 1.3 times the time that
highdicom needs for reading. The start of the reader's process is not counted.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import highdicom
import numpy as np
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from voxtile.reading.dicom import read_series

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from dicoms import make_slice, save

SLICES, SIZE = 120, 512
TARGET = 1.3
# Attributes that highdicom needs in addition to the geometry.
_EMPTY = (
    "PatientID PatientName PatientBirthDate PatientSex StudyID StudyDate StudyTime "
    "AccessionNumber SeriesNumber ReferringPhysicianName PositionReferenceIndicator"
)


def write(folder: Path, compressed: bool) -> None:
    """Write a series with a blurred ball in noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((SIZE, SIZE)) - SIZE / 2
    for index in range(SLICES):
        ball = 1000 * np.exp(-(rows**2 + columns**2) / (2 * (100 + index) ** 2))
        pixels = (ball + 200 + rng.normal(0, 15, ball.shape)).astype(np.int16)
        dataset = make_slice(index, pixels, **dict.fromkeys(_EMPTY.split()))
        for keyword in _EMPTY.split():
            setattr(dataset, keyword, None)
        if compressed:
            dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
        save(dataset, folder / f"{index:03d}")


def best_s(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of a few calls, in seconds."""
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return min(times)


def main() -> int:
    """Print the times; return 1 if a target is missed."""
    warnings.simplefilter("ignore")
    missed = False
    for compressed in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, compressed)
            files = sorted(folder.iterdir())

            def peer(files: list[Path] = files, compressed: bool = compressed) -> object:
                """Read as pydicom or highdicom does."""
                if compressed:
                    return [dcmread(path).pixel_array for path in files]
                return highdicom.get_volume_from_series(
                    [dcmread(path) for path in files], apply_presentation_lut=False
                )

            read_series(files[0])  # starts the reader's process
            own_s = best_s(lambda folder=folder: read_series(folder))  # type: ignore[misc]
            peer_s = best_s(peer)
            ratio = own_s / peer_s
            missed |= ratio > TARGET
            kind, peer_name = ("JPEG 2000", "pydicom") if compressed else ("raw", "highdicom")
            print(f"{kind}: {own_s:.2f} s, {peer_name} {peer_s:.2f} s, ratio {ratio:.2f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
