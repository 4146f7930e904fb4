"""Cover a plane with overlapping tiles, and put predictions back together.

A *plane* is one slice of a volume, an array of shape ``(rows, columns)``.
A *tile* is a window of fixed size on it. Tiles overlap so that no pixel is
judged only from a tile's edge, where a convolution sees padding instead of
anatomy (Ronneberger et al. 2015, section 2, the overlap-tile strategy).

    plane  |-----------------------------|
    tiles  |-----------|
                    |-----------|
                             |-----------|
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from voxtile.models.spec import Weighting
from voxtile.volume import Shape2D


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where equal tiles lie on a plane so that together they cover it.

    Parameters
    ----------
    plane : (rows, columns)
        Size of the plane, in pixels.
    tile : (rows, columns)
        Size of every tile, in pixels. At most ``plane`` along each axis.
    overlap : (rows, columns), default (0, 0)
        Minimum number of pixels that neighbouring tiles share. Tiles are spread
        evenly, so they may share more.

    Examples
    --------
    A 110-pixel axis under 64-pixel tiles that share at least 32:

    >>> TileGrid(plane=(110, 64), tile=(64, 64), overlap=(32, 32)).origins
    ((0, 0), (23, 0), (46, 0))
    """

    plane: Shape2D
    tile: Shape2D
    overlap: Shape2D = (0, 0)

    def __post_init__(self) -> None:
        for size, tile, overlap in zip(self.plane, self.tile, self.overlap, strict=True):
            if not 0 < tile <= size:
                raise ValueError(
                    f"tile {self.tile} does not fit in plane {self.plane}; "
                    "pad the plane to at least one tile first"
                )
            if not 0 <= overlap < tile:
                raise ValueError(
                    f"overlap {self.overlap} must be at least 0 and smaller than tile {self.tile}"
                )

    @property
    def origins(self) -> tuple[Shape2D, ...]:
        """First (row, column) of every tile, in row-major order."""
        rows, columns = map(_starts, self.plane, self.tile, self.overlap)
        return tuple(product(rows, columns))

    def __len__(self) -> int:
        return len(self.origins)

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Yield the part of the plane under each tile, in the order of `origins`."""
        height, width = self.tile
        for row, column in self.origins:
            yield slice(row, row + height), slice(column, column + width)


@dataclass(frozen=True, slots=True)
class Padding:
    """Pad a plane to at least one tile, with the plane in the middle; sizes are in pixels."""

    plane: Shape2D
    least: Shape2D
    zeros: bool = False  # pad with zeros instead of the outermost pixels

    @property
    def padded(self) -> Shape2D:
        """Size of the padded plane."""
        (rows, columns), (height, width) = self.plane, self.least
        return max(rows, height), max(columns, width)

    @property
    def window(self) -> tuple[slice, slice]:
        """Position of the plane in the padded plane."""
        grown = zip(self.plane, self.padded, strict=True)
        row, column = ((after - size) // 2 for size, after in grown)
        return slice(row, row + self.plane[0]), slice(column, column + self.plane[1])

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """Return the padded plane."""
        if plane.shape[:2] != self.plane:
            raise ValueError(
                f"plane has shape {plane.shape}, but the padding was made for {self.plane}"
            )
        if self.padded == self.plane:
            return plane
        widths = [
            (window.start, after - window.stop)
            for window, after in zip(self.window, self.padded, strict=True)
        ]
        widths += [(0, 0)] * (plane.ndim - 2)
        return np.pad(plane, widths, mode="constant" if self.zeros else "edge")

    def undo(self, padded: np.ndarray) -> np.ndarray:
        """Return a view of the plane inside its padding."""
        return padded[self.window]


def overlap_pixels(tile: Shape2D, fraction: float) -> Shape2D:
    """Return the overlap in pixels for a fraction of the tile, rounded up, below the tile."""
    rows, columns = (min(size - 1, int(np.ceil(size * fraction))) for size in tile)
    return rows, columns


def tile_weight(tile: Shape2D, weighting: Weighting) -> np.ndarray:
    """Return the weight of each pixel of a tile, float32, shape `tile`, positive.

    "constant" gives all pixels the same weight. "gaussian" gives the middle the
    largest: its standard deviation is one eighth of the tile (as in nnU-Net, Isensee
    et al. 2021, supplementary note 4), and no weight is below 1/1000 of the middle's.
    "gaussian_nnunet" is exactly that of nnU-Net's code (compute_gaussian): its middle is the pixel
    ``size // 2``, and no weight is raised.
    """
    if weighting == "constant":
        return np.ones(tile, np.float32)
    exact = weighting == "gaussian_nnunet"
    rows, columns = (
        np.exp(-0.5 * np.square((np.arange(size) - middle) / (size / 8)))
        for size, middle in ((size, size // 2 if exact else (size - 1) / 2) for size in tile)
    )
    weight = np.outer(rows, columns)
    if exact:
        return weight.astype(np.float32)
    return np.asarray(np.maximum(weight, 1e-3 * weight.max()).astype(np.float32))


def cut(plane: np.ndarray, grid: TileGrid) -> Iterator[np.ndarray]:
    """Yield the tiles of `plane`, views of shape ``(*grid.tile, ...)``, in the grid's order."""
    if plane.shape[:2] != grid.plane:
        raise ValueError(f"plane has shape {plane.shape}, but the grid was made for {grid.plane}")
    for window in grid.windows():
        yield plane[window]


def trust(grid: TileGrid, weight: np.ndarray) -> np.ndarray:
    """Return the sum of the tiles' positive weights at each pixel, shape (*grid.plane, 1)."""
    if not (weight > 0).all():
        raise ValueError(f"weight must be positive everywhere, but its minimum is {weight.min()}")
    total = np.zeros((*grid.plane, 1), np.float32)
    for window in grid.windows():
        total[window] += weight[..., np.newaxis]
    return total


def stitch(
    tiles: Iterable[np.ndarray],
    grid: TileGrid,
    weight: np.ndarray,
    trusted: np.ndarray | None = None,
) -> np.ndarray:
    """Blend overlapping tiles into one plane by a weighted mean.

    Parameters
    ----------
    tiles : iterable of ndarray of float, each of shape (rows, columns, classes)
        Predictions in the order of ``grid.origins``.
    weight : ndarray of float, shape grid.tile
        Weight of each pixel of a tile. Strictly positive, so that every pixel
        of the plane has a mean.
    trusted : ndarray of float32, optional
        ``trust(grid, weight)``, if it is already known.

    Returns
    -------
    ndarray of float32, shape (*grid.plane, classes)
        A convex combination of the tiles at each pixel: values that sum to
        one over the classes still do. A single tile is its own exact mean, so
        it is returned unchanged.
    """
    if trusted is None:
        trusted = trust(grid, weight)
    if len(grid) == 1:
        (tile,) = tiles
        return np.asarray(tile, np.float32)
    total = scratch = np.zeros((0,), np.float32)
    for window, tile in zip(grid.windows(), tiles, strict=True):
        if not total.size:
            total = np.zeros((*grid.plane, tile.shape[-1]), np.float32)
            scratch = np.empty(tile.shape, np.float32)
        np.multiply(tile, weight[..., np.newaxis], out=scratch)
        total[window] += scratch
    total /= trusted
    return total


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """First index of each tile along one axis, spread evenly from edge to edge."""
    count = 1 + -(-(size - tile) // (tile - overlap))  # ceiling division
    return [round(start) for start in np.linspace(0, size - tile, count).tolist()]
