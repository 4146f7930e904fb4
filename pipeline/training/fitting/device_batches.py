"""Batches of training tiles that a device cuts from planes in its memory.

    processor   seed, number of a batch -> `TileBatches.choices` -> a few numbers for each tile
    device      all planes, these numbers -> `cut` -> tiles, targets

Both draw from the same distributions, with the same code. `cut` does what
`voxtile.training.fitting.augmentation` does, which is the reference. It is written with
`keras.ops`, so that every backend can compile it together with a training step.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from voxtile.engines.device import Device, Tensor
from voxtile.models.backend import keras
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.volume import Shape2D

from .augmentation import Augmentation, Variation, control_points, remaining, spline_basis
from .dataset import Sampling, TileBatches, TileChoice, targets

# The numbers of a batch, by name: one row for each tile.
Numbers = Mapping[str, np.ndarray]
Tensors = Mapping[str, Tensor]

# Their types, which every backend has.
_KINDS = {
    "planes": "int32",
    "shape": "int32",
    "centre": "float32",
    "turn": "float32",
    "control": "float32",
    "flips": "bool",
    "shown": "bool",
    "blur": "float32",
    "tone": "float32",
    "seed": "int32",
    "remaining": "int32",
}
# Planes may take this fraction of the free memory of a device.
_SHARE = 0.5
# Indices on a device have 32 bits.
_MOST_PIXELS = 2**31 - 1
# Bits of a number in float16, and largest rounding error in it as a fraction of a case's standard
# deviation.
_HALF_BITS, _ROUNDING = 11, 0.01
# The Gaussian of `augmentation.blur` ends after this many standard deviations.
_TRUNCATE = 3
# The last step of MurmurHash3 (Appleby 2011, "fmix32"), and 2**32 divided by the golden ratio, as
# 32-bit integers with sign.
_MIX = ((16, -2048144789), (13, -1028477387), (16, 1))
_GOLDEN = -1640531527


class DeviceBatches:
    """Batches by number, cut from planes that are in the memory of a device.

    Use `voxtile.training.fitting.device_batches.on_device`, which checks the memory.
    """

    def __init__(self, batches: TileBatches, device: Device, kind: str) -> None:
        self._batches = batches
        self.sampling = how = batches.sampling
        stacks = _stacks(batches)
        sizes = [int(np.prod(stack.shape)) for stack in stacks]
        starts = np.cumsum([0, *sizes]).tolist()
        self._starts = {stack.image: start for stack, start in zip(stacks, starts, strict=False)}
        found = {value for label in how.labels for value in label.values}
        values = np.array(sorted(found if how.ignore is None else {*found, how.ignore}))
        images = np.empty((starts[-1], batches.channels), kind)
        codes = np.empty(starts[-1], np.uint8 if len(values) < 2**8 else np.int16)
        for stack, start, size in zip(stacks, starts, sizes, strict=False):
            image, label = stack.open()
            images[start : start + size] = image.reshape(size, -1)
            codes[start : start + size] = _codes(label, values).ravel()
        known = np.array([0, *values]).reshape(1, 1, -1)
        arrays = {
            "images": images,
            "codes": codes,
            "targets": targets(known, how.labels, softmax=how.softmax, ignore=how.ignore)[0, 0],
            **_tables(how),
        }
        self.stored = {name: device.send(array) for name, array in arrays.items()}

    def __getitem__(self, number: int) -> Numbers:
        """Return the numbers of one batch, for `cut`."""
        how, chosen = self.sampling, self._batches.choices(number, patterns=False)
        stacks = [one.stack for one in chosen]
        shapes = np.array([stack.shape for stack in stacks])
        starts = np.array([self._starts[stack.image] for stack in stacks])
        sizes = shapes[:, 1] * shapes[:, 2]
        near = np.array([one.plane for one in chosen])[:, None] + _steps(how, chosen)
        near = near.clip(0, shapes[:, :1] - 1)
        spacing = np.array([stack.spacing_mm for stack in stacks])
        control = np.zeros((len(chosen), *control_points(how.tile, how.augmentation), 2))
        for row, one in zip(control, chosen, strict=True):
            if one.warp.control_mm is not None:
                row[...] = one.warp.control_mm
        turns = np.array([one.warp.turn for one in chosen])
        numbers: dict[str, Any] = {
            "planes": starts[:, None] + sizes[:, None] * near,
            "shape": shapes[:, 1:],
            "centre": [one.centre for one in chosen],
            # The same matrix for offsets in pixels.
            "turn": turns * spacing[:, None, :] / spacing[:, :, None],
            "control": control / spacing[:, None, None, :],
            "flips": [(0 in one.flips, 1 in one.flips) for one in chosen],
            "shown": [
                [index not in one.dropped for index in range(self._batches.channels)]
                for one in chosen
            ],
            **_of_variations([one.variations for one in chosen], how),
        }
        return {name: np.asarray(numbers[name], kind) for name, kind in _KINDS.items()}

    def cut(self, stored: Tensors, numbers: Tensors) -> tuple[Tensor, Tensor]:
        """Return tiles and targets, as `TileBatches` does; a function of tensors alone."""
        return cut(self.sampling, stored, numbers)


def on_device(
    batches: TileBatches, device: Device, memory_mb: float | None = None
) -> DeviceBatches | None:
    """Return the batches of a device; None where their planes do not fit into its memory."""
    stacks = _stacks(batches)
    kind = "float16" if all(_is_half(stack) for stack in stacks) else "float32"
    pixels = sum(int(np.prod(stack.shape)) for stack in stacks)
    size = pixels * (np.dtype(kind).itemsize * batches.channels + 2)
    room = _SHARE * device.free_mb() if memory_mb is None else memory_mb
    if pixels > _MOST_PIXELS or size > room * 1e6:
        return None
    return DeviceBatches(batches, device, kind)


def cut(how: Sampling, stored: Tensors, numbers: Tensors) -> tuple[Tensor, Tensor]:
    """Return tiles (n, rows, columns, channels) and targets (n, rows, columns, classes), float32.

    `stored` and `numbers` are those of `DeviceBatches`.
    """
    ops = keras.ops
    where = _coordinates(how.tile, stored, numbers)
    codes = ops.take(stored["codes"], _nearest(numbers, where), axis=0)
    wanted = ops.take(stored["targets"], ops.cast(codes, "int32"), axis=0)
    tiles = _linear(stored["images"], numbers, where)  # (n, context, rows, columns, channels)
    if how.augmentation.intensity_rate:
        tiles = ops.transpose(tiles, (0, 4, 1, 2, 3))
        tiles = ops.transpose(_varied(tiles, stored, numbers), (0, 3, 4, 1, 2))
    else:
        tiles = ops.transpose(tiles, (0, 2, 3, 4, 1))
    if how.channel_dropout:
        tiles = ops.where(numbers["shown"][:, None, None, :, None], tiles, 0.0)
    # For each channel its planes, as in planes.with_context.
    return ops.reshape(tiles, (*tiles.shape[:3], -1)), wanted


def _stacks(batches: TileBatches) -> list[PlaneStack]:
    """Return all stacks of planes."""
    return [stack for views in batches.cases for stack in views]


def _is_half(stack: PlaneStack) -> bool:
    """Whether float16 is enough for the planes of a case."""
    image, _ = stack.open()
    largest = max(abs(float(image.max())), abs(float(image.min())))
    error = largest / 2**_HALF_BITS
    return largest < float(np.finfo(np.float16).max) and error <= _ROUNDING * float(image.std())


def _codes(label: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return 1 for the first of the values, 2 for the second, and so on; 0 for all others."""
    table = np.zeros(max(int(label.max()), int(values.max())) + 1, np.int32)
    table[values] = np.arange(1, len(values) + 1)
    return np.asarray(table[label])


