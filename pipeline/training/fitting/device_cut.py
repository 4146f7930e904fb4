"""Cut and vary training tiles on a device, from planes in its memory and a few numbers.

`cut` does what `voxtile.training.fitting.augmentation` does, which is the reference. It is
written with `keras.ops`, so that every backend can compile it together with a training step.
Each stage is one gather and a few sums: a compiler's time grows with the number of operations.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from voxtile.engines.device import Tensor
from voxtile.models.backend import keras
from voxtile.volume import Shape2D

from .dataset import Sampling

Tensors = Mapping[str, Tensor]

# The last step of MurmurHash3 (Appleby 2011, "fmix32"), and 2**32 divided by the golden ratio, as
# 32-bit integers with sign.
_MIX = ((16, -2048144789), (13, -1028477387), (16, 1))
_GOLDEN = -1640531527


def cut(how: Sampling, stored: Tensors, numbers: Tensors) -> tuple[Tensor, Tensor]:
    """Return tiles (n, rows, columns, channels) and targets (n, rows, columns, classes), float32.

    `stored` is from `DeviceBatches.stored`, and `numbers` are from `DeviceBatches.named`.
    """
    ops = keras.ops
    where = _coordinates(how.tile, stored, numbers)
    codes = ops.take(stored["codes"], _nearest(numbers, where), axis=0)
    wanted = ops.take(stored["targets"], ops.cast(codes, "int32"), axis=0)
    tiles = _linear(stored["images"], numbers, where)  # (n, context, rows, columns, channels)
    if how.augmentation.intensity_rate:
        tiles = ops.transpose(tiles, (0, 4, 1, 2, 3))
        tiles = ops.transpose(_varied(tiles, numbers), (0, 3, 4, 1, 2))
    else:
        tiles = ops.transpose(tiles, (0, 2, 3, 4, 1))
    if how.channel_dropout:
        tiles = ops.where(numbers["shown"][:, None, None, :, None] > 0, tiles, 0.0)
    # For each channel its planes, as in planes.with_context.
    tiles = ops.reshape(tiles, (*tiles.shape[:3], -1))
    if how.position:
        where = (
            numbers["position.rows"][:, :, None],
            numbers["position.columns"][:, None],
            numbers["position.plane"][:, :, None],
        )
        channels = [ops.broadcast_to(part, tiles.shape[:3])[..., None] for part in where]
        tiles = ops.concatenate([tiles, *channels], axis=-1)
    return tiles, wanted


def _coordinates(tile: Shape2D, stored: Tensors, numbers: Tensors) -> Tensor:
    """Return row and column of each pixel on its plane, float32, (n, 2, rows, columns)."""
    ops = keras.ops
    middle = [np.arange(size) - (size - 1) / 2 for size in tile]
    offsets = np.stack(np.meshgrid(*middle, indexing="ij")).astype(np.float32)
    # Sums of products are exact in float32 on every device; matrix units round to fewer bits.
    moved = ops.sum(
        numbers["turn"][..., None, None] * ops.convert_to_tensor(offsets[None, None]), axis=2
    )
    # (n, 2, points, columns), then (n, 2, rows, columns)
    shift = ops.sum(numbers["control"][:, :, :, None] * stored["columns.spline"], axis=4)
    shift = ops.sum(shift[:, :, None] * stored["rows.spline"][:, :, None], axis=3)
    where = moved + shift + numbers["centre"][:, :, None, None]
    return ops.minimum(ops.maximum(where, 0.0), numbers["last"][:, :, None, None])


def _nearest(numbers: Tensors, where: Tensor) -> Tensor:
    """Return the index of the pixel that is nearest to each coordinate, as `read_nearest`."""
    nearest = keras.ops.cast(keras.ops.round(where), "int32")
    middle = numbers["planes"][:, numbers["planes"].shape[1] // 2, None, None]
    return middle + nearest[:, 0] * numbers["width"][:, None, None] + nearest[:, 1]


def _linear(images: Tensor, numbers: Tensors, where: Tensor) -> Tensor:
    """Return the images of all context planes, interpolated as `read_linear` does.

    The result is float32, (n, context, rows, columns, channels).
    """
    ops = keras.ops
    first = ops.minimum(ops.cast(where, "int32"), numbers["first"][:, :, None, None])
    part = where - ops.cast(first, "float32")
    both = ops.stack([1 - part, part], axis=-1)  # (n, 2, rows, columns, 2)
    start = first[:, 0] * numbers["width"][:, None, None] + first[:, 1]
    index = start[..., None] + numbers["corners"][:, None, None]  # (n, rows, columns, 4)
    weight = ops.reshape(both[:, 0, ..., :, None] * both[:, 1, ..., None, :], index.shape)
    index = numbers["planes"][:, :, None, None, None] + index[:, None]
    read = ops.cast(ops.take(images, index, axis=0), "float32")
    return ops.sum(read * weight[:, None, ..., None], axis=4)


def _varied(tiles: Tensor, numbers: Tensors) -> Tensor:
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
    return _coarse(tiles, numbers)


def _blurred(tiles: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return tiles smoothed along an axis by weights (n, channels, taps)."""
    ops = keras.ops
    taps, shape = weights.shape[2], tiles.shape
    near = np.arange(shape[axis])[:, None] + np.arange(taps) - taps // 2
    near = np.clip(near, 0, shape[axis] - 1).astype(np.int32).ravel()
    moved = ops.take(tiles, ops.convert_to_tensor(near), axis=axis)
    moved = ops.reshape(moved, (*shape[: axis + 1], taps, *shape[axis + 1 :]))
    ones = [1] * (len(shape) - 1)
    ones[axis - 1] = taps
    return ops.sum(moved * ops.reshape(weights, (*shape[:2], *ones)), axis=axis + 1)


def _coarse(tiles: Tensor, numbers: Tensors) -> Tensor:
    """Return tiles in a lower resolution: each pixel is interpolated from four that remain."""
    ops = keras.ops
    shape = tiles.shape
    begins = np.arange(np.prod(shape[:3]), dtype=np.int32) * (shape[3] * shape[4])
    rows = numbers["rows.kept"][:, :, None, :, None, :, None] * shape[4]
    columns = numbers["columns.kept"][:, :, None, None, :, None, :]
    index = ops.convert_to_tensor(begins.reshape(*shape[:3], 1, 1, 1, 1)) + rows + columns
    weight = (
        numbers["rows.part"][:, :, None, :, None, :, None]
        * numbers["columns.part"][:, :, None, None, :, None, :]
    )
    return ops.sum(ops.take(ops.reshape(tiles, (-1,)), index, axis=0) * weight, axis=(5, 6))


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
