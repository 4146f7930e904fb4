"""From prepared planes to their probabilities: tiles through networks, and back together.

    plane -> padded -> tiles -> [batches] -> networks, mirrored too -> mean -> stitched -> plane

Batches run across planes, all of one size, so that nothing compiles twice. One is judged while
the answers of the one before it are stitched and decided.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain, combinations, islice

import numpy as np

from voxtile.engines import Model
from voxtile.errors import CaseError
from voxtile.preparation.plan import Tiling
from voxtile.preparation.tiling import Padding, cut, stitch, tile_weight, trust
from voxtile.volume import Shape2D

# Tiles that are known to be empty and wait for their turn, in batches.
_PATIENCE = 64


@dataclass(frozen=True, slots=True)
class Panel:
    """Networks that judge the same tiles; their weighted mean is the answer.

    Parameters
    ----------
    networks : tuple of (Model, weight)
    classes : int
        Channels of an answer.
    flips : tuple of int
        Axes of a tile (0 rows, 1 columns) along which each tile is mirrored
        as well, and its answer mirrored back (test-time augmentation).
    empty : tuple of float
        The answer for tiles that are known to hold only background.
    """

    networks: tuple[tuple[Model, float], ...]
    classes: int
    flips: tuple[int, ...] = ()
    empty: tuple[float, ...] = ()

    def judge(self, tiles: np.ndarray) -> np.ndarray:
        """Return the mean answer for a batch of tiles, float32.

        Raises
        ------
        ValueError
            If a network's answer has another shape.
        """
        weights = sum(weight for _, weight in self.networks)
        mirrorings = [
            tuple(axis + 1 for axis in axes)
            for axes in chain.from_iterable(
                combinations(self.flips, count) for count in range(len(self.flips) + 1)
            )
        ]
        mean: np.ndarray | None = None
        for axes in mirrorings:
            seen = np.ascontiguousarray(np.flip(tiles, axes)) if axes else tiles
            for model, weight in self.networks:
                answer = np.asarray(model(seen))
                if answer.shape != (*tiles.shape[:3], self.classes):
                    raise ValueError(
                        f"model gave shape {answer.shape} for tiles of shape {tiles.shape}; "
                        f"{(*tiles.shape[:3], self.classes)} was needed"
                    )
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


def predict_planes(
    planes: Iterable[np.ndarray],
    shape: Shape2D,
    tiling: Tiling,
    panel: Panel,
    occupied: Iterable[np.ndarray] | None = None,
    pool: Executor | None = None,
) -> Iterator[np.ndarray]:
    """Yield the probabilities of each plane.

    Parameters
    ----------
    planes : iterable of ndarray of float32, shape (rows, columns, channels)
    shape : (rows, columns)
    tiling : Tiling
    panel : Panel
    occupied : iterable of ndarray of bool, shape (rows, columns), optional
        For each plane, where there is more than background; tiles without
        any are not judged.
    pool : Executor, optional
        Of one thread, to judge a batch ahead where the tiling allows it.

    Yields
    ------
    ndarray of float32, shape (rows, columns, classes)

    Raises
    ------
    CaseError
        If a probability is NaN or infinite.
    """
    padding = Padding(shape, tiling.tile)
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
        # A sum has no scratch space, and shows what any of its terms is.
        if not np.isfinite(plane.sum(dtype=np.float64)):
            raise CaseError(
                "not_finite_output",
                "the network gave NaN or infinite probabilities for this scan; "
                "check its intensities against those of the training cases",
            )
        yield plane
        del plane, first, rest  # or they would be alive while the next ones are made


# Tiles of a batch, in order; None is an empty one.
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
    """Yield tiles until as many are busy as a batch holds."""
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
    """Return the answers for the busy tiles of a batch, and more where it was filled up."""
    busy = [tile for tile in batch if tile is not None]
    if not busy:
        return ()
    filled = np.zeros((batch_for(len(busy), tiling.batch), *busy[0].shape), np.float32)
    np.stack(busy, out=filled[: len(busy)])
    return tuple(panel.judge(filled))


def _in_order(
    batch: _Batch, answers: Sequence[np.ndarray], tiling: Tiling, panel: Panel
) -> Iterator[np.ndarray]:
    """Yield the prediction for each tile of one batch."""
    judged = iter(answers)
    for tile in batch:
        if tile is None:
            nothing = np.array(panel.empty, np.float32)
            yield np.broadcast_to(nothing, (*tiling.tile, panel.classes))
        else:
            yield next(judged)


def batch_for(tiles: int, most: int) -> int:
    """Return the size to fill a batch up to: one of few, so that few are compiled.

    Examples
    --------
    >>> [batch_for(tiles, 12) for tiles in (12, 7, 6, 2, 1)]
    [12, 12, 6, 3, 1]
    """
    size = most
    while size > 1 and size // 2 >= tiles:
        size //= 2
    return size
