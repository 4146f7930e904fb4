"""How many operations per second a GPU does in convolutions: measured once for each kind of GPU.

<cache>/arithmetic/<kind of GPU and backend of Keras>.json
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from math import log

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import cache_folder
from voxtile.machine.files import write_json
from voxtile.machine.json_objects import read_object
from voxtile.models.backend import keras

from .device import Device, Tensor
from .measurements import processor_kind
from .short_numbers import best_times

_FORMAT = 1
_SHAPE = {"rate": float, "device": str}
# Tiles, pixels along each side, channels and layers: like the first level of a U-Net.
_WORK = (16, 128, 64, 3)
# Rates are powers of this number: a GPU that is busy while it is measured counts as an idle one.
_STEP = 4.0


def device_rate(device: str, measure: Callable[[str], float] | None = None) -> float | None:
    """Return the operations per second of a GPU, a power of 4; from the cache if it is known there.

    None if it cannot be measured.
    """
    key = f"{_FORMAT}\n{processor_kind(device)}"
    path = None
    with suppress(EnvironmentFault):
        path = cache_folder("arithmetic") / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if path is not None:
        with suppress(OSError, ValueError):
            known: float = read_object(path, _SHAPE, required=("rate",))["rate"]
            return known
    try:
        rate = _STEP ** round(log((measure or measured_rate)(device), _STEP))
    except Exception:  # each backend has errors of its own; a recipe needs no rate
        return None
    if path is not None:
        with suppress(EnvironmentFault):  # else it is measured again
            write_json(path, {"rate": rate, "device": processor_kind(device)})
    return rate


def measured_rate(name: str, work: tuple[int, int, int, int] = _WORK) -> float:
    """Return the operations per second of some convolutions in bfloat16; the best time counts."""
    tiles, side, channels, layers = work
    device, ops, rng = Device(name), keras.ops, np.random.default_rng(0)

    def convolve(answer: Tensor, kernels: Tensor) -> Tensor:
        answer, kernels = (ops.cast(one, "bfloat16") for one in (answer, kernels))
        for layer in range(layers):
            answer = ops.conv(answer, kernels[layer], padding="same", data_format="channels_last")
        return ops.cast(answer[:, :1, :1], "float32")

    run = device.compiled(convolve)
    shapes = (tiles, side, side, channels), (layers, 3, 3, channels, channels)
    sent = [device.send(rng.normal(0, 0.04, shape).astype(np.float32)) for shape in shapes]
    best = best_times({name: lambda: device.fetch(run(*sent))()})[name]
    return 2 * 9 * channels**2 * side**2 * tiles * layers / best
