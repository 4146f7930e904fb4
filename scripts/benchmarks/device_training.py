"""Training steps of voxtile on a device: with its own tiles, with fixed tiles, with the CPU's."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from workload import Workload

CONTEXT = 5
CASES, SHAPE = 4, (40, 256, 256)


def batches_of(folder: Path, classes: int, batch: int, size: int) -> Any:
    """Return the processor's batches of synthetic cases."""
    from voxtile.scoring.overlap import plain_labels
    from voxtile.training.data.plane_stacks import PlaneStack
    from voxtile.training.fitting.dataset import Sampling, TileBatches

    values = range(1, classes)
    shape = SHAPE[0], max(SHAPE[1], size), max(SHAPE[2], size)
    cases = []
    for number in range(CASES):
        rng = np.random.default_rng(number)
        label = np.zeros(shape, np.uint8)
        for value in values:
            label[5:-5, 20 * value : 20 * value + 15, 40:-40] = value
        image = label[..., np.newaxis] + rng.normal(0, 1, (*shape, 1))
        paths = folder / f"{number}_image.npy", folder / f"{number}_label.npy"
        np.save(paths[0], image.astype(np.float32))
        np.save(paths[1], label)
        where = tuple((value, tuple(range(5, shape[0] - 5))) for value in values)
        cases.append([PlaneStack("axial", *paths, shape, (0.8, 0.8), where)])
    labels = plain_labels({value: f"label {value}" for value in values})
    sampling = Sampling((size, size), CONTEXT, labels, softmax=True, batch=batch)
    return TileBatches(cases, sampling)


def training_ways(
    workload: Workload, batch: int, size: int, precision: str
) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Yield how tiles are prepared, a function that takes some steps, and their number."""
    from voxtile.models.unet import build_unet
    from voxtile.training.fitting.dataset import ahead
    from voxtile.training.fitting.device_batches import FixedBatches, on_device
    from voxtile.training.fitting.device_learner import DeviceLearner
    from voxtile.training.fitting.learner import Learner, fitting_device
    from voxtile.training.recipe.recipe import Recipe

    network = build_unet(
        (None, None, CONTEXT),
        workload.classes,
        filters=workload.filters,
        depth=workload.depth,
        normalisation="batch",
    )
    device = fitting_device("auto")
    options: dict[str, Any] = {
        "softmax": True,
        "precision": "float32" if precision == "float32" else f"mixed_{precision}",
        "device": device,
    }
    recipe = Recipe(learning_rate=1e-3, optimizer="muon")
    with tempfile.TemporaryDirectory(prefix="voxtile-tiles-") as folder:
        batches = batches_of(Path(folder), workload.classes, batch, size)
        own = on_device(batches, device)
        if own is None:
            raise RuntimeError("the planes do not fit into the memory of the device")
        tiles, targets = batches[0]
        fixed = FixedBatches(device.send(tiles), device.send(targets))
        learner: Learner
        for words, source in (("tiles cut on the device", own), ("tiles that are ready", fixed)):
            learner = DeviceLearner(source, network, recipe, **options)
            yield words, *_calls(learner, ahead(source.__getitem__, 0))
        learner = Learner(network, recipe, **options)
        yield "tiles cut by the CPU", *_calls(learner, ahead(batches.__getitem__, 0))


def _calls(learner: Any, stream: Iterator[Any]) -> tuple[Callable[[], object], int]:
    """Return a function that takes some steps, and their number."""
    count = max(learner.at_once, 2)

    def work() -> object:
        several = [next(stream) for _ in range(count)]
        if learner.at_once > 1:
            return learner.steps(several, [1e-3] * count)
        return [learner.steps([one], [1e-3]) for one in several]

    return work, count
