"""How a run tiles its planes: rules decided once, and the tiles they give for each size of plane.

What changes a mask (tile, overlap, weighting) follows from the bundle, the
size of a plane and what the caller asked for, never from the machine, and is
part of a case's fingerprint. The batch only governs memory and speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from voxtile.machine.memory import free_memory_mb
from voxtile.models.bundle import Bundle
from voxtile.models.cost import Cost, network_cost
from voxtile.models.spec import Axis, ModelSpec, View, Weighting
from voxtile.volume import Shape2D

from .tiling import TileGrid, overlap_pixels

# Pixels in a batch unless told otherwise: 16 tiles of 128 x 128, about 1 GB of activations in the
# 31-million-parameter U-Net.
_BATCH_PIXELS = 16 * 128 * 128
_LARGEST_BATCH = 16
# Two tiles at once keep two cores busy with one each, which is faster than both at one.
_LEAST_BATCH = 2
# Of the free memory that is planned with; the rest is for what nobody foresees.
PLANNED_SHARE = 0.7
# Bytes of activations in the largest tile that a plan chooses by itself. Not the machine's memory:
# the same bundle gives the same tiles everywhere.
_TILE_BYTES = 512 * 2**20
# Bytes of answers that are held: with a hundred classes the answer for a large plane weighs more
# than what the network computes it from.
_ANSWER_BYTES = 128 * 2**20
# Tiles along one axis that are tried; more would mean planes of more than 8192 pixels.
_MOST_TILES = 16
# Numbers are float32.
_BYTES = 4


@dataclass(frozen=True, slots=True)
class Tiling:
    """How planes of one size are tiled.

    Parameters
    ----------
    tile : (rows, columns)
        In pixels.
    overlap : (rows, columns)
        Least pixels that neighbouring tiles share.
    weighting : {"gaussian", "constant"}
    batch : int
        Tiles that go through the network at once.
    ahead : bool
        Whether the answers of two batches may be held, so that one is judged
        while the other is used.
    """

    tile: Shape2D
    overlap: Shape2D
    weighting: Weighting
    batch: int
    ahead: bool = True

    def grid(self, plane: Shape2D) -> TileGrid:
        """Return where the tiles lie on a plane, grown to at least one tile."""
        rows, columns = (max(size, tile) for size, tile in zip(plane, self.tile, strict=True))
        return TileGrid((rows, columns), self.tile, self.overlap)


@dataclass(frozen=True, slots=True)
class PlanWish:
    """What was asked for; None leaves it to the bundle and the machine.

    Parameters
    ----------
    tile : (rows, columns), optional
        In pixels; a multiple of ``spec.multiple``. Kept for every plane.
    overlap : float, optional
        Fraction of the tile, at least 0 and below 1.
    flips : tuple of {"R", "A", "S"}, optional
        World axes along which planes are judged mirrored as well.
    batch : int, optional
        At least 1.
    memory_mb : float, optional
        What one process may use beside the scan and its mask, in MB (10^6
        bytes).
    """

    tile: Shape2D | None = None
    overlap: float | None = None
    flips: tuple[Axis, ...] | None = None
    batch: int | None = None
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of a run.

    Parameters
    ----------
    tile : (rows, columns)
        In pixels: of every tile, or, with `largest`, of the smallest.
    overlap : (rows, columns)
        Least pixels that neighbouring tiles share.
    weighting : {"gaussian", "constant"}
    multiple : int
        What a tile must be a multiple of.
    largest : int
        Most pixels of a tile that is fitted to its plane; 0 keeps `tile`.
    flips : tuple of {"R", "A", "S"}
        World axes along which planes are judged mirrored as well.
    batch : int or None
        Tiles that go through the network at once; None leaves it to `bytes_per_pixel`
        and `memory_mb`.
    bytes_per_pixel : float
        What one pixel of a tile needs inside the network; 0 if unknown.
    answer_bytes : int
        What the answer for one pixel of a tile takes.
    memory_mb : float or None
        What one process may use beside the scan and its mask, in MB (10^6
        bytes); None means what is free.
    halvings : int
        How often the batch was halved because a worker was lost.
    views : tuple of (View, tile, overlap)
        Views whose networks have another tile.
    """

    tile: Shape2D
    overlap: Shape2D
    weighting: Weighting
    multiple: int = 1
    largest: int = 0
    flips: tuple[Axis, ...] = ()
    batch: int | None = None
    bytes_per_pixel: float = 0.0
    answer_bytes: int = 0
    memory_mb: float | None = None
    halvings: int = 0
    views: tuple[tuple[View, Shape2D, Shape2D], ...] = ()

    def decisive(self) -> dict[str, Any]:
        """Return what decides a result: nothing about memory."""
        return {
            "tile": list(self.tile),
            "overlap": list(self.overlap),
            "weighting": self.weighting,
            "multiple": self.multiple,
            "largest": self.largest,
            "flips": list(self.flips),
            "views": [[view, list(tile), list(overlap)] for view, tile, overlap in self.views],
        }

    def for_view(self, view: View) -> "Plan":
        """Return the rules for planes of one view."""
        for name, tile, overlap in self.views:
            if name == view:
                return replace(self, tile=tile, overlap=overlap, views=())
        return replace(self, views=())

    def room_mb(self) -> float:
        """Return what one process may use, in MB (10^6 bytes); half is for a batch."""
        return PLANNED_SHARE * free_memory_mb() if self.memory_mb is None else self.memory_mb

    def with_half_the_batch(self) -> "Plan":
        """Return the plan for another try after memory ran out."""
        return replace(self, halvings=self.halvings + 1)

    def for_plane(self, plane: Shape2D) -> Tiling:
        """Return how planes of a size are tiled.

        Where tiles may be fitted, the one (or few) that cover the plane with
        the least arithmetic; sizes are rounded up, by less than a sixteenth, so
        that planes of nearly one size share one compiled network.
        """
        tile = self._fitted(plane) if self.largest else self.tile
        rows, columns = (min(o, t - 1) for o, t in zip(self.overlap, tile, strict=True))
        batch = self._batch(tile)
        ahead = 2 * batch * tile[0] * tile[1] * self.answer_bytes <= _ANSWER_BYTES
        return Tiling(tile, (rows, columns), self.weighting, batch, ahead)

    def _fitted(self, plane: Shape2D) -> Shape2D:
        """Return the whole plane where it fits, else the tile whose grid has the fewest pixels.

        Of equals the one with fewest tiles.
        """
        choices = [
            [
                (count, _rounded(-(-(size + (count - 1) * shared) // count), least, self.multiple))
                for count in range(1, _MOST_TILES + 1)
            ]
            for size, least, shared in zip(plane, self.tile, self.overlap, strict=True)
        ]
        (_, tall), (_, wide) = choices[0][0], choices[1][0]
        if tall * wide <= self.largest:  # no seam is worth what rounding up costs
            return tall, wide
        fitting = [
            (rows[0] * columns[0] * rows[1] * columns[1], rows[0] * columns[0], rows[1], columns[1])
            for rows, columns in product(*choices)
            if rows[1] * columns[1] <= self.largest
        ]
        if not fitting:  # a plane beyond any size that was thought of
            return self.tile
        *_, tall, wide = min(fitting)
        return tall, wide

    def _batch(self, tile: Shape2D) -> int:
        """Return how many tiles go through the network at once."""
        pixels = tile[0] * tile[1]
        # The last batch of a case is filled up, so that small tiles want no large batch.
        batch = self.batch or min(_LARGEST_BATCH, max(_LEAST_BATCH, _BATCH_PIXELS // pixels))
        if self.batch is None and self.memory_mb and self.bytes_per_pixel:
            fitting = self.memory_mb * 1e6 / 2 / (self.bytes_per_pixel * pixels)
            batch = min(batch, int(fitting))
        if self.batch is None and self.answer_bytes:
            batch = min(batch, _ANSWER_BYTES // (self.answer_bytes * pixels))
        return max(1, batch >> self.halvings)


def make_plan(model: Bundle | ModelSpec, wish: PlanWish | None = None) -> Plan:
    """Return the rules by which a bundle's planes are tiled.

    A network that judges a pixel from its surroundings alone may see a whole
    plane at once, which needs the least arithmetic: tiles of half overlap
    need four times as much. One with statistics over the tile (instance or
    group normalisation) keeps the tile it was trained with, and so does one
    whose graph is not known.

    Parameters
    ----------
    model : Bundle or ModelSpec
        A spec alone keeps its tile.
    wish : PlanWish, optional

    Raises
    ------
    ValueError
        If the network cannot take such tiles, or was not trained on planes
        that are mirrored so.
    """
    wish = wish or PlanWish()
    spec = model.spec if isinstance(model, Bundle) else model
    costs = _costs(model) if isinstance(model, Bundle) else None
    tile = spec.tile if wish.tile is None else wish.tile
    overlap = spec.overlap if wish.overlap is None else wish.overlap
    if any(size < 1 or size % spec.multiple for size in tile):
        raise ValueError(f"tile {tile} must be a multiple of {spec.multiple} for this model")
    fixed = [cost.fixed for cost in costs or () if cost.fixed is not None]
    if fixed and tile != fixed[0]:
        raise ValueError(f"tile {tile} must be {fixed[0]}: this model takes no other")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap} is a fraction: at least 0 and below 1")
    if wish.batch is not None and wish.batch < 1:
        raise ValueError(f"batch {wish.batch} must be at least 1")
    if wish.memory_mb is not None and not wish.memory_mb > 0:
        raise ValueError(f"memory {wish.memory_mb} must be more than 0")
    flips = spec.flips if wish.flips is None else wish.flips
    _check_flips(spec, flips)
    per_pixel = max((cost.values for cost in costs or ()), default=0.0) * _BYTES
    free = wish.tile is None and costs and not fixed and not any(c.tile_bound for c in costs)
    return Plan(
        tile=tile,
        overlap=overlap_pixels(tile, overlap),
        weighting=spec.weighting,
        multiple=spec.multiple,
        largest=max(int(_TILE_BYTES / per_pixel), tile[0] * tile[1]) if free else 0,
        flips=flips,
        batch=wish.batch,
        bytes_per_pixel=per_pixel,
        answer_bytes=spec.output_channels * _BYTES,
        memory_mb=wish.memory_mb,
        views=()
        if wish.tile
        else tuple(
            (view, spec.tile_of(view), overlap_pixels(spec.tile_of(view), overlap))
            for view in spec.views
            if spec.tile_of(view) != spec.tile
        ),
    )


def _check_flips(spec: ModelSpec, flips: Sequence[Axis]) -> None:
    """Refuse axes that the bundle's recipe did not mirror; one without a recipe may know any."""
    told = spec.training.get("recipe")
    if not isinstance(told, dict):
        return
    learnt = tuple(told.get("flips", ()))
    strange = [axis for axis in flips if axis not in learnt]
    if strange:
        raise ValueError(
            f"model {spec.name} was trained on planes mirrored along "
            f"{', '.join(learnt) or 'no axis'}, so its answers for planes mirrored along "
            f"{', '.join(strange)} mean nothing; use --tta {','.join(learnt) or 'none'}, or train "
            "with --flips"
        )


def _costs(bundle: Bundle) -> Sequence[Cost] | None:
    """Return the cost of each network; None where one is not known."""
    costs = [network_cost(bundle, network) for network in bundle.spec.networks]
    known = [cost for cost in costs if cost is not None]
    return known if len(known) == len(costs) else None


def _rounded(size: int, least: int, multiple: int) -> int:
    """Return a multiple that is at least `size` and `least`: one of few, less than 1/16 larger."""
    size = max(size, least)
    step = multiple
    while step * 16 <= size:
        step *= 2
    return -(-size // step) * step
