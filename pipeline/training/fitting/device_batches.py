"""Batches of training tiles that a device cuts from planes in its memory.

    processor   seed, number of a batch -> `TileBatches.choices` -> a few numbers for each tile
    device      planes of all cases, or of a group; these numbers -> `cut` -> tiles, targets

Both draw from the same distributions, with the same code.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from voxtile.engines.device import Device, Tensor
from voxtile.models.backend import keras
from voxtile.training.data.plane_stacks import PlaneStack

from .augmentation import Augmentation, Variation, control_points, remaining, spline_basis
from .dataset import Sampling, TileBatches, TileChoice, targets
from .device_cut import Tensors, cut
from .rotation import STEPS, Rotation

# What a batch is cut by, and its types, which every backend has.
_KINDS = {
    "planes": "int32",
    "width": "int32",
    "last": "float32",
    "first": "int32",
    "corners": "int32",
    "centre": "float32",
    "turn": "float32",
    "control": "float32",
    "shown": "float32",
    "blur": "float32",
    "tone": "float32",
    "seed": "int32",
    "rows.kept": "int32",
    "rows.part": "float32",
    "columns.kept": "int32",
    "columns.part": "float32",
    "position.rows": "float32",
    "position.columns": "float32",
    "position.plane": "float32",
}
_NAMES = {
    kind: [name for name, one in _KINDS.items() if one == kind] for kind in ("int32", "float32")
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


class Numbers(NamedTuple):
    """The numbers of a batch: a row for each tile. Two arrays are sent faster than many."""

    whole: np.ndarray  # int32
    real: np.ndarray  # float32
    group: int = 0  # first step of the group of cases that it is cut from


@dataclass(frozen=True, slots=True, eq=False)
class FixedBatches:
    """Batches of the same tiles, which are on a device and need no preparation, to time steps."""

    tiles: Tensor
    targets: Tensor

    def __getitem__(self, number: int) -> Numbers:
        """Return numbers that nobody needs."""
        return Numbers(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))

    def stored(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the tiles and targets."""
        return self.tiles, self.targets

    def cut(self, stored: tuple[Tensor, Tensor], *numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tiles and targets."""
        return stored


class DeviceBatches:
    """Batches by number, cut from planes that are in the memory of a device.

    Use `voxtile.training.fitting.device_batches.on_device`, which checks the memory. If not all
    cases fit, groups of cases take turns (`voxtile.training.fitting.rotation`): while one is used,
    a thread sends the next.
    """

    def __init__(self, batches: TileBatches, device: Device, kind: str, rotation: Rotation) -> None:
        self._batches, self._device, self._kind = batches, device, kind
        self.sampling = how = batches.sampling
        self.rotation = rotation
        found = {value for label in how.labels for value in label.values}
        self._values = np.array(sorted(found if how.ignore is None else {*found, how.ignore}))
        known = np.array([0, *self._values]).reshape(1, 1, -1)
        tables = {
            "targets": targets(known, how.labels, softmax=how.softmax, ignore=how.ignore)[0, 0],
            **_tables(how),
        }
        self._tables = {name: device.send(array) for name, array in tables.items()}
        self._shapes = {name: array.shape for name, array in self.named(0).items()}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="planes")
        self._sent: dict[int, Future[Tensors]] = {}
        self.stored(0)

    def stored(self, step: int) -> Tensors:
        """Return what `cut` needs on the device at a step, and begin to send what follows."""
        begin, group = self.rotation.at(step)
        after = begin + STEPS * len(group)
        wanted = {begin, after} if len(group) < len(self._batches.cases) else {begin}
        sent = {one: future for one, future in self._sent.items() if one in wanted}
        for one in sorted(wanted - set(sent)):
            sent[one] = self._pool.submit(self._send, self.rotation.at(one)[1])
        self._sent = sent  # frees the group that was used before
        return sent[begin].result()

    def _send(self, group: Sequence[int]) -> Tensors:
        """Send the planes of a group of cases, in arrays of the same size for every group."""
        stacks = _stacks([self._batches.cases[case] for case in group])
        length = min(self.rotation.room, sum(self.rotation.sizes))
        images = np.zeros((length, self._batches.channels), self._kind)
        codes = np.zeros(length, np.uint8 if len(self._values) < 2**8 else np.int16)
        for stack, start in zip(stacks, _starts(stacks), strict=True):
            image, label = stack.open()
            images[start : start + _pixels(stack)] = image.reshape(_pixels(stack), -1)
            codes[start : start + _pixels(stack)] = _codes(label, self._values).ravel()
        arrays = {"images": images, "codes": codes}
        return {**self._tables, **{name: self._device.send(one) for name, one in arrays.items()}}

    def __getitem__(self, number: int) -> Numbers:
        """Return the numbers of one batch, for `cut`."""
        named = self.named(number)
        rows = {
            kind: [named[name].reshape(self.sampling.batch, -1) for name in names]
            for kind, names in _NAMES.items()
        }
        whole, real = (np.concatenate(parts, axis=1) for parts in rows.values())
        return Numbers(whole, real, self.rotation.at(number)[0])

    def named(self, number: int) -> dict[str, np.ndarray]:
        """Return the numbers of one batch by name."""
        how, group = self.sampling, self.rotation.at(number)[1]
        chosen = self._batches.choices(number, patterns=False, among=group)
        held = _stacks([self._batches.cases[case] for case in group])
        begins = dict(zip((stack.image for stack in held), _starts(held), strict=True))
        stacks = [one.stack for one in chosen]
        shapes = np.array([stack.shape for stack in stacks])
        starts = np.array([begins[stack.image] for stack in stacks])
        near = np.array([one.plane for one in chosen])[:, None] + _steps(how, chosen)
        near = near.clip(0, shapes[:, :1] - 1)
        spacing = np.array([stack.spacing_mm for stack in stacks])
        height, width = shapes[:, 1], shapes[:, 2]
        below, right = np.where(height > 1, width, 0), np.where(width > 1, 1, 0)
        turns, controls = zip(*(_mirrored(one, how) for one in chosen), strict=True)
        numbers: dict[str, Any] = {
            "planes": starts[:, None] + (height * width)[:, None] * near,
            "width": width,
            "last": shapes[:, 1:] - 1,
            # Where the first of two pixels may be, and how far from it the four around a point are.
            "first": np.maximum(shapes[:, 1:] - 2, 0),
            "corners": np.stack([0 * below, right, below, below + right], axis=1),
            "centre": [one.centre for one in chosen],
            # The same matrix for offsets in pixels.
            "turn": np.array(turns) * spacing[:, None, :] / spacing[:, :, None],
            "control": np.array(controls) / spacing[:, :, None, None],
            "shown": [
                [index not in one.dropped for index in range(self._batches.channels)]
                for one in chosen
            ],
            **_of_variations([one.variations for one in chosen], how),
            **_positions(chosen, how),
        }
        return {name: np.asarray(numbers[name], kind) for name, kind in _KINDS.items()}

    def cut(self, stored: Tensors, *numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return tiles and targets, as `TileBatches` does; a function of tensors alone."""
        named = {}
        for names, rows in zip(_NAMES.values(), numbers, strict=True):
            begin = 0
            for name in names:
                end = begin + int(np.prod(self._shapes[name][1:]))
                named[name] = keras.ops.reshape(rows[:, begin:end], self._shapes[name])
                begin = end
        return cut(self.sampling, stored, named)


def on_device(
    batches: TileBatches, device: Device, memory_mb: float | None = None
) -> DeviceBatches | None:
    """Return the batches of a device; None where a case does not fit into its memory."""
    stacks = _stacks(batches.cases)
    kind = "float16" if all(_is_half(stack) for stack in stacks) else "float32"
    sizes = tuple(sum(map(_pixels, case)) for case in batches.cases)
    room = 1e6 * (_SHARE * device.free_mb() if memory_mb is None else memory_mb)
    fitting = min(room / (np.dtype(kind).itemsize * batches.channels + 2), _MOST_PIXELS)
    if sum(sizes) > fitting:
        # There may be three groups: in use by the last steps, in use, and on its way. With a power
        # of 2, a little more or less free memory gives the same groups.
        fitting = 2 ** int(np.log2(max(1, fitting / 3)))
    if max(sizes) > fitting:
        return None
    rotation = Rotation(sizes, int(fitting), batches.sampling.seed)
    return DeviceBatches(batches, device, kind, rotation)


def _stacks(cases: Sequence[Sequence[PlaneStack]]) -> list[PlaneStack]:
    """Return all stacks of planes."""
    return [stack for views in cases for stack in views]


def _pixels(stack: PlaneStack) -> int:
    """Return the number of pixels of all planes of a stack."""
    return int(np.prod(stack.shape))


def _starts(stacks: Sequence[PlaneStack]) -> list[int]:
    """Return where the pixels of each stack begin."""
    return np.cumsum([0, *map(_pixels, stacks)]).tolist()[:-1]  # type: ignore[no-any-return]


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
    return {
        f"{name}.spline": spline_basis(size, count).astype(np.float32)
        for name, size, count in zip(("rows", "columns"), how.tile, points, strict=True)
    }


@lru_cache
def _resizing(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which two pixels `augmentation.low_resolution` interpolates, and their weights.

    Int32 and float32, (size + 1, size, 2): for each number of pixels that remain and each pixel of
    a tile.
    """
    kept = np.zeros((size + 1, size, 2), np.int32)
    part = np.zeros((size + 1, size, 2), np.float32)
    for count in range(1, size + 1):
        coarse = np.rint(np.linspace(0, size - 1, count)).astype(np.int32)
        back = np.linspace(0, count - 1, size).astype(np.float32)
        first = np.minimum(back.astype(np.int32), max(count - 2, 0))
        kept[count] = np.stack([coarse[first], coarse[np.minimum(first + 1, count - 1)]], axis=1)
        part[count] = np.stack([1 - (back - first), back - first], axis=1)
    return kept, part


def _mirrored(one: TileChoice, how: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation (2, 2) and control points (2, rows, columns) of a tile, with its flips.

    A tile is mirrored by exchanging where its pixels are read. The B-spline is symmetric, so this
    mirrors the control points.
    """
    flips = tuple(axis for axis in one.flips if axis < 2)
    turn = one.warp.turn * np.where(np.isin((0, 1), flips), -1, 1)
    control = one.warp.control_mm
    if control is None:
        control = np.zeros((*control_points(how.tile, how.augmentation), 2))
    return turn, np.moveaxis(np.flip(control, flips), 2, 0)


def _steps(how: Sampling, chosen: Sequence[TileChoice]) -> np.ndarray:
    """Return from which planes, relative to a tile's own, its channels are: (n, context)."""
    half = how.context_slices // 2
    signs = [[-1] if 2 in one.flips else [1] for one in chosen]
    return np.asarray(np.arange(-half, half + 1) * np.array(signs))


def _positions(chosen: Sequence[TileChoice], how: Sampling) -> dict[str, Any]:
    """Return where the rows, the columns and the plane of each tile are, (n, ...), if wanted."""
    names = [f"position.{name}" for name in ("rows", "columns", "plane")]
    if not how.position:
        return dict.fromkeys(names, np.zeros((len(chosen), 0)))
    parts = zip(*(one.positions(how.tile) for one in chosen), strict=True)
    return {
        name: np.reshape(part, (len(chosen), -1)) for name, part in zip(names, parts, strict=True)
    }


def _of_variations(chosen: Sequence[Sequence[Variation]], how: Sampling) -> dict[str, Any]:
    """Return the numbers of variations, (n, channels, ...)."""

    def each(number: Callable[[Variation], Any]) -> list[list[Any]]:
        return [[number(one) for one in channels] for channels in chosen]

    left = np.array(each(lambda one: remaining(how.tile, one.low_resolution)))
    resized = {}
    for axis, name in enumerate(("rows", "columns")):
        kept, part = _resizing(how.tile[axis])
        resized[f"{name}.kept"] = kept[left[..., axis]]
        resized[f"{name}.part"] = part[left[..., axis]]
    return {
        "blur": _gaussians(np.array(each(lambda one: one.blur_pixels)), how.augmentation),
        "tone": each(
            lambda one: (one.brightness, one.contrast, one.gamma, one.inverted, one.noise)
        ),
        "seed": each(lambda one: one.pattern),
        **resized,
    }


def _gaussians(sigma: np.ndarray, how: Augmentation) -> np.ndarray:
    """Return the weights of `augmentation.blur` (n, channels, taps); 0 gives a single weight."""
    most = int(_TRUNCATE * how.blur_pixels[1] + 0.5)
    sigma = sigma[..., np.newaxis]
    offsets = np.arange(-most, most + 1)
    weights = np.exp(-0.5 * (offsets / np.maximum(sigma, 1e-3)) ** 2)
    weights[np.abs(offsets) > np.floor(_TRUNCATE * sigma + 0.5)] = 0
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
