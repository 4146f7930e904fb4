"""Bring a plane to another pixel spacing and back, between pixel centres.

Two grids of different spacing share their middle. The new one reaches at
least to the outermost centres of the old one, so that bringing probabilities
back only ever interpolates:

    old    o       o       o       o          spacing 1.0
    new  x     x     x     x     x     x      spacing 0.75

A separate matrix for rows and columns does it all: linear interpolation, and
a triangle filter as wide as the new pixels where a grid shrinks (anti-alias).
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy import sparse

Shape2D = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Resampler:
    """Two linear maps, from one grid of a plane to another.

    Parameters
    ----------
    rows, columns : csr_array of float32, shape (new, old)
        Weights of the old rows (columns) in each new one; they sum to one.
    """

    rows: sparse.csr_array
    columns: sparse.csr_array

    @property
    def shape(self) -> Shape2D:
        """Size of the resampled plane."""
        return self.rows.shape[0], self.columns.shape[0]

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """Return the plane on the new grid, float32, shape (rows, columns, channels)."""
        rows, columns, channels = plane.shape
        tall = self.rows @ plane.reshape(rows, columns * channels)
        turned = tall.reshape(-1, columns, channels).transpose(1, 0, 2).reshape(columns, -1)
        wide = self.columns @ turned
        result: np.ndarray = wide.reshape(self.columns.shape[0], -1, channels).transpose(1, 0, 2)
        return np.ascontiguousarray(result)


def resampled_size(size: int, spacing_mm: float, new_spacing_mm: float) -> int:
    """Return how many pixels of the new spacing reach over all old centres.

    Examples
    --------
    >>> resampled_size(4, 1.0, 0.75), resampled_size(4, 1.0, 1.0), resampled_size(1, 1.0, 0.5)
    (5, 4, 1)
    """
    return 1 + ceil(round((size - 1) * spacing_mm / new_spacing_mm, 6))


def resamplers(
    shape: Shape2D, spacing_mm: tuple[float, float], new_spacing_mm: tuple[float, float]
) -> tuple[Resampler, Resampler]:
    """Return the way to the new spacing and the way back.

    Parameters
    ----------
    shape : (rows, columns)
        Size of the plane, in pixels.
    spacing_mm, new_spacing_mm : (rows, columns)
        Distance between pixel centres, in mm.
    """
    there = []
    back = []
    for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True):
        after = resampled_size(size, old, new)
        there.append(_weights(size, after, new / old))
        back.append(_weights(after, size, old / new))
    return Resampler(*there), Resampler(*back)


def _weights(size: int, new_size: int, step: float) -> sparse.csr_array:
    """Return the interpolation matrix for new pixels `step` old pixels apart."""
    centres = (np.arange(new_size) - (new_size - 1) / 2) * step + (size - 1) / 2
    reach = max(1.0, step)
    first = np.floor(centres - reach).astype(int)
    candidates = first[:, np.newaxis] + np.arange(int(np.ceil(2 * reach)) + 2)
    weights = np.maximum(0, 1 - np.abs(candidates - centres[:, np.newaxis]) / reach)
    weights[(candidates < 0) | (candidates >= size)] = 0
    # A centre beyond the edge takes the edge: what is left of the weights is rescaled to one.
    outside = weights.sum(axis=1) == 0
    candidates = np.clip(candidates, 0, size - 1)
    weights[outside, 0] = 1
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(new_size), candidates.shape[1])
    matrix = sparse.coo_array(
        (weights.ravel().astype(np.float32), (rows, candidates.ravel())), (new_size, size)
    ).tocsr()
    matrix.eliminate_zeros()
    return matrix
