"""Batches of tiles that a device cuts; without a GPU the device is the processor."""

from pathlib import Path
from typing import Any

import numpy as np

from voxtile.engines.device import Device
from voxtile.models.backend import keras
from voxtile.models.spec import View
from voxtile.scoring.overlap import plain_labels
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.training.fitting.dataset import Sampling, TileBatches
from voxtile.training.fitting.device_batches import DeviceBatches, on_device

PROCESSOR = Device("cpu")


def plain(tile: tuple[int, int] = (16, 12), **changes: Any) -> Sampling:
    """Sampling without augmentation."""
    choices: dict[str, Any] = {
        "tile": tile,
        "context_slices": 3,
        "labels": plain_labels({1: "one", 2: "two"}),
        "softmax": True,
        "batch": 5,
        "augmentation": Augmentation.none(),
    }
    return Sampling(**{**choices, **changes})


def stack(
    folder: Path,
    shape: tuple[int, int, int] = (5, 30, 40),
    *,
    view: View = "coronal",
    channels: int = 2,
    offset: float = 0.0,
    values: tuple[int, ...] = (1, 2),
) -> PlaneStack:
    """Planes of noise; each label value is on one plane."""
    name = f"{len(list(folder.iterdir()))}"
    rng = np.random.default_rng(shape)
    image = rng.normal(offset, 1, (*shape, channels)).astype(np.float32)
    label = rng.choice([0, *values], shape).astype(np.uint16)
    np.save(folder / f"{name}_i.npy", image)
    np.save(folder / f"{name}_l.npy", label)
    found = tuple((value, (shape[0] // 2,)) for value in values)
    paths = folder / f"{name}_i.npy", folder / f"{name}_l.npy"
    return PlaneStack(view, *paths, shape, (1.0, 0.7), found)


def held(batches: TileBatches) -> DeviceBatches:
    """The batches of the processor as a device."""
    found = on_device(batches, PROCESSOR)
    assert found is not None
    return found


def cut(found: DeviceBatches, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One batch of a device."""
    whole, real, group = found[number]
    sent = PROCESSOR.send(whole), PROCESSOR.send(real)
    tiles, wanted = PROCESSOR.compiled(found.cut)(found.stored(group), *sent)
    return np.asarray(keras.ops.convert_to_numpy(tiles)), np.asarray(
        keras.ops.convert_to_numpy(wanted)
    )
