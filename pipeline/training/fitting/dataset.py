"""An endless stream of batches of training tiles, made ahead of time by threads.

The content of a batch depends only on the seed and on the number of the batch. It
does not depend on the number of threads, or on the order in which they make batches.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np

from voxtile.machine.processors import thread_count
from voxtile.models.spec import Label
from voxtile.preparation.planes import neighbours, slice_axis
from voxtile.preparation.position import of_tile, position_channels, relative
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.volume import Shape2D

from .augmentation import (
    Augmentation,
    Variation,
    Warp,
    coordinates,
    draw_variation,
    draw_warp,
    flip,
    read_linear,
    read_nearest,
    vary_intensity,
)

Item = TypeVar("Item")
_AXES = ("R", "A", "S")
# More threads than this only wait for Python's lock.
_MOST_THREADS = 4
# Files that are open at the same time; to open one for each tile would take most of the time.
_MOST_OPEN = 256
# Planes whose labelled pixels are remembered.
_MOST_CACHED = 2048


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tiles are taken from planes: choices of a recipe, and the labels of the outputs.

    Labels are in the order of the outputs; `softmax` says whether the first
    output is the background.
    """

    tile: Shape2D
    context_slices: int
    labels: tuple[Label, ...]
    softmax: bool
    batch: int
    seed: int = 0
    foreground: float = 1 / 3
    flips: tuple[str, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    ignore: int | None = None  # label value of pixels that take no part
    optional: tuple[int, ...] = ()  # indices of channels that some cases lack
    channel_dropout: float = 0.0  # probability that a tile lacks one of these
    position: bool = False  # whether channels say where in its scan a pixel is


class TileBatches:
    """Batches by number, cut from prepared cases.

    All cases are drawn equally often, whatever the number of their planes, so
    that a long scan does not have more weight than a short scan.
    """

    def __init__(self, cases: Sequence[Sequence[PlaneStack]], sampling: Sampling) -> None:
        if not cases or not all(cases):
            raise ValueError("there are no planes to train on; give at least one prepared case")
        self.cases = cases
        self.sampling = sampling
        self._open = lru_cache(_MOST_OPEN)(partial(np.load, mmap_mode="r"))
        self._pixels = lru_cache(_MOST_CACHED)(self._pixels_of)
        self.channels = int(self._open(cases[0][0].image).shape[3])

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one batch.

        Images are float32, (batch, rows, columns, channels): for each channel its neighbour slices
        in order, then the position if it is wanted. Targets are float32, (batch, rows, columns,
        classes); -1 for ignored pixels.
        """
        tiles = [self.cut(choice) for choice in self.choices(index)]
        images = np.stack([image for image, _ in tiles])
        labels = np.stack([label for _, label in tiles])
        how = self.sampling
        return images, targets(labels, how.labels, softmax=how.softmax, ignore=how.ignore)

    def choices(
        self, index: int, *, patterns: bool = True, among: Sequence[int] | None = None
    ) -> list["TileChoice"]:
        """Draw everything about the tiles of one batch.

        With `patterns` also the noise itself is drawn; `among` are the cases to draw from.
        """
        rng = np.random.default_rng((self.sampling.seed, index))
        cases = self.cases if among is None else [self.cases[case] for case in among]
        return [self._draw(rng, cases, patterns=patterns) for _ in range(self.sampling.batch)]

    def _pixels_of(self, label: Path, index: int, value: int | None) -> np.ndarray:
        """Return which pixels of a plane, by number, have a value; None: any but the ignored."""
        plane = self._open(label)[index]
        found = plane != self.sampling.ignore if value is None else plane == value
        return np.flatnonzero(found).astype(np.int32)

    def _draw(
        self, rng: np.random.Generator, cases: Sequence[Sequence[PlaneStack]], *, patterns: bool
    ) -> "TileChoice":
        """Draw everything about one tile."""
        how, varied = self.sampling, self.sampling.augmentation
        views = cases[int(rng.integers(len(cases)))]
        stack = views[int(rng.integers(len(views)))]
        index, focus = _choose(stack, self._pixels, how, rng)
        centre = _centre(stack.shape[1:], how.tile, focus, varied.shift, rng)
        warp = draw_warp(rng, how.tile, stack.spacing_mm, varied)
        flips = _flip_axes(stack, how.flips, rng)
        shape = (*how.tile, how.context_slices) if patterns else None
        variations = tuple(draw_variation(rng, varied, shape) for _ in range(self.channels))
        dropped = _dropped(stack, self.channels, how, rng)
        return TileChoice(stack, index, centre, warp, flips, variations, dropped)

    def cut(self, choice: "TileChoice") -> tuple[np.ndarray, np.ndarray]:
        """Return one varied tile: network input and label values."""
        how, stack = self.sampling, choice.stack
        image, label = self._open(stack.image), self._open(stack.label)
        where = coordinates(how.tile, choice.centre, choice.warp, stack.spacing_mm)
        window, where = _crop(where, stack.shape[1:])
        context = image[neighbours(choice.plane, len(image), how.context_slices), *window]
        planes = np.moveaxis(context, 0, 2)  # (rows, columns, context, channels)
        read = read_linear(planes.reshape(*planes.shape[:2], -1), where)
        tile = read.reshape(*how.tile, *planes.shape[2:])
        truth = read_nearest(label[choice.plane][window], where)
        tile, truth = flip(tile, truth, choice.flips)
        tile = vary_intensity(tile, choice.variations)
        tile[..., list(choice.dropped)] = 0
        # The order is that of planes.with_context: for each channel its planes.
        tile = np.swapaxes(tile, 2, 3).reshape(*how.tile, -1)
        if how.position:
            where_in_scan = position_channels(*choice.positions(how.tile))
            tile = np.concatenate([tile, where_in_scan], axis=-1)
        return tile, truth


@dataclass(frozen=True, slots=True, eq=False)
class TileChoice:
    """Everything that is random about one tile."""

    stack: PlaneStack
    plane: int  # its index in the stack
    centre: tuple[float, float]  # point of the plane that the middle of the tile shows
    warp: Warp
    flips: list[int]  # axes that are mirrored: rows (0), columns (1), neighbour slices (2)
    variations: tuple[Variation, ...]  # one for each channel
    dropped: tuple[int, ...] = ()  # indices of channels that are set to 0

    def positions(self, tile: Shape2D) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the tile's rows, its columns and its plane are in the scan, from -1 to 1.

        They are those of a scan in which anatomy is rotated, magnified and shifted as in the tile:
        only mirrored tiles have mirrored positions, because whole mirrored planes have these, too.
        """
        first = [
            _middle(size, length) - (length - 1) / 2
            if size <= length
            else centre - (length - 1) / 2
            for size, length, centre in zip(self.stack.shape[1:], tile, self.centre, strict=True)
        ]
        rows, columns = (
            np.flip(where) if axis in self.flips else where
            for axis, where in enumerate(of_tile(self.stack.shape[1:], first, tile))
        )
        return rows, columns, relative(self.plane, self.stack.shape[0])


def targets(
    labels: np.ndarray, outputs: Sequence[Label], *, softmax: bool, ignore: int | None = None
) -> np.ndarray:
    """Return the target of each output: 1 where the label has one of its values, else 0.

    Label values have shape (n, rows, columns), and targets (n, rows, columns,
    classes). With `softmax` a first channel is 1 where there is no label. Every
    target of a pixel with the value `ignore` is -1.
    """
    channels = [np.isin(labels, label.values) for label in outputs]
    if softmax:
        channels.insert(0, ~np.logical_or.reduce(channels))
    wanted = np.stack(channels, axis=-1).astype(np.float32)
    if ignore is not None:
        wanted[labels == ignore] = -1
    return wanted


def ahead(make: Callable[[int], Item], start: int, *, threads: int | None = None) -> Iterator[Item]:
    """Yield ``make(start)``, ``make(start + 1)``, ... without end; threads make them ahead.

    By default there is one thread fewer than processors: at least 1, at most 4.

    Examples
    --------
    >>> stream = ahead(lambda number: number * number, 3)
    >>> next(stream), next(stream)
    (9, 16)
    >>> stream.close()
    """
    threads = threads or min(_MOST_THREADS, max(1, thread_count() - 1))
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Item]] = deque()
        try:
            for number in count(start):
                waiting.append(pool.submit(make, number))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _dropped(
    stack: PlaneStack, channels: int, how: Sampling, rng: np.random.Generator
) -> tuple[int, ...]:
    """Draw which channels a tile lacks, in addition to those of its case; at least one stays."""
    if not how.channel_dropout:  # no number is drawn, so that other batches stay as they were
        return ()
    present = [index for index in how.optional if index not in stack.missing]
    dropped = [index for index in present if rng.random() < how.channel_dropout]
    if len(dropped) == channels - len(stack.missing):
        dropped.pop(int(rng.integers(len(dropped))))
    return tuple(dropped)


