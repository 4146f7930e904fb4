"""Weight the surface of a mask by its area: the surface Dice as Nikolov et al. 2021 define it.

A point where 8 voxels meet (4 pixels, if the scan has a single plane) is on the surface if some of
them are in the mask and some are not. Marching cubes lays triangles between them; their area is
the weight of the point. Distances are between such points, in mm of the world.

    . . .        . . .
    . # #   ->    +-+-      + points on the surface, half a voxel away from the voxels
    . # #         + #

The numbers are those of DeepMind's surface-distance (Apache License 2.0, version 0.1), whose table
of the areas has the triangles of Lorensen and Cline 1987; of a neighbourhood and its complement,
both have those with the smaller area.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from voxtile.volume import Volume, canonical

from .surface import SLACK_MM, nearest

# The order of the corners of a cube, and with it the bits of a neighbourhood, changes no area.
_CUBE = tuple(product((0, 1), repeat=3))
_MOST_TRIANGLES = 5


@dataclass(frozen=True, slots=True, eq=False)
class WeightedDistances:
    """Distances between two surfaces in both directions, and the area of each point in mm^2.

    (Length in mm if the scan has a single plane.)
    """

    distances_mm: tuple[np.ndarray, np.ndarray]
    areas: tuple[np.ndarray, np.ndarray]

    def nsd(self, tolerance_mm: float) -> float:
        """Return the part of both surfaces, by area, within a tolerance; NaN without a surface."""
        total = sum(float(areas.sum()) for areas in self.areas)
        if not total:
            return float("nan")
        pairs = zip(self.distances_mm, self.areas, strict=True)
        limit = tolerance_mm + SLACK_MM
        return sum(float(areas[mm <= limit].sum()) for mm, areas in pairs) / total


def weigh_surfaces(
    prediction: np.ndarray, reference: np.ndarray, linear: np.ndarray
) -> WeightedDistances:
    """Measure two masks with 1 to 3 axes, as `voxtile.scoring.surface.measure_surfaces` takes them.

    `linear` has a column for each axis, from voxel index to mm.
    """
    if prediction.ndim == 3:  # areas of some bent pieces depend on the order and sense of the axes
        affine = np.eye(4)
        affine[:3, :3] = linear
        both = [canonical(Volume(mask, affine)) for mask in (prediction, reference)]
        prediction, reference = (mask.array for mask in both)
        linear = both[0].affine[:3, :3]
    areas = _areas(linear)
    found = [_surface(mask, linear) for mask in (prediction, reference)]
    (pred, one, code), (ref, other, another) = found
    return WeightedDistances(
        (
            nearest(one, other, np.isin(pred, ref, assume_unique=True)),
            nearest(other, one, np.isin(ref, pred, assume_unique=True)),
        ),
        (areas[code], areas[another]),
    )


def _surface(mask: np.ndarray, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the flat indices, the places in mm and the neighbourhoods of the surface points."""
    padded = np.pad(mask, 1).astype(np.uint8)
    shape = tuple(size + 1 for size in mask.shape)
    codes = np.zeros(shape, np.uint8)
    corners = tuple(product((0, 1), repeat=mask.ndim))
    for bit, corner in enumerate(corners):
        window = tuple(slice(at, at + size) for at, size in zip(corner, shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    flat = np.flatnonzero((codes != 0) & (codes != 2 ** len(corners) - 1))
    points = np.stack(np.unravel_index(flat, shape), axis=1) @ linear.T
    return flat, points, codes.ravel()[flat]


def _areas(linear: np.ndarray) -> np.ndarray:
    """Return the area of the surface in each neighbourhood, by its code."""
    if linear.shape[1] == 3:
        # A linear map takes a vector of an area to its cofactors times the vector.
        cofactors = np.linalg.det(linear) * np.linalg.inv(linear).T
        whole: np.ndarray = np.linalg.norm(_triangles() @ cofactors.T, axis=2).sum(axis=1)
        return whole
    if linear.shape[1] == 1:
        return np.ones(4)
    one, other = linear.T
    lengths = [np.linalg.norm(side) for side in (other, one, (one + other) / 2, (one - other) / 2)]
    along_other, along_one, up, down = map(float, lengths)
    # Corners 00, 01, 10, 11 are bits 0 to 3. A single corner is cut off by half a diagonal.
    table = [0, down, up, along_other, up, along_one, 2 * up, down]
    halves = np.array(table)
    return np.concatenate([halves, halves[::-1]])


@cache
def _triangles() -> np.ndarray:
    """Return the vectors of the triangles' areas in a unit cube, (256, triangles, 3)."""
    from skimage.measure import marching_cubes  # starts slowly

    vectors = np.zeros((256, _MOST_TRIANGLES, 3))
    for code in range(1, 255):
        inside = [code >> bit & 1 for bit in range(8)]
        cube = np.zeros((2, 2, 2))
        for corner, value in zip(_CUBE, inside, strict=True):
            cube[corner] = value
        points, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen", allow_degenerate=False)
        a, b, c = np.moveaxis(points[faces].astype(np.float64), 1, 0)
        found = np.cross(b - a, c - a) / 2
        vectors[code, : len(found)] = found
    sizes = np.linalg.norm(vectors, axis=2).sum(axis=1)
    smaller = sizes <= sizes[::-1] + 1e-9
    return np.where(smaller[:, None, None], vectors, vectors[::-1])
