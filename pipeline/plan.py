"""How a run tiles its planes, decided once and the same for every case.

What changes a mask (tile, overlap, weighting) is part of a case's
fingerprint; the batch only governs memory and speed.
"""

from dataclasses import asdict, dataclass
from typing import Any

from voxtile.models.spec import ModelSpec, Weighting

from .tiling import Shape2D, overlap_pixels

# Pixels in a batch unless told otherwise: 16 tiles of 128 x 128, about 1 GB of activations in the
# 31-million-parameter U-Net.
_BATCH_PIXELS = 16 * 128 * 128


@dataclass(frozen=True, slots=True)
class Plan:
    """Tile geometry and batch of a run.

    Parameters
    ----------
    tile : (rows, columns)
        In pixels.
    overlap : (rows, columns)
        Least pixels that neighbouring tiles share.
    weighting : {"gaussian", "constant"}
    batch : int
        Tiles that go through the network at once.
    """

    tile: Shape2D
    overlap: Shape2D
    weighting: Weighting
    batch: int

    def decisive(self) -> dict[str, Any]:
        """Return what decides a result: all but the batch."""
        return {key: value for key, value in asdict(self).items() if key != "batch"}


def make_plan(
    spec: ModelSpec,
    *,
    tile: Shape2D | None = None,
    overlap: float | None = None,
    batch: int | None = None,
) -> Plan:
    """Return the spec's tile geometry, or the caller's where given.

    Parameters
    ----------
    spec : ModelSpec
    tile : (rows, columns), optional
        In pixels; a multiple of ``spec.multiple``.
    overlap : float, optional
        Fraction of the tile, at least 0 and below 1.
    batch : int, optional
        At least 1.

    Raises
    ------
    ValueError
        If the network cannot take such tiles.
    """
    tile = spec.tile if tile is None else tile
    overlap = spec.overlap if overlap is None else overlap
    if any(size < 1 or size % spec.multiple for size in tile):
        raise ValueError(f"tile {tile} must be a multiple of {spec.multiple} for this model")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap} is a fraction: at least 0 and below 1")
    if batch is None:
        # The last batch of a case is filled up, so that small tiles want no large batch.
        batch = min(16, max(1, _BATCH_PIXELS // (tile[0] * tile[1])))
    if batch < 1:
        raise ValueError(f"batch {batch} must be at least 1")
    return Plan(tile, overlap_pixels(tile, overlap), spec.weighting, batch)
