"""From prepared planes to their probabilities: tiles through networks, and back together.

The networks are called with the same number of tiles every time, across planes, so that they
are compiled once. While they compute some tiles, the earlier ones are stitched and decided.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any

import numpy as np

from voxtile.engines import Model
from voxtile.errors import CaseError, VoxtileError, raised_by
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.preparation.plan import Tiling
from voxtile.preparation.tiling import Padding, cut, stitch, tile_weight, trust
from voxtile.volume import Shape2D

# Maximum of waiting tiles, as a multiple of the tiles at once; with so many, most are empty.
_PATIENCE = 64
# How far rounding may bring a probability below 0 or above 1.
_BEYOND = 1e-3


@dataclass(frozen=True, slots=True)
class Panel:
    """Networks that compute the same tiles; their weighted mean is the prediction."""

    networks: tuple[tuple[Model, float], ...]
    classes: int  # channels of a prediction
    # Axes of a tile (0 rows, 1 columns) along which each tile is mirrored as well, and its
    # prediction mirrored back (test-time augmentation).
    flips: tuple[int, ...] = ()
    empty: tuple[float, ...] = ()  # the prediction for a pixel of a tile that holds only background
    logits: bool = False  # whether predictions are logits, which have no range

    def judge(self, tiles: np.ndarray) -> np.ndarray:
        """Return the mean prediction for some tiles, float32.

        CaseError if a network fails, or gives anything other than probabilities.
        """
        weights = sum(weight for _, weight in self.networks)
        turns = [axis + 1 for axis in self.flips]
        mirrorings = [
            axes for count in range(len(turns) + 1) for axes in combinations(turns, count)
        ]
        mean: np.ndarray | None = None
        for axes in mirrorings:
            seen = np.ascontiguousarray(np.flip(tiles, axes)) if axes else tiles
            for model, weight in self.networks:
                answer = _answer(model, seen, self.classes)
                if not self.logits:
                    refuse_beyond(float(answer.min()), float(answer.max()))
                share = np.float32(weight / weights / len(mirrorings))
                if share == 1:
                    return answer
                turned = np.flip(answer, axes) if axes else answer
                if mean is None:
                    mean = turned * share
                else:
                    mean += turned * share
        assert mean is not None  # a spec has at least one network
        return mean


def _answer(model: Model, tiles: np.ndarray, classes: int) -> np.ndarray:
    """Return a network's prediction; refuse one that does not have the right shape."""
    with failing_network(tiles.shape):
        answer = np.asarray(model(tiles))
    wanted = (*tiles.shape[:3], classes)
    if answer.shape != wanted or answer.dtype.kind not in "fiub":
        raise CaseError(
            "network_failed",
            f"the network gave shape {answer.shape} of {answer.dtype} for tiles of shape "
            f"{tiles.shape}; {wanted} of float32 was needed: tiles, rows, columns, classes",
        )
    return answer


