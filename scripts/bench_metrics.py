"""Time all metrics of a large pair of masks on one core, and with --medpy the metrics of medpy.

python scripts/bench_metrics.py [--medpy] [SHAPE, such as 512x512x300]

The pair has five labels: a body of two thirds of the field and four organs,
each a little larger and shifted in the prediction.
"""

import argparse
import os
import time
from pathlib import Path

# Use one core; set before NumPy reads these variables.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from voxtile.scoring.score import Measures, score
from voxtile.volume import Volume

SPACING_MM = (0.8, 0.8, 2.0)
# Centre and half axes of each ellipsoid, as fractions of the field; later ones overwrite.
BODIES = (
    ((0.50, 0.50, 0.50), (0.39, 0.29, 0.46)),
    ((0.39, 0.49, 0.50), (0.18, 0.16, 0.23)),
    ((0.68, 0.49, 0.50), (0.12, 0.12, 0.20)),
    ((0.50, 0.29, 0.40), (0.08, 0.08, 0.27)),
    ((0.50, 0.64, 0.67), (0.04, 0.04, 0.20)),
)


def draw(shape: tuple[int, ...], shift: float, factor: float) -> Volume:
    """Return the label map, shifted by `shift` voxels, with axes stretched by `factor`."""
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    array = np.zeros(shape, np.uint8, order="F")
    for value, (middle, half) in enumerate(BODIES, start=1):
        away = sum(
            ((axis - size * at - shift) / (size * reach * factor)) ** 2
            for axis, size, at, reach in zip(grid, shape, middle, half, strict=True)
        )
        array[away < 1] = value
    return Volume(array, np.diag([*SPACING_MM, 1]))


def memory_mb(name: str) -> float:
    """Return one value of the memory of this process, in MB (Linux, proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", nargs="?", default="512x512x300")
    parser.add_argument("--medpy", action="store_true")
    words = parser.parse_args()
    shape = tuple(int(size) for size in words.shape.split("x"))
    reference, prediction = draw(shape, 0, 1), draw(shape, 2, 1.02)
    pair_mb = (reference.array.nbytes + prediction.array.nbytes) / 1e6

    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = memory_mb("VmRSS")
    wall, core = time.perf_counter(), time.process_time()
    scores = score(prediction, reference, measures=Measures(lesions=True))
    wall, core = time.perf_counter() - wall, time.process_time() - core
    used = memory_mb("VmHWM") - before + pair_mb
    print(f"voxtile, {len(scores)} labels: {core:.2f} s of one core ({wall:.2f} s wall time)")
    print(f"memory with the pair: {used:.0f} MB, {used / pair_mb:.1f} x the pair")
    if not words.medpy:
        return
    from medpy.metric import binary

    core = time.process_time()
    for part in scores:
        masks = [volume.array == part.label for volume in (prediction, reference)]
        hd, hd95, assd = (
            measure(*masks, voxelspacing=SPACING_MM)
            for measure in (binary.hd, binary.hd95, binary.assd)
        )
        print(
            f"{part.label_name}: HD {part.surface.hd_mm:.4f} (medpy {hd:.4f}), HD95 "
            f"{part.surface.hd95_mm:.4f} ({hd95:.4f}), ASSD {part.surface.assd_mm:.4f} ({assd:.4f})"
        )
    print(f"medpy, HD, HD95 and ASSD alone: {time.process_time() - core:.2f} s of one core")


if __name__ == "__main__":
    main()