def _tables(how: Sampling) -> dict[str, np.ndarray]:
    """Return the arrays that are the same for all tiles."""
    points = control_points(how.tile, how.augmentation)
    found = {}
    for name, size, count in zip(("rows", "columns"), how.tile, points, strict=True):
        found[f"{name}.spline"] = spline_basis(size, count).astype(np.float32)
        kept, part = _resizing(size)
        found[f"{name}.kept"], found[f"{name}.part"] = kept, part
    return found


def _resizing(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels `augmentation.low_resolution` interpolates, and the second's weight.

    Int32, (size + 1, 2, size), and float32, (size + 1, size): for each number of pixels that remain
    and each pixel of a tile.
    """
    kept = np.zeros((size + 1, 2, size), np.int32)
    part = np.zeros((size + 1, size), np.float32)
    for count in range(1, size + 1):
        coarse = np.rint(np.linspace(0, size - 1, count)).astype(np.int32)
        back = np.linspace(0, count - 1, size).astype(np.float32)
        first = np.minimum(back.astype(np.int32), max(count - 2, 0))
        kept[count] = coarse[first], coarse[np.minimum(first + 1, count - 1)]
        part[count] = back - first
    return kept, part


def _steps(how: Sampling, chosen: Sequence[TileChoice]) -> np.ndarray:
    """Return from which planes, relative to a tile's own, its channels are: (n, context)."""
    half = how.context_slices // 2
    signs = [[-1] if 2 in one.flips else [1] for one in chosen]
    return np.asarray(np.arange(-half, half + 1) * np.array(signs))


def _of_variations(chosen: Sequence[Sequence[Variation]], how: Sampling) -> dict[str, Any]:
    """Return the numbers of variations, (n, channels, ...)."""

    def each(number: Callable[[Variation], Any]) -> list[list[Any]]:
        return [[number(one) for one in channels] for channels in chosen]

    rows, columns = how.tile
    return {
        "blur": _gaussians(np.array(each(lambda one: one.blur_pixels)), how.augmentation),
        "tone": each(
            lambda one: (one.brightness, one.contrast, one.gamma, one.inverted, one.noise)
        ),
        "seed": each(lambda one: one.pattern),
        "remaining": each(lambda one: remaining((rows, columns), one.low_resolution)),
    }


def _gaussians(sigma: np.ndarray, how: Augmentation) -> np.ndarray:
    """Return the weights of `augmentation.blur` (n, channels, taps); 0 gives a single weight."""
    most = int(_TRUNCATE * how.blur_pixels[1] + 0.5)
    sigma = sigma[..., np.newaxis]
    offsets = np.arange(-most, most + 1)
    weights = np.exp(-0.5 * (offsets / np.maximum(sigma, 1e-3)) ** 2)
    weights[np.abs(offsets) > np.floor(_TRUNCATE * sigma + 0.5)] = 0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _coordinates(tile: Shape2D, stored: Tensors, numbers: Tensors) -> tuple[Tensor, Tensor]:
    """Return row and column of each pixel on its plane, float32, (n, rows, columns) each."""
    ops = keras.ops
    rows = ops.reshape(_offsets(tile[0]), (1, -1, 1))
    columns = ops.reshape(_offsets(tile[1]), (1, 1, -1))
    # Sums of products are exact in float32 on every device; matrix units round to fewer bits.
    across = ops.reshape(stored["columns.spline"], (1, 1, tile[1], -1, 1))
    shift = ops.sum(numbers["control"][:, :, None] * across, axis=3)  # (n, points, columns, 2)
    down = ops.reshape(stored["rows.spline"], (1, tile[0], -1, 1, 1))
    shift = ops.sum(shift[:, None] * down, axis=2)
    found = []
    for axis in (0, 1):
        turn, centre = numbers["turn"][:, axis], numbers["centre"][:, axis]
        moved = rows * turn[:, 0, None, None] + columns * turn[:, 1, None, None]
        where = moved + shift[..., axis] + centre[:, None, None]
        for along in (0, 1):
            flipped = numbers["flips"][:, along, None, None]
            where = ops.where(flipped, ops.flip(where, along + 1), where)
        last = ops.cast(numbers["shape"][:, axis, None, None] - 1, "float32")
        found.append(ops.clip(where, 0.0, last))
    return found[0], found[1]


def _offsets(size: int) -> Tensor:
    """Return the offsets of pixels from the middle of a tile."""
    return keras.ops.convert_to_tensor((np.arange(size) - (size - 1) / 2).astype(np.float32))


def _nearest(numbers: Tensors, where: tuple[Tensor, Tensor]) -> Tensor:
    """Return the index of the pixel that is nearest to each coordinate, as `read_nearest`."""
    ops = keras.ops
    row, column = (ops.cast(ops.round(part), "int32") for part in where)
    width = numbers["shape"][:, 1, None, None]
    middle = numbers["planes"][:, numbers["planes"].shape[1] // 2, None, None]
    return middle + row * width + column


def _linear(images: Tensor, numbers: Tensors, where: tuple[Tensor, Tensor]) -> Tensor:
    """Return the images of all context planes, interpolated as `read_linear` does.

    The result is float32, (n, context, rows, columns, channels).
    """
    ops = keras.ops
    first, part = [], []
    for axis in (0, 1):
        size = numbers["shape"][:, axis, None, None]
        first.append(ops.minimum(ops.cast(where[axis], "int32"), ops.maximum(size - 2, 0)))
        fraction = where[axis] - ops.cast(first[axis], "float32")
        part.append(fraction[:, None, :, :, None])
    height, width = (numbers["shape"][:, axis, None, None] for axis in (0, 1))
    start = numbers["planes"][:, :, None, None] + (first[0] * width + first[1])[:, None]
    below = ops.where(height > 1, width, 0)[:, None]
    right = ops.where(width > 1, 1, 0)[:, None]

    def read(index: Tensor) -> Tensor:
        return ops.cast(ops.take(images, index, axis=0), "float32")

    top = read(start) * (1 - part[1]) + read(start + right) * part[1]
    bottom = read(start + below) * (1 - part[1]) + read(start + below + right) * part[1]
    return top * (1 - part[0]) + bottom * part[0]


def _varied(tiles: Tensor, stored: Tensors, numbers: Tensors) -> Tensor:
    """Return tiles with varied intensities, as `vary_intensity` does.

    Tiles have the shape (n, channels, context, rows, columns).
    """
    ops = keras.ops
    inside = (2, 3, 4)
    deviation = ops.std(tiles, axis=inside, keepdims=True)
    brightness, factor, exponent, inverted, noise = (
        numbers["tone"][:, :, index, None, None, None] for index in range(5)
    )
    for axis in (3, 4):
        tiles = _blurred(tiles, numbers["blur"], axis)
    tiles = tiles + brightness * deviation
    low, high = (f(tiles, axis=inside, keepdims=True) for f in (ops.min, ops.max))
    mean = ops.mean(tiles, axis=inside, keepdims=True)
    stretched = ops.clip((tiles - mean) * factor + mean, low, high)
    tiles = ops.where(factor == 1, tiles, stretched)
    low, high = (f(tiles, axis=inside, keepdims=True) for f in (ops.min, ops.max))
    extent = ops.where(high > low, high - low, 1.0)
    unit = ops.where(inverted > 0, high - tiles, tiles - low) / extent
    bent = ops.power(unit, exponent) * extent
    bent = ops.where(inverted > 0, high - bent, low + bent)
    tiles = ops.where(ops.logical_and(exponent != 1, high > low), bent, tiles)
    tiles = tiles + noise * deviation * _normal(numbers["seed"], tiles.shape[2:])
    for axis, name in ((3, "rows"), (4, "columns")):
        tiles = _coarse(tiles, axis, stored, numbers["remaining"][:, :, axis - 3], name)
    return tiles


def _blurred(tiles: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return tiles smoothed along an axis by weights (n, channels, taps)."""
    ops = keras.ops
    taps, size = weights.shape[2], tiles.shape[axis]
    total = 0
    for tap in range(taps):
        near = np.clip(np.arange(size) + tap - taps // 2, 0, size - 1).astype(np.int32)
        moved = ops.take(tiles, ops.convert_to_tensor(near), axis=axis)
        total = total + moved * weights[:, :, tap, None, None, None]
    return total


def _coarse(tiles: Tensor, axis: int, stored: Tensors, count: Tensor, name: str) -> Tensor:
    """Return tiles of which `count` (n, channels) pixels remain along an axis."""
    ops = keras.ops
    shape = [*count.shape, 1, 1, 1]
    shape[axis] = tiles.shape[axis]
    kept = ops.take(stored[f"{name}.kept"], count, axis=0)  # (n, channels, 2, pixels)
    part = ops.reshape(ops.take(stored[f"{name}.part"], count, axis=0), shape)
    whole = (*count.shape, *tiles.shape[2:])
    first, second = (
        ops.take_along_axis(
            tiles, ops.broadcast_to(ops.reshape(kept[:, :, index], shape), whole), axis=axis
        )
        for index in (0, 1)
    )
    return first * (1 - part) + second * part


def _normal(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """Return normal noise for seeds (n, channels): the same with every backend.

    (Box and Muller 1958, "A note on the generation of random normal deviates".)
    """
    ops = keras.ops
    size = int(np.prod(shape))
    index = np.arange(2 * size, dtype=np.int64) * _GOLDEN & 0xFFFFFFFF
    index = ops.convert_to_tensor(index.astype(np.uint32).view(np.int32).reshape(2, size))
    mixed = _mixed(_mixed(seeds)[:, :, None, None] + index)
    bits = ops.cast(ops.bitwise_and(mixed, 2**23 - 1), "float32")
    uniform = (bits + 0.5) * 2.0**-23
    radius = ops.sqrt(-2 * ops.log(uniform[:, :, 0]))
    noise = radius * ops.cos(2 * np.pi * uniform[:, :, 1])
    return ops.reshape(noise, (*seeds.shape, *shape))


def _mixed(bits: Tensor) -> Tensor:
    """Return 32-bit integers of which every bit depends on every bit of `bits`."""
    ops = keras.ops
    for shift, factor in _MIX:
        moved = ops.bitwise_and(ops.right_shift(bits, shift), 2 ** (32 - shift) - 1)
        bits = ops.bitwise_xor(bits, moved) * factor
    return bits
