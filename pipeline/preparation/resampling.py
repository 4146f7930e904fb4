"""Bring a plane to another pixel spacing and back, between pixel centres.

Two grids of different spacing have the same middle. The new grid reaches at
least to the outermost pixel centres of the old grid, so that probabilities
that are brought back are only interpolated:

    old    o       o       o       o          spacing 1.0
    new  x     x     x     x     x     x      spacing 0.75

Rows and columns each have a matrix. It interpolates linearly; if the new grid
has fewer pixels, it also averages over a window (anti-aliasing).

With splines, the grids share their outer edges, images are interpolated by cubic
splines without anti-aliasing and clipped to the values of their plane, and predictions
are brought back linearly, as by ``skimage.transform.resize``:

    old    |   o   |   o   |   o   |
    new    |  x  |  x  |  x  |  x  |
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.ndimage import zoom

from voxtile.volume import Shape2D

Way = Literal["linear", "spline"]

# Number of channels that are resampled at once.
_CHANNELS = 8
# Weights of a spline below this are left out; each is a quarter of its neighbour.
_LEAST = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Resampler:
    """Two linear maps, from one grid of a plane to another."""

    # float32, shape (new, old): weights of the old rows (columns) in each new one; they sum to one.
    rows: sparse.csr_array
    columns: sparse.csr_array
    clips: bool = False  # to the range of the plane, because splines go beyond it

    @property
    def shape(self) -> Shape2D:
        """Size of the resampled plane."""
        return self.rows.shape[0], self.columns.shape[0]

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """Return the plane on the new grid, float32, shape (rows, columns, channels)."""
        resampled = np.empty((*self.shape, plane.shape[2]), np.float32)
        # A few channels at a time, so that a hundred classes need little memory.
        for start in range(0, plane.shape[2], _CHANNELS):
            part = slice(start, start + _CHANNELS)
            resampled[..., part] = self._apply(plane[..., part])
        if self.clips:
            np.clip(resampled, plane.min(axis=(0, 1)), plane.max(axis=(0, 1)), out=resampled)
        return resampled

    def _apply(self, plane: np.ndarray) -> np.ndarray:
        """Return a few channels on the new grid."""
        rows, columns, channels = plane.shape
        tall = self.rows @ plane.reshape(rows, columns * channels)
        turned = tall.reshape(-1, columns, channels).transpose(1, 0, 2).reshape(columns, -1)
        wide = self.columns @ turned
        return np.asarray(wide.reshape(self.columns.shape[0], -1, channels).transpose(1, 0, 2))


def resampled_size(size: int, spacing_mm: float, new_spacing_mm: float, way: Way = "linear") -> int:
    """Return how many pixels of the new spacing cover all old pixel centres, or equal edges.

    Examples
    --------
    >>> resampled_size(4, 1.0, 0.75), resampled_size(4, 1.0, 1.0), resampled_size(1, 1.0, 0.5)
    (5, 4, 1)
    >>> resampled_size(5, 1.0, 0.75, "spline")
    7
    """
    if way == "spline":
        return max(1, round(spacing_mm / new_spacing_mm * size))
    return 1 + ceil(round((size - 1) * spacing_mm / new_spacing_mm, 6))


def resamplers(
    shape: Shape2D,
    spacing_mm: tuple[float, float],
    new_spacing_mm: tuple[float, float],
    way: Way = "linear",
) -> tuple[Resampler, Resampler]:
    """Return the resamplers from a spacing of pixel centres (rows, columns) to another and back."""
    there, back = [], []
    for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True):
        after = resampled_size(size, old, new, way)
        if way == "spline":
            there.append(_zoomed(size, after, 3))
            back.append(_zoomed(after, size, 1))
            continue
        there.append(_weights(size, after, new / old))
        back.append(_weights(after, size, old / new))
    return Resampler(there[0], there[1], way == "spline"), Resampler(back[0], back[1])


def _zoomed(size: int, new_size: int, order: int) -> sparse.csr_array:
    """Return the matrix of a spline of some order; it is the answer to one bright pixel each."""
    if size == new_size:
        return sparse.csr_array(sparse.eye_array(size, dtype=np.float32))
    ones = np.eye(size)
    # The factor is exact enough that its rounded product is the new size.
    found = zoom(ones, (new_size / size, 1), order=order, mode="nearest", grid_mode=True)
    found[np.abs(found) < _LEAST] = 0
    return sparse.csr_array(found.astype(np.float32))


def _weights(size: int, new_size: int, step: float) -> sparse.csr_array:
    """Return the interpolation matrix for new pixels `step` old pixels apart."""
    # Straight lines join the old pixels. A grid with fewer pixels averages these lines over a
    # window about each new centre. Both keep a linear ramp exactly. The window blurs as much as
    # the usual triangle filter of half-width `step` does (equal variance):
    # ``width**2 = 2 (step**2 - 1)``.
    centres = (np.arange(new_size) - (new_size - 1) / 2) * step + (size - 1) / 2
    # Beyond the outermost pixels the line is level, as if the edge pixels were repeated.
    width = np.sqrt(2 * max(0.0, step**2 - 1))
    reach = int(np.ceil(width / 2)) + 1
    candidates = np.floor(centres).astype(int)[:, np.newaxis] + np.arange(-reach, reach + 2)
    offsets = candidates - centres[:, np.newaxis]
    if width < 1e-6:
        weights = np.maximum(0, 1 - np.abs(offsets))
    else:
        weights = (_hat_area(offsets + width / 2) - _hat_area(offsets - width / 2)) / width
    rows = np.repeat(np.arange(new_size), candidates.shape[1])
    matrix = sparse.coo_array(
        (weights.ravel(), (rows, np.clip(candidates, 0, size - 1).ravel())), (new_size, size)
    ).tocsr()  # entries at the same position (the repeated edge) add up
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def _hat_area(end: np.ndarray) -> np.ndarray:
    """Return the area below ``max(0, 1 - |x|)`` up to `end`."""
    inside = np.clip(end, -1, 1)
    return np.asarray(np.where(inside < 0, (1 + inside) ** 2 / 2, 1 - (1 - inside) ** 2 / 2))
