"""One contestant: it loads, reports that, and then does its work once for each input line.

    python contestant.py KIND OPTIONS      started by contest.py

The output of a float32 network is compared with that of Keras before anything is timed.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from contest import MARK
from workload import TOLERANCE, Workload, prepare, scan

Work = Callable[[], Any]


def voxtile(folder: str, slices: int, **way: Any) -> tuple[Work, dict[str, Any]]:
    """Segment a scan: prepare, tile, infer, blend, decide."""
    from ours import Way, network, segmenter

    alone = network(Path(folder), Way(**way))
    difference = _agree(Path(folder), alone.model, strict=alone.engine.split()[1] == "float32")
    segment = segmenter(Path(folder), Way(**way))
    array = scan(slices)
    return lambda: segment(array), {
        "difference": difference,
        "engine": alone.engine,
        "tile": alone.tile,
        "batch": alone.batch,
    }


def voxtile_network(folder: str, tiles: int, **way: Any) -> tuple[Work, dict[str, Any]]:
    """Call only the network, on `tiles` tiles that are in memory."""
    from ours import Way, network

    alone = network(Path(folder), Way(**way))
    shape = (alone.batch, *alone.tile, 1)
    ready = np.random.default_rng(0).random(shape, np.float32)
    calls = -(-tiles // alone.batch)

    def work() -> None:
        """Run every batch."""
        for _ in range(calls):
            np.asarray(alone.model(ready))

    return work, {
        "engine": alone.engine,
        "tile": alone.tile,
        "batch": alone.batch,
        "tiles": calls * alone.batch,
    }


def monai(
    folder: str, slices: int, tuned: bool = False, precision: str = "float32"
) -> tuple[Work, dict[str, Any]]:
    """Run MONAI's SliceInferer on a scan that is already prepared."""
    from monai_peer import as_it_comes, tune

    prepared = prepare(scan(slices))
    if tuned:
        infer, facts = tune(Path(folder), _workload(folder), prepared, precision)
    else:
        infer, facts = as_it_comes(Path(folder), _workload(folder), prepared)
    return infer, facts


def matmul(precision: str, size: int) -> tuple[Work, dict[str, Any]]:
    """Multiply two square matrices with PyTorch."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, precision)
    left, right = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    repeats = 1 if device == "cpu" else 50

    def work() -> None:
        """Multiply and wait."""
        for _ in range(repeats):
            product = left @ right
        product[0, 0].item()

    return work, {"flops": repeats * 2 * size**3, "device": device}


def train_torch(folder: str, batch: int, size: int, precision: str) -> tuple[Work, dict[str, Any]]:
    """Train in PyTorch: forward, cross entropy, backward, Adam."""
    from training_peer import torch_step

    return torch_step(Path(folder), _workload(folder), batch, size, precision)


def train_keras(folder: str, batch: int, size: int, precision: str) -> tuple[Work, dict[str, Any]]:
    """Train in Keras, on the backend that KERAS_BACKEND names."""
    from training_peer import keras_step

    return keras_step(_workload(folder), batch, size, precision)


def write_ours(path: str, slices: int) -> tuple[Work, dict[str, Any]]:
    """Write a .nii.gz with voxtile, synced to disk."""
    from voxtile.volume import Volume
    from voxtile.writing.nifti import write_volume

    volume = Volume(scan(slices), np.eye(4), (1, 1))
    return lambda: write_volume(Path(path), volume), {}


def write_nibabel(path: str, slices: int) -> tuple[Work, dict[str, Any]]:
    """Write a .nii.gz with nibabel."""
    import nibabel

    image = nibabel.Nifti1Image(scan(slices), np.eye(4))
    return lambda: nibabel.save(image, path), {}


def read_ours(path: str) -> tuple[Work, dict[str, Any]]:
    """Read a .nii.gz with voxtile, to the end of its stream, checksum included."""
    from voxtile.reading.nifti import read_nifti

    return lambda: read_nifti(Path(path)).volume.array, {}


def read_nibabel(path: str, indexed: bool = False) -> tuple[Work, dict[str, Any]]:
    """Read a .nii.gz with nibabel in the fastest way: stored type, no float64."""
    import nibabel

    # nibabel uses indexed_gzip if that is installed; by default it is not.
    nibabel.openers.HAVE_INDEXED_GZIP = indexed
    return lambda: np.asanyarray(nibabel.load(path).dataobj), {}


KINDS: dict[str, Callable[..., tuple[Work, dict[str, Any]]]] = {
    function.__name__: function
    for function in (
        voxtile,
        voxtile_network,
        monai,
        matmul,
        train_torch,
        train_keras,
        write_ours,
        write_nibabel,
        read_ours,
        read_nibabel,
    )
}


def _workload(folder: str) -> Workload:
    """Return the workload of a folder."""
    return Workload(**json.loads(Path(folder, "workload.json").read_text()))


def _agree(folder: Path, model: Callable[[np.ndarray], np.ndarray], *, strict: bool) -> float:
    """Return the largest difference from Keras on the probe; with `strict` refuse a large one."""
    probe = np.load(folder / "probe.npz")
    difference = float(np.abs(np.asarray(model(probe["tile"])) - probe["expected"]).max())
    if strict and difference > TOLERANCE:
        raise ValueError(f"the network differs from Keras by {difference:.2g}")
    return difference


def main() -> None:
    """Load the contestant, then answer each line."""
    work, facts = KINDS[sys.argv[1]](**json.loads(sys.argv[2]))
    result = None
    print(MARK + json.dumps(facts), flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "keep":
            np.save(rest, np.asarray(result))
            print(MARK + "{}", flush=True)
            continue
        begin = time.perf_counter()
        result = work()
        print(MARK + json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