@contextmanager
def failing_network(shape: Sequence[int]) -> Iterator[None]:
    """Fail the case if a network raises an error for tiles of a shape, with the network's words."""
    try:
        yield
    except (VoxtileError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CaseError(
            "network_failed",
            f"the network {raised_by(error)} for tiles of shape {tuple(shape)}; this is an error "
            "of the network or of the function that was given as one",
        ) from error


def refuse_beyond(low: float, high: float) -> None:
    """Refuse a prediction whose lowest or highest value is not a probability.

    NaN and infinite values are refused for the whole plane, see `refuse_not_finite`.
    """
    if np.isfinite((low, high)).all() and (low < -_BEYOND or high > 1 + _BEYOND):
        raise CaseError(
            "not_probabilities",
            f"the network gave values from {low:.3g} to {high:.3g}; probabilities from 0 to 1 were "
            'needed. If they are logits, add "output": "logits" to the network in spec.json, or '
            "softmax or sigmoid as its last layer",
        )


def refuse_not_finite(sums: Any) -> None:
    """Refuse probabilities by their sums, which are not finite if any of their terms is not."""
    if not np.isfinite(sums).all():
        raise CaseError(
            "not_finite_output",
            "the network gave NaN or infinite probabilities for this scan; "
            "check its intensities against those of the training cases",
        )


def predict_planes(
    planes: Iterable[np.ndarray],
    shape: Shape2D,
    tiling: Tiling,
    panel: Panel,
    occupied: Iterable[np.ndarray] | None = None,
    pool: Executor | None = None,
) -> Iterator[np.ndarray]:
    """Yield the probabilities of each plane, float32, shape (rows, columns, classes).

    Planes are float32, (*shape, channels). `occupied`, (rows, columns) for each plane, is True
    where there is more than background; the networks do not compute tiles without a True. They
    compute ahead in a pool of one thread if the tiling allows it.
    """
    padding = Padding(shape, tiling.tile, tiling.zeros)
    grid = tiling.grid(shape)
    weight = tile_weight(tiling.tile, tiling.weighting)
    trusted = trust(grid, weight)

    def tiles() -> Iterator[np.ndarray | None]:
        worth = iter(occupied) if occupied is not None else None
        for plane in planes:
            found = cut(padding.apply(plane), grid)
            if worth is None:
                yield from found
                continue
            kept = cut(padding.apply(next(worth)), grid)
            for tile, busy in zip(found, kept, strict=True):
                yield tile if busy.any() else None

    predictions = _predict(tiles(), tiling, panel, pool)
    while first := list(islice(predictions, 1)):
        rest = islice(predictions, len(grid) - 1)
        plane = padding.undo(stitch(chain(first, rest), grid, weight, trusted))
        refuse_not_finite(plane.sum(dtype=np.float64))  # a sum needs no further memory
        yield plane
        del plane, first, rest  # frees their memory before the next ones are made


# Tiles in order; None stands for an empty one.
_Batch = Sequence[np.ndarray | None]


def _predict(
    tiles: Iterator[np.ndarray | None], tiling: Tiling, panel: Panel, pool: Executor | None
) -> Iterator[np.ndarray]:
    """Yield the prediction for each tile, in order."""
    if pool is None or not tiling.ahead:
        for batch in _batches(tiles, tiling):
            yield from _in_order(batch, _judge(batch, tiling, panel), tiling, panel)
        return
    before: tuple[_Batch, Future[Sequence[np.ndarray]]] | None = None
    for batch in _batches(tiles, tiling):
        judging = pool.submit(_judge, batch, tiling, panel)
        if before is not None:
            yield from _in_order(before[0], before[1].result(), tiling, panel)
        before = batch, judging
    if before is not None:
        yield from _in_order(before[0], before[1].result(), tiling, panel)


def _batches(tiles: Iterator[np.ndarray | None], tiling: Tiling) -> Iterator[_Batch]:
    """Yield tiles in groups with at most as many busy ones as the networks compute at once."""
    waiting: list[np.ndarray | None] = []
    busy = 0
    for tile in tiles:
        waiting.append(tile)
        busy += tile is not None
        if busy == tiling.batch or len(waiting) == _PATIENCE * tiling.batch:
            yield waiting
            waiting, busy = [], 0
    if waiting:
        yield waiting


def _judge(batch: _Batch, tiling: Tiling, panel: Panel) -> Sequence[np.ndarray]:
    """Return the predictions for the busy tiles, and for zeros that fill up the last call."""
    busy = [tile for tile in batch if tile is not None]
    if not busy:
        return ()
    filled = np.zeros((batch_for(len(busy), tiling.batch), *busy[0].shape), np.float32)
    np.stack(busy, out=filled[: len(busy)])
    return tuple(panel.judge(filled))


def _in_order(
    batch: _Batch, answers: Sequence[np.ndarray], tiling: Tiling, panel: Panel
) -> Iterator[np.ndarray]:
    """Yield the prediction for each tile, also for empty tiles."""
    judged = iter(answers)
    for tile in batch:
        if tile is None:
            nothing = np.array(panel.empty, np.float32)
            yield np.broadcast_to(nothing, (*tiling.tile, panel.classes))
        else:
            yield next(judged)


def batch_for(tiles: int, most: int) -> int:
    """Round a number of tiles up to a fixed size, so that few shapes are compiled.

    Examples
    --------
    >>> [batch_for(tiles, 12) for tiles in (12, 7, 6, 2, 1)]
    [12, 12, 6, 3, 1]
    """
    size = most
    while size > 1 and size // 2 >= tiles:
        size //= 2
    return size
