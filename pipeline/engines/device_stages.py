"""What is done to planes on a device, written once with `keras.ops` for every backend.

    planes as stored -> `prepare` -> tiles -> networks -> `assemble` -> probabilities
                                                                             |
                          label values, in storage order  <-  `decide`  <----+

Each function is compiled for fixed shapes. The networks are compiled separately:
their shapes depend only on the size of a tile, those of the rest on a scan's grid.
So a cohort with many grids compiles each network only a few times.
The arithmetic is that of `voxtile.preparation` and `voxtile.inference`, which
is the reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxtile.models.backend import keras
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.position import relative
from voxtile.preparation.resampling import Resampler
from voxtile.preparation.tiling import Padding, TileGrid
from voxtile.volume import Shape2D

from .device import Tensor

# Foreground at least this probable is counted in the entropy, as in voxtile.inference.entropy.
DOUBT = 0.1
_LEAST = 1e-30
# The integer for a probability of 1 in the sums of several views, as in
# voxtile.inference.view_sums, and the offset by which it fits into int16, which every backend has.
_ONE = 65000
_MIDDLE = 2**15
# Up to this many classes are compared one by one: XLA gives a whole warp to each pixel's maximum.
_FEW = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """How the axes of planes lie in memory.

    Parameters
    ----------
    order : tuple of int
        Axes of the planes in the order of memory, the slowest first.
    flips : tuple of int
        Axes of the planes that run backwards in memory; never the first,
        along which blocks are taken.
    """

    order: tuple[int, ...]
    flips: tuple[int, ...]

    @classmethod
    def of(cls, planes: np.ndarray) -> "Layout":
        """Return the layout of an array of shape (planes, rows, columns, ...)."""
        steps = planes.strides
        order = sorted(range(planes.ndim), key=lambda axis: -abs(steps[axis]))
        return cls(tuple(order), tuple(axis for axis in order if axis and steps[axis] < 0))

    @property
    def along(self) -> int:
        """The stored axis along which the planes lie."""
        return self.order.index(0)

    def stored(self, planes: np.ndarray) -> np.ndarray:
        """Return a view of planes in the order of memory."""
        flipped = np.flip(planes, self.flips) if self.flips else planes
        return flipped.transpose(self.order)

    def planes(self, stored: Tensor) -> Tensor:
        """Return planes on a device from a tensor in the order of memory."""
        ops = keras.ops
        turned = ops.transpose(stored, tuple(int(axis) for axis in np.argsort(self.order)))
        return ops.flip(turned, self.flips) if self.flips else turned

    def back(self, planes: Tensor) -> Tensor:
        """Return planes on a device in the order of memory."""
        ops = keras.ops
        flipped = ops.flip(planes, self.flips) if self.flips else planes
        return ops.transpose(flipped, self.order)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a block of planes becomes tiles, and how the answers become planes again.

    Parameters
    ----------
    layout : Layout
        Layout of the block, shape (planes + context_slices - 1, rows, columns, channels).
    planes : int
        Number of planes that are judged at once.
    context_slices : int
    shape : (rows, columns)
        Size of a plane as scanned.
    resampled : (rows, columns)
        Size of a plane at the spacing of the networks.
    grid : TileGrid
    tiles_at_once : int
        Number of tiles in one call of a network.
    """

    layout: Layout
    planes: int
    context_slices: int
    shape: Shape2D
    resampled: Shape2D
    grid: TileGrid
    tiles_at_once: int
    clips: bool = False  # whether resampled planes are clipped to the range of the plane
    zeros: bool = False  # whether planes smaller than a tile are padded with zeros
    activation: str = ""  # that logits still need after averaging; empty for probabilities

    @property
    def tiles(self) -> int:
        """Number of tiles of all planes."""
        return self.planes * len(self.grid)

    @property
    def calls(self) -> int:
        """Number of calls of a network; the last call is filled up with zeros."""
        return -(-self.tiles // self.tiles_at_once)

    @property
    def starts(self) -> tuple[list[int], list[int]]:
        """First row of each row of tiles, and first column of each column of tiles."""
        origins = self.grid.origins
        return sorted({row for row, _ in origins}), sorted({column for _, column in origins})

    @property
    def padding(self) -> Padding:
        """How a plane is padded to at least one tile."""
        return Padding(self.resampled, self.grid.tile, self.zeros)


def bands(resampler: Resampler) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return a resampler as weights for each new row and column, and the old indices they apply to.

    Returns
    -------
    list of (indices, weights)
        For rows, then columns: int32 and float32 of shape (terms, new size).
        A sum of few terms is exact in float32 on every device; matrix units
        would round to fewer bits.
    """
    found = []
    for matrix in (resampler.rows, resampler.columns):
        terms = int(np.diff(matrix.indptr).max())
        indices = np.zeros((terms, matrix.shape[0]), np.int32)
        weights = np.zeros((terms, matrix.shape[0]), np.float32)
        for new, (begin, end) in enumerate(zip(matrix.indptr, matrix.indptr[1:], strict=False)):
            indices[: end - begin, new] = matrix.indices[begin:end]
            weights[: end - begin, new] = matrix.data[begin:end]
        found.append((indices, weights))
    return found


def prepare(
    geometry: Geometry, block: Tensor, scaling: Tensor, there: Any, along: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Return the tiles of a block of planes, ready for the networks.

    Parameters
    ----------
    geometry : Geometry
    block : tensor of int or float
        Planes with their neighbours, in the order of memory.
    scaling : tensor of float32, shape (4, channels)
        Lower and upper limit, shift and scale of each channel.
    there : list of (indices, weights) or None
        From `bands`.
    along : tensor of float32, shape (planes,), or None
        For networks that see positions: that of each plane in the scan, from -1 to 1.

    Returns
    -------
    tuple of tensor of float32, shape (tiles at once, rows, columns, channels)
        One tensor for each call of a network.
    """
    ops = keras.ops
    low, high, shift, scale = (scaling[index] for index in range(4))
    x = ops.cast(geometry.layout.planes(block), "float32")
    x = (ops.clip(x, low, high) - shift) / scale
    y = _resampled(x, there)
    if geometry.clips and there:
        low, high = (end(x, axis=(1, 2), keepdims=True) for end in (ops.min, ops.max))
        y = ops.clip(y, low, high)
    y = _with_context(geometry, y)
    if along is not None:
        rows, columns = (relative(np.arange(size), size) for size in geometry.resampled)
        where = (along[:, None, None], rows[:, None], columns)
        plane, row, column = (
            ops.broadcast_to(ops.convert_to_tensor(part), y.shape[:3])[..., None] for part in where
        )
        y = ops.concatenate([y, row, column, plane], axis=-1)
    return _calls(geometry, _cut(geometry, y))


def occupied(
    geometry: Geometry, background: float, block: Tensor, there: Any
) -> tuple[Tensor, ...]:
    """Return which tiles have more than background, in their own or in a neighbouring plane.

    Returns
    -------
    tuple of tensor of bool, shape (tiles at once, 1, 1, 1)
        One tensor for each call of a network.
    """
    ops = keras.ops
    x = ops.cast(geometry.layout.planes(block), "float32")
    x = ops.cast(x > background, "float32")
    x = ops.max(x, axis=-1, keepdims=True)
    x = ops.max(_with_context(geometry, x), axis=-1, keepdims=True)
    x = _cut(geometry, _resampled(x, there))
    return _calls(geometry, ops.cast(ops.max(x, axis=(1, 2, 3), keepdims=True) > 0, "bool"))


def assemble(geometry: Geometry, answers: Sequence[Tensor], weight: Tensor, back: Any) -> Tensor:
    """Return the probabilities of planes from the answers for their tiles.

    Parameters
    ----------
    geometry : Geometry
    answers : sequence of tensor of float32, shape (tiles at once, rows, columns, classes)
    weight : tensor of float32, shape (rows of tiles, columns of tiles, rows, columns, 1)
        From `blending`.
    back : list of (indices, weights) or None

    Returns
    -------
    tensor of float32, shape (planes, rows, columns, classes)
        On the grid of the scan.
    """
    ops = keras.ops
    x = answers[0] if len(answers) == 1 else ops.concatenate(answers, axis=0)
    x = x[: geometry.tiles]
    (tall, wide), classes = geometry.grid.tile, x.shape[-1]
    if len(geometry.grid) > 1:
        tops, lefts = geometry.starts
        x = ops.reshape(x, (geometry.planes, len(tops), len(lefts), tall, wide, classes)) * weight
        x = _laid(x, 1, tops, 2, geometry.grid.plane[0])
        x = _laid(x, 1, lefts, 2, geometry.grid.plane[1])
    rows, columns = geometry.padding.window
    x = _resampled(x[:, rows, columns], back)
    if geometry.activation == "softmax":
        return ops.softmax(x, axis=-1)
    return ops.sigmoid(x) if geometry.activation else x


def blending(grid: TileGrid, weight: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Return the weight of each pixel of each tile in the weighted mean.

    Parameters
    ----------
    grid : TileGrid
    weight : ndarray of float32, shape grid.tile
        From `voxtile.preparation.tiling.tile_weight`.
    trusted : ndarray of float32, shape (*grid.plane, 1)
        From `voxtile.preparation.tiling.trust`.

    Returns
    -------
    ndarray of float32, shape (rows of tiles, columns of tiles, *grid.tile, 1)
    """
    shares = [weight[..., np.newaxis] / trusted[window] for window in grid.windows()]
    tops = len({row for row, _ in grid.origins})
    return np.stack(shares).reshape(tops, -1, *grid.tile, 1)


def decide(spec: ModelSpec, layout: Layout, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the label values of planes, and numbers of each plane.

    Parameters
    ----------
    spec : ModelSpec
    layout : Layout
        Of the mask's planes.
    probabilities : tensor of float32, shape (planes, rows, columns, classes)

    Returns
    -------
    labels : tensor of uint8 or int32
        In the order of the mask's memory.
    numbers : tensor of float32, shape (planes, 3 + 3 * labels)
        The sum of the entropies of the pixels that count, the number of these
        pixels, and the sum of all probabilities, which is finite only if each is.
        Then for each label the number of its pixels; then the sums of its
        probabilities in them; then over all pixels with at least 0.1.
    """
    ops = keras.ops
    values = [label.value for label in spec.labels]
    labels = ops.zeros(probabilities.shape[:3], "int32")
    if spec.activation == "sigmoid":
        thresholds = spec.thresholds or (0.5,) * len(values)
        for index, (value, threshold) in enumerate(zip(values, thresholds, strict=True)):
            labels = ops.where(probabilities[..., index] >= threshold, value, labels)
    elif len(values) < _FEW:
        most = probabilities[..., 0]
        for index, value in enumerate(values, start=1):
            labels = ops.where(probabilities[..., index] > most, value, labels)
            most = ops.maximum(probabilities[..., index], most)
    else:
        table = ops.convert_to_tensor(np.array([0, *values], np.int32))
        labels = ops.take(table, ops.argmax(probabilities, axis=-1), axis=0)
    # Not every backend has unsigned integers of 16 bits.
    labels = ops.cast(labels, "uint8" if max(values) <= 255 else "int32")
    return layout.back(labels), _numbers(spec, labels, probabilities)


def quantise(share: float, count: int, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a view adds to the sums of several views, and the sum of each plane.

    Parameters
    ----------
    share : float
        Weight of the view; the weights of all views sum to 1.
    count : int
        Number of planes that are needed; the other planes only fill the block.
    probabilities : tensor of float32, shape (planes, rows, columns, classes)

    Returns
    -------
    shares : tensor of int16, shape (count, rows, columns, classes)
    sums : tensor of float32, shape (count,)
        Finite only if each probability is.
    """
    ops = keras.ops
    wanted = probabilities[:count]
    steps = ops.cast(wanted * float(np.float32(share * _ONE)) + 0.5, "int32")
    return ops.cast(steps - _MIDDLE, "int16"), ops.sum(wanted, axis=(1, 2, 3))


def join(*blocks: Tensor) -> Tensor:
    """Return blocks of planes as one."""
    return blocks[0] if len(blocks) == 1 else keras.ops.concatenate(blocks, axis=0)


def decide_sums(
    spec: ModelSpec,
    layout: Layout,
    views: Sequence[View],
    indices: Tensor,
    *volumes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Decide axial planes by the sums of several views.

    Parameters
    ----------
    spec : ModelSpec
    layout : Layout
        Of the mask's planes.
    views : sequence of View
    indices : tensor of int32, shape (planes,)
        Indices of the planes.
    *volumes : tensor of int16, shape (planes, rows, columns, classes)
        One for each view, with all its planes, from `quantise`.

    Returns
    -------
    labels, numbers
        As from `decide`.
    """
    ops = keras.ops
    total: Any = 0
    for view, volume in zip(views, volumes, strict=True):
        # To axes (S, R, A): from (S, R, A), (A, R, S) or (R, A, S).
        along, order = {
            "axial": (0, (0, 1, 2, 3)),
            "coronal": (2, (2, 1, 0, 3)),
            "sagittal": (2, (2, 0, 1, 3)),
        }[view]
        part = ops.cast(ops.take(volume, indices, axis=along), "int32") + _MIDDLE
        total = total + ops.transpose(part, order)
    return decide(spec, layout, ops.cast(total, "float32") * float(np.float32(1 / _ONE)))


def with_range(answer: Tensor) -> tuple[Tensor, Tensor]:
    """Return a network's answer, and the lowest and highest value for each tile, (tiles, 2)."""
    ops = keras.ops
    low, high = ops.min(answer, axis=(1, 2, 3)), ops.max(answer, axis=(1, 2, 3))
    return answer, ops.stack([low, high], axis=-1)


def widest(ranges: Sequence[Sequence[Tensor]], busy: Sequence[Tensor] | None) -> Tensor:
    """Return the lowest and highest value of all answers that count, shape (2,).

    Parameters
    ----------
    ranges : sequence of sequence of tensor
        For each call, the ranges of its networks, from `with_range`.
    busy : sequence of tensor of bool, optional
        From `occupied`, for each call.
    """
    ops = keras.ops
    lows, highs = [], []
    for number, call in enumerate(ranges):
        for one in call:
            low, high = one[:, 0], one[:, 1]
            if busy is not None:
                counts = busy[number][:, 0, 0, 0]
                low, high = ops.where(counts, low, np.inf), ops.where(counts, high, -np.inf)
            lows.append(ops.min(low))
            highs.append(ops.max(high))
    return ops.stack([ops.min(ops.stack(lows)), ops.max(ops.stack(highs))])


def mirror(axes: tuple[int, ...], tiles: Tensor) -> Tensor:
    """Return tiles mirrored along axes."""
    return keras.ops.flip(tiles, axes)


def weigh(share: float, axes: tuple[int, ...], answer: Tensor) -> Tensor:
    """Return one answer, mirrored back and multiplied by its weight in a mean."""
    turned = keras.ops.flip(answer, axes) if axes else answer
    return turned * float(np.float32(share))


def add(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of two tensors."""
    return one + other


def unless_empty(empty: tuple[float, ...], busy: Tensor, answer: Tensor) -> Tensor:
    """Return answers, with `empty` where a tile has only background."""
    nothing = keras.ops.convert_to_tensor(np.array(empty, np.float32))
    return keras.ops.where(busy, answer, nothing)


def _numbers(spec: ModelSpec, labels: Tensor, probabilities: Tensor) -> Tensor:
    """Return the numbers of each plane, as `voxtile.inference.entropy` computes them."""
    ops = keras.ops
    p = ops.clip(probabilities, 0, 1)
    if spec.activation == "softmax":
        counts = 1 - probabilities[..., 0] >= DOUBT
        bits = _summed(_bits, p) / float(np.log2(spec.output_channels))
    else:
        counts = ops.max(probabilities, axis=-1) >= DOUBT
        bits = _summed(lambda part: _bits(part) + _bits(1 - part), p) / spec.output_channels
    entropy = ops.sum(ops.where(counts, bits, ops.zeros_like(bits)), axis=(1, 2))
    pixels = ops.sum(ops.cast(counts, "float32"), axis=(1, 2))
    first = ops.stack([entropy, pixels, ops.sum(probabilities, axis=(1, 2, 3))], axis=-1)
    if spec.activation == "softmax":
        values = np.array([label.value for label in spec.labels], np.int32)
        decided = ops.cast(labels, "int32")[..., None] == ops.convert_to_tensor(values)
        p = p[..., 1:]
    else:
        decided = p >= ops.convert_to_tensor(np.array(spec.thresholds or 0.5, np.float32))
    nothing = ops.zeros_like(p)
    parts = (
        ops.cast(decided, "float32"),
        ops.where(decided, p, nothing),
        ops.where(p >= DOUBT, p, nothing),
    )
    return ops.concatenate([first, *(ops.sum(part, axis=(1, 2)) for part in parts)], axis=-1)


def _summed(function: Callable[[Tensor], Tensor], p: Tensor) -> Tensor:
    """Return the sum of a function over the classes."""
    if p.shape[-1] > _FEW:
        return keras.ops.sum(function(p), axis=-1)
    return sum(function(p[..., index]) for index in range(p.shape[-1]))


def _bits(p: Tensor) -> Tensor:
    """Return ``-p log2 p``, 0 at 0."""
    ops = keras.ops
    return -p * ops.log(ops.maximum(p, _LEAST)) * float(1 / np.log(2))


def _with_context(geometry: Geometry, planes: Tensor) -> Tensor:
    """Return each judged plane with its neighbours as channels."""
    ops = keras.ops
    if geometry.context_slices == 1:
        return planes
    near = [planes[k : k + geometry.planes] for k in range(geometry.context_slices)]
    stacked = ops.stack(near, axis=-1)
    return ops.reshape(stacked, (*stacked.shape[:3], -1))


def _resampled(planes: Tensor, both: Any) -> Tensor:
    """Return planes on another grid: a weighted sum of few rows, then of few columns."""
    ops = keras.ops
    for axis, (indices, weights) in enumerate(both or (), start=1):
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        planes = sum(
            ops.take(planes, indices[term], axis=axis) * ops.reshape(weights[term], shape)
            for term in range(indices.shape[0])
        )
    return planes


def _cut(geometry: Geometry, planes: Tensor) -> Tensor:
    """Return the tiles of padded planes, plane after plane."""
    ops = keras.ops
    padding = geometry.padding
    for axis, (window, size, padded) in enumerate(
        zip(padding.window, padding.plane, padding.padded, strict=True), start=1
    ):
        if padded != size and padding.zeros:
            widths = [(0, 0)] * 4
            widths[axis] = (window.start, padded - window.stop)
            planes = ops.pad(planes, widths)
        elif padded != size:  # the outermost pixels are repeated
            places = np.clip(np.arange(padded) - window.start, 0, size - 1).astype(np.int32)
            planes = ops.take(planes, ops.convert_to_tensor(places), axis=axis)
    if len(geometry.grid) == 1:
        return planes
    tiles = [planes[:, rows, columns] for rows, columns in geometry.grid.windows()]
    stacked = ops.stack(tiles, axis=1)
    return ops.reshape(stacked, (geometry.tiles, *stacked.shape[2:]))


def _calls(geometry: Geometry, tiles: Tensor) -> tuple[Tensor, ...]:
    """Return tiles in equal parts, the last one filled up with zeros."""
    ops = keras.ops
    missing = geometry.calls * geometry.tiles_at_once - geometry.tiles
    if missing:
        rest = ops.zeros((missing, *tiles.shape[1:]), tiles.dtype)
        tiles = ops.concatenate([tiles, rest], axis=0)
    size = geometry.tiles_at_once
    return tuple(tiles[k * size : (k + 1) * size] for k in range(geometry.calls))


def _laid(x: Tensor, tiles: int, starts: Sequence[int], pixels: int, size: int) -> Tensor:
    """Return the sum of tiles laid side by side where they start.

    Axis `tiles` is removed; then axis `pixels` has the length `size`.
    """
    ops = keras.ops
    total: Any = 0
    before: list[slice | int] = [slice(None)] * tiles
    for number, start in enumerate(starts):
        part = x[(*before, number)]
        widths = [(0, 0)] * len(part.shape)
        widths[pixels] = (start, size - start - part.shape[pixels])
        total = total + ops.pad(part, widths)
    return total
