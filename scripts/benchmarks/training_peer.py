"""One training step of the same network: the step of voxtile, and a simple step in PyTorch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from workload import Workload


def _batch(workload: Workload, batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tiles (n, rows, columns, 1) and labels (n, rows, columns)."""
    rng = np.random.default_rng(0)
    tiles = rng.random((batch, size, size, 1), np.float32)
    return tiles, rng.integers(0, workload.classes, (batch, size, size)).astype(np.int32)


def keras_step(
    workload: Workload, batch: int, size: int, precision: Literal["float32", "bfloat16"]
) -> tuple[Callable[[], float], dict[str, Any]]:
    """Return one step of `voxtile.training`, which also clips gradients and averages weights."""
    from voxtile.models.backend import keras
    from voxtile.models.unet import build_unet
    from voxtile.training.fitting.learner import Learner
    from voxtile.training.recipe.recipe import Recipe

    network = build_unet(
        (None, None, 1),
        workload.classes,
        filters=workload.filters,
        depth=workload.depth,
        normalisation="batch",
    )
    learner = Learner(
        network,
        Recipe(learning_rate=1e-3, optimizer="adamw"),  # the optimiser of the peer
        softmax=True,
        precision="float32" if precision == "float32" else "mixed_bfloat16",
    )
    tiles, labels = _batch(workload, batch, size)
    targets = np.eye(workload.classes, dtype=np.float32)[labels]
    return lambda: learner.step(tiles, targets, 1e-3), {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
    }


def torch_step(
    folder: Path, workload: Workload, batch: int, size: int, precision: str
) -> tuple[Callable[[], float], dict[str, Any]]:
    """Return one step of PyTorch, with channels last or first, whichever is faster and works."""
    trials: dict[str, tuple[float, Callable[[], float]]] = {}
    failed = {}
    for layout in ("channels last", "channels first"):
        try:
            step = _torch_step(folder, workload, batch, size, precision, layout)
            step()
            begin = time.perf_counter()
            step()
            trials[layout] = time.perf_counter() - begin, step
        except RuntimeError as error:  # a kernel without that layout
            failed[layout] = str(error)[:200]
    best = min(trials, key=lambda layout: trials[layout][0])
    return trials[best][1], {"chosen": best, "failed": failed}


def _torch_step(
    folder: Path, workload: Workload, batch: int, size: int, precision: str, layout: str
) -> Callable[[], float]:
    """Return one step: forward, cross entropy, backward and Adam."""
    import torch
    from unet_torch import load_unet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    last = layout == "channels last"
    memory_format = torch.channels_last if last else torch.contiguous_format
    network = load_unet(folder, workload.filters, workload.depth, workload.classes, softmax=False)
    network = network.train().to(device, memory_format=memory_format)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    tiles, labels = _batch(workload, batch, size)
    x = torch.from_numpy(tiles.transpose(0, 3, 1, 2).copy()).to(device)
    x = x.contiguous(memory_format=memory_format)
    y = torch.from_numpy(labels.astype(np.int64)).to(device)

    def work() -> float:
        """Take one step."""
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(network(x).float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return work
