"""How a run tiles its planes: rules that are chosen once, and their tiles for each plane size.

Tile size, overlap and weighting change a mask. They depend on the bundle, the
size of a plane and the options, never on the machine, and are part of a
case's fingerprint. The number of tiles at once changes only memory and speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from voxtile.errors import UsageError
from voxtile.machine.memory import free_memory_mb
from voxtile.models.bundle import Bundle
from voxtile.models.cost import Cost, network_cost
from voxtile.models.spec import Axis, ModelSpec, View, Weighting
from voxtile.volume import Shape2D

from .options import PlanWish as PlanWish
from .tiling import TileGrid, overlap_pixels

# Default for the number of pixels of all tiles at once: 16 tiles of 128 x 128, about 1 GB of
# activations in the 31-million-parameter U-Net.
_BATCH_PIXELS = 16 * 128 * 128
_LARGEST_BATCH = 16
# With two tiles at once, each of two cores computes one, which is faster than both on one tile.
_LEAST_BATCH = 2
# Fraction of the free memory that a plan uses; the rest is a reserve.
PLANNED_SHARE = 0.7
# Bytes of activations in the largest tile that a plan chooses. It does not depend on the machine's
# memory, so that the same bundle gives the same tiles everywhere.
_TILE_BYTES = 512 * 2**20
# Maximum of bytes of predictions in memory: with a hundred classes, the prediction for a large
# plane may be larger than the network's activations.
_ANSWER_BYTES = 128 * 2**20
# Maximum of tiles along one axis; more would mean planes of more than 8192 pixels.
_MOST_TILES = 16
_BYTES = 4  # of float32


@dataclass(frozen=True, slots=True)
class Tiling:
    """How planes of one size are tiled."""

    tile: Shape2D  # (rows, columns) in pixels
    overlap: Shape2D  # minimum of rows and columns that neighbouring tiles share
    weighting: Weighting
    batch: int  # tiles that go through the network at once
    # Whether two predictions fit in memory, so that the networks compute the next tiles while the
    # last tiles are stitched.
    ahead: bool = True
    zeros: bool = False  # whether planes smaller than a tile are padded with zeros

    def grid(self, plane: Shape2D) -> TileGrid:
        """Return the tiles of a plane, padded to at least one tile."""
        rows, columns = (max(size, tile) for size, tile in zip(plane, self.tile, strict=True))
        return TileGrid((rows, columns), self.tile, self.overlap)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of a run."""

    tile: Shape2D  # (rows, columns) in pixels: every tile, or, with `largest`, the smallest tile
    overlap: Shape2D  # (rows, columns): minimum of pixels that neighbouring tiles share
    weighting: Weighting
    multiple: int = 1  # a tile's size must be a multiple of this
    # Maximum of pixels of a tile that is fitted to its plane; 0 uses `tile` for every plane.
    largest: int = 0
    # World axes along which planes are also mirrored and judged again.
    flips: tuple[Axis, ...] = ()
    # Tiles that go through the network at once; None computes it from `bytes_per_pixel` and
    # `memory_mb`.
    batch: int | None = None
    bytes_per_pixel: float = 0.0  # memory for one pixel of a tile inside the network; 0 if unknown
    answer_bytes: int = 0  # memory for the prediction of one pixel of a tile
    # Memory that one process may use beside the scan and its mask, in MB (10^6 bytes); None means
    # the free memory.
    memory_mb: float | None = None
    halvings: int = 0  # how often the number of tiles at once was halved because a worker died
    zeros: bool = False  # whether planes smaller than a tile are padded with zeros
    # View, tile and overlap of the views whose networks have another tile size.
    views: tuple[tuple[View, Shape2D, Shape2D], ...] = ()

    def decisive(self) -> dict[str, Any]:
        """Return everything that may change a mask; memory is not part of it."""
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
        own = {name: sizes for name, *sizes in self.views}
        tile, overlap = own.get(view, (self.tile, self.overlap))
        return replace(self, tile=tile, overlap=overlap, views=())

    def room_mb(self) -> float:
        """Return the memory of one process, in MB (10^6 bytes); half is for the tiles at once."""
        return PLANNED_SHARE * free_memory_mb() if self.memory_mb is None else self.memory_mb

    def with_half_the_batch(self) -> "Plan":
        """Return the plan for another attempt after memory ran out."""
        return replace(self, halvings=self.halvings + 1)

    def for_plane(self, plane: Shape2D) -> Tiling:
        """Return how planes of a size are tiled.

        If the tile size may be fitted, it is the one that covers the plane with
        the least arithmetic. Sizes are rounded up by less than a sixteenth, so that
        planes of nearly the same size share one compiled network.
        """
        tile = self._fitted(plane) if self.largest else self.tile
        rows, columns = (min(o, t - 1) for o, t in zip(self.overlap, tile, strict=True))
        batch = self._batch(tile)
        ahead = 2 * batch * tile[0] * tile[1] * self.answer_bytes <= _ANSWER_BYTES
        return Tiling(tile, (rows, columns), self.weighting, batch, ahead, self.zeros)

    def _fitted(self, plane: Shape2D) -> Shape2D:
        """Return the plane if it fits, else the tile whose grid has fewest pixels, then tiles."""
        choices = [
            [
                (count, _rounded(-(-(size + (count - 1) * shared) // count), least, self.multiple))
                for count in range(1, _MOST_TILES + 1)
            ]
            for size, least, shared in zip(plane, self.tile, self.overlap, strict=True)
        ]
        (_, tall), (_, wide) = choices[0][0], choices[1][0]
        if tall * wide <= self.largest:  # a single tile without seams is worth the rounding
            return tall, wide
        fitting = [
            (rows[0] * columns[0] * rows[1] * columns[1], rows[0] * columns[0], rows[1], columns[1])
            for rows, columns in product(*choices)
            if rows[1] * columns[1] <= self.largest
        ]
        if not fitting:  # a plane that is larger than any scanner makes
            return self.tile
        *_, tall, wide = min(fitting)
        return tall, wide

    def _batch(self, tile: Shape2D) -> int:
        """Return how many tiles go through the network at once."""
        pixels = tile[0] * tile[1]
        # The last call of a case is filled up, which would waste a large number of small tiles.
        batch = self.batch or min(_LARGEST_BATCH, max(_LEAST_BATCH, _BATCH_PIXELS // pixels))
        if self.batch is None and self.memory_mb and self.bytes_per_pixel:
            fitting = self.memory_mb * 1e6 / 2 / (self.bytes_per_pixel * pixels)
            batch = min(batch, int(fitting))
        if self.batch is None and self.answer_bytes:
            batch = min(batch, _ANSWER_BYTES // (self.answer_bytes * pixels))
        return max(1, batch >> self.halvings)


def make_plan(model: Bundle | ModelSpec, wish: PlanWish | None = None) -> Plan:
    """Return the rules by which a bundle's planes are tiled.

    A network whose output at a pixel depends only on the pixel's surroundings
    may see a whole plane at once, which needs the least arithmetic: tiles that
    overlap by half need four times as much. The tile keeps its size from the
    training if the network normalises over the tile (instance or group
    normalisation), or if its graph is not known.

    For a spec without a bundle, its own tile is used.
    """
    wish = wish or PlanWish()
    spec, costs = (model.spec, _costs(model)) if isinstance(model, Bundle) else (model, None)
    tile = spec.tile if wish.tile is None else wish.tile
    overlap = spec.overlap if wish.overlap is None else wish.overlap
    if any(size < 1 or size % spec.multiple for size in tile):
        raise UsageError(f"tile {tile} must be a multiple of {spec.multiple} for this model")
    fixed = [cost.fixed for cost in costs or () if cost.fixed is not None]
    if fixed and tile != fixed[0]:
        raise UsageError(f"tile {tile} must be {fixed[0]}: this model takes only that size")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap {overlap} must be a fraction of at least 0 and below 1")
    if wish.batch is not None and wish.batch < 1:
        raise UsageError(f"batch {wish.batch} must be at least 1")
    if wish.memory_mb is not None and not wish.memory_mb > 0:
        raise UsageError(f"memory {wish.memory_mb} must be more than 0")
    flips = spec.flips if wish.flips is None else wish.flips
    _check_flips(spec, flips)
    per_pixel = max((cost.values for cost in costs or ()), default=0.0) * _BYTES
    free = wish.tile is None and costs and not fixed and not any(c.tile_bound for c in costs)
    return Plan(
        tile=tile,
        overlap=overlap_pixels(tile, overlap),
        weighting=spec.weighting,
        zeros=spec.padding == "zero",
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
    """Refuse axes that were not mirrored in training; without a recipe every axis is allowed."""
    recipe = spec.training.get("recipe")
    if not isinstance(recipe, dict):
        return
    trained = tuple(recipe.get("flips", ()))
    untrained = [axis for axis in flips if axis not in trained]
    if untrained:
        raise UsageError(
            f"model {spec.name} was trained on planes mirrored along "
            f"{', '.join(trained) or 'no axis'}, so its predictions for planes mirrored along "
            f"{', '.join(untrained)} cannot be trusted; use --tta {','.join(trained) or 'none'}, "
            "or train with --flips"
        )


def _costs(bundle: Bundle) -> Sequence[Cost] | None:
    """Return the cost of each network; None if the cost of any network is not known."""
    costs = [network_cost(bundle, network) for network in bundle.spec.networks]
    known = [cost for cost in costs if cost is not None]
    return known if len(known) == len(costs) else None


def _rounded(size: int, least: int, multiple: int) -> int:
    """Return a multiple of at least `size` and `least`, from few values, at most 1/16 larger."""
    size = max(size, least)
    step = multiple
    while step * 16 <= size:
        step *= 2
    return -(-size // step) * step