def _choose(
    stack: PlaneStack,
    pixels_of: Callable[[Path, int, int | None], np.ndarray],
    how: Sampling,
    rng: np.random.Generator,
) -> tuple[int, tuple[int, int] | None]:
    """Return the plane to take a tile from, and the pixel to centre it on, if any."""
    if stack.label_planes and rng.random() < how.foreground:
        value, planes = stack.label_planes[int(rng.integers(len(stack.label_planes)))]
        index = planes[int(rng.integers(len(planes)))]
        pixels = pixels_of(stack.label, index, value)
        row, column = divmod(int(pixels[rng.integers(len(pixels))]), stack.shape[2])
        return index, (row, column)
    if stack.known_planes:  # a tile with only ignored pixels would teach nothing
        index = stack.known_planes[int(rng.integers(len(stack.known_planes)))]
        pixels = pixels_of(stack.label, index, None)
        row, column = divmod(int(pixels[rng.integers(len(pixels))]), stack.shape[2])
        return index, (row, column)
    return int(rng.integers(stack.shape[0])), None


def _centre(
    plane: Sequence[int],
    tile: Shape2D,
    focus: tuple[int, int] | None,
    shift: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the point of a plane that the middle of a tile shows."""
    centre = []
    for axis, (size, length) in enumerate(zip(plane, tile, strict=True)):
        if size <= length:
            centre.append(_middle(size, length) + round(rng.uniform(-shift, shift) * length))
            continue
        first = int(rng.integers(size - length + 1))
        if focus is not None:
            around = focus[axis] - length // 2 + int(rng.integers(-(length // 4), length // 4 + 1))
            first = min(max(around, 0), size - length)
        centre.append(float(first) + (length - 1) / 2)
    return centre[0], centre[1]


def _middle(size: int, length: int) -> float:
    """Return the index of the plane that the middle of a larger tile shows in inference.

    It is the plane's middle, except that `voxtile.preparation.tiling.Padding` adds the odd pixel at
    the end.
    """
    return (length - 1) / 2 - (length - size) // 2


def _crop(where: np.ndarray, plane: Sequence[int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the part of a plane that is read, and the coordinates on it."""
    window = []
    inside = np.empty_like(where)
    for axis, size in enumerate(plane):
        np.clip(where[axis], 0, size - 1, out=inside[axis])
        first = int(inside[axis].min())
        window.append(slice(first, int(np.ceil(inside[axis].max())) + 1))
        inside[axis] -= first
    return (window[0], window[1]), inside


def _flip_axes(stack: PlaneStack, flips: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Draw which axes (0 rows, 1 columns, 2 slices) of a tile are mirrored."""
    across = slice_axis(stack.view)
    axes = [*sorted({0, 1, 2} - {across}), across]
    return [axes.index(_AXES.index(axis)) for axis in flips if rng.random() < 0.5]
