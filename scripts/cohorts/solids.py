"""Solids in world millimetres, and the fraction of each voxel that they fill.

A solid is defined by its *level*: negative inside, positive outside, 0 on its
surface. Near the surface a voxel is divided into parts and the parts inside
are counted, as a scanner averages over a voxel; elsewhere the centre of the
voxel decides. So borders are smooth, and the reference of a phantom is where a
solid fills at least half of a voxel.

The world is RAS+: x to the patient's right, y to anterior, z to superior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from voxtile.volume import Shape3D

Point = tuple[float, float, float]
# Parts of a voxel along (i, j, k). Odd, so that no voxel is filled by exactly half.
_PARTS = (3, 3, 3)
# Voxels that are divided at once, so that their parts fit into a core's cache.
_AT_ONCE = 2048
_NO_ROTATION = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Solid(Protocol):
    """A shape, as `occupancy` needs it."""

    @property
    def slope(self) -> float:
        """Maximum change of the level per millimetre."""

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """Least and greatest corner of a box around it."""

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the level at points; the three arrays broadcast."""


# A shape with its intensity and its label (0: no label).
Layer = tuple[Solid, float, int]


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid along any axes.

    Parameters
    ----------
    centre_mm, radii_mm : (x, y, z)
    axes : three unit vectors, default those of the world
        Directions of the radii, at right angles to each other.
    """

    centre_mm: Point
    radii_mm: Point
    axes: tuple[Point, Point, Point] = _NO_ROTATION

    @property
    def slope(self) -> float:
        """1: the level is at most the distance to the surface."""
        return 1.0

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """The box around the ball with the longest radius."""
        return _around(self.centre_mm, max(self.radii_mm))

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return (distance from the centre in radii, minus 1) times the shortest radius."""
        a, b, c = (np.float32(value) for value in self.centre_mm)
        x, y, z = x - a, y - b, z - c
        squares: np.ndarray | None = None
        for radius, axis in zip(self.radii_mm, self.axes, strict=True):
            terms = [
                values * np.float32(part / radius)
                for values, part in zip((x, y, z), axis, strict=True)
                if part
            ]
            square = np.square(sum(terms[1:], terms[0]))
            squares = square if squares is None else squares + square
        assert squares is not None
        return np.asarray((np.sqrt(squares) - np.float32(1)) * np.float32(min(self.radii_mm)))


@dataclass(frozen=True, slots=True)
class Tube:
    """A round tube along a broken line, with round ends.

    Parameters
    ----------
    line_mm : tuple of (x, y, z)
        At least two different points.
    radius_mm : float
    """

    line_mm: tuple[Point, ...]
    radius_mm: float

    @property
    def slope(self) -> float:
        """1: the level is a distance."""
        return 1.0

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """The box of its line, widened by its radius."""
        line = np.array(self.line_mm)
        low, high = line.min(axis=0) - self.radius_mm, line.max(axis=0) + self.radius_mm
        return _point(low), _point(high)

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the distance to the line, minus the radius."""
        nearest: np.ndarray | None = None
        for begin, end in pairwise(self.line_mm):
            along = np.subtract(end, begin)
            a, b, c = (along / (along @ along)).astype(np.float32)
            dx, dy, dz = (
                values - np.float32(start) for values, start in zip((x, y, z), begin, strict=True)
            )
            share = np.clip(dx * a + dy * b + dz * c, 0, 1)
            u, v, w = along.astype(np.float32)
            squares = (dx - share * u) ** 2 + (dy - share * v) ** 2 + (dz - share * w) ** 2
            nearest = squares if nearest is None else np.minimum(nearest, squares)
        assert nearest is not None
        return np.asarray(np.sqrt(nearest) - np.float32(self.radius_mm))


@dataclass(frozen=True, slots=True)
class Union:
    """The union of solids."""

    parts: tuple[Solid, ...]

    @property
    def slope(self) -> float:
        """The slope of the steepest part."""
        return max(part.slope for part in self.parts)

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """The box around all boxes."""
        lows, highs = zip(*(part.bounds_mm for part in self.parts), strict=True)
        return _point(np.min(lows, axis=0)), _point(np.max(highs, axis=0))

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the minimum level of the parts."""
        level = self.parts[0].level_mm(x, y, z)
        for part in self.parts[1:]:
            level = np.minimum(level, part.level_mm(x, y, z))
        return level


@dataclass(frozen=True, slots=True)
class Difference:
    """The solid that is inside `whole` and not inside `hole`."""

    whole: Solid
    hole: Solid

    @property
    def slope(self) -> float:
        """The slope of the steeper solid."""
        return max(self.whole.slope, self.hole.slope)

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """The box of the whole."""
        return self.whole.bounds_mm

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the greater of the whole's level and the negative level of the hole."""
        return np.asarray(np.maximum(self.whole.level_mm(x, y, z), -self.hole.level_mm(x, y, z)))


@dataclass(frozen=True, slots=True)
class Wave:
    """One sine of a `Warped` solid: it moves points along one axis, depending on another.

    Parameters
    ----------
    moved, along : int
        Axes 0, 1, 2 for x, y, z.
    height_mm, length_mm, phase : float
        Amplitude, wavelength, and phase in radians.
    """

    moved: int
    along: int
    height_mm: float
    length_mm: float
    phase: float

    @property
    def steepness(self) -> float:
        """Maximum change of the offset per millimetre."""
        return abs(self.height_mm) * 2 * np.pi / self.length_mm

    def offset(self, values: np.ndarray) -> np.ndarray:
        """Return the offset of points at these coordinates along its axis."""
        angle = values * np.float32(2 * np.pi / self.length_mm) + np.float32(self.phase)
        return np.asarray(np.sin(angle) * np.float32(self.height_mm))


@dataclass(frozen=True, slots=True)
class Warped:
    """A solid in a space that is bent by waves.

    Parameters
    ----------
    waves : tuple of Wave
        Solids with the same waves keep their relative positions.
    """

    solid: Solid
    waves: tuple[Wave, ...]

    @property
    def slope(self) -> float:
        """The slope of the solid, times the largest stretch of space.

        The waves move x + u(x), so the stretch is the norm of 1 + du/dx, which is at most
        1 plus the Frobenius norm of the steepnesses.
        """
        steepness = np.zeros((3, 3))
        for wave in self.waves:
            steepness[wave.moved, wave.along] += wave.steepness
        return self.solid.slope * (1 + float(np.linalg.norm(steepness)))

    @property
    def bounds_mm(self) -> tuple[Point, Point]:
        """The box of the solid, widened by the heights of the waves."""
        low, high = (np.array(corner) for corner in self.solid.bounds_mm)
        for wave in self.waves:
            low[wave.moved] -= abs(wave.height_mm)
            high[wave.moved] += abs(wave.height_mm)
        return _point(low), _point(high)

    def level_mm(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the level of the solid at the points, moved."""
        points = (x, y, z)
        moved = []
        for axis, place in enumerate(points):
            for along, values in enumerate(points):
                offsets = [
                    wave.offset(values)
                    for wave in self.waves
                    if (wave.moved, wave.along) == (axis, along)
                ]
                # Waves along one axis are added while they are one line of numbers, not a grid.
                if offsets:
                    place = place + sum(offsets[1:], offsets[0])
            moved.append(place)
        return self.solid.level_mm(*moved)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Voxels along the world's axes, with the world's origin in their middle.

    Parameters
    ----------
    shape : (i, j, k)
    spacing_mm : (x, y, z)
    """

    shape: Shape3D
    spacing_mm: Point

    @property
    def axes_mm(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxel centres along x, y and z, as float32, in shapes that broadcast to the grid."""
        x, y, z = (
            ((np.arange(size) - (size - 1) / 2) * step).astype(np.float32)
            for size, step in zip(self.shape, self.spacing_mm, strict=True)
        )
        return x[:, None, None], y[None, :, None], z[None, None, :]


def occupancy(solid: Solid, grid: Grid) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Return the fraction of each voxel that a solid fills.

    Returns
    -------
    box : three slices
        The voxels that it can reach.
    share : ndarray of float32, in [0, 1], shape of the box
        In steps of 1/27: the 3 x 3 x 3 parts of a voxel are inside or not.
    """
    low, high = solid.bounds_mm
    spacing = np.array(grid.spacing_mm)
    box, axes = [], []
    for axis, values in enumerate(grid.axes_mm):
        places = values.ravel()
        begin = int(np.searchsorted(places, low[axis] - spacing[axis]))
        end = int(np.searchsorted(places, high[axis] + spacing[axis]))
        box.append(slice(begin, end))
        axes.append(places[begin:end].reshape([-1 if i == axis else 1 for i in range(3)]))
    level = np.broadcast_to(solid.level_mm(*axes), [len(axis.ravel()) for axis in axes])
    share = (level < 0).astype(np.float32)
    # No surface passes through a voxel if it is further from the centre than the corners are.
    near = np.nonzero(np.abs(level) <= solid.slope * np.linalg.norm(spacing) / 2)
    across, along, up = _parts(grid.spacing_mm)
    for begin in range(0, near[0].size, _AT_ONCE):
        some = tuple(index[begin : begin + _AT_ONCE] for index in near)
        x, y, z = (axis.ravel()[index, None] for axis, index in zip(axes, some, strict=True))
        # Axes are combined as late as possible: a wave along one axis needs 3 sines, not 27.
        inside = solid.level_mm(
            (x + across)[:, :, None, None],
            (y + along)[:, None, :, None],
            (z + up)[:, None, None, :],
        )
        share[some] = (inside < 0).mean(axis=(1, 2, 3), dtype=np.float32)
    return (box[0], box[1], box[2]), share


def rotation(degrees: Point) -> tuple[Point, Point, Point]:
    """Return three unit vectors: the world's axes rotated about x, then y, then z."""
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    columns = (about_z @ about_y @ about_x).T
    return _point(columns[0]), _point(columns[1]), _point(columns[2])


def _parts(spacing_mm: Sequence[float]) -> list[np.ndarray]:
    """Return for each axis the centres of the parts of a voxel, relative to its centre, in mm."""
    return [
        (((np.arange(count) + 0.5) / count - 0.5) * step).astype(np.float32)
        for count, step in zip(_PARTS, spacing_mm, strict=True)
    ]


def _around(centre: Point, reach: float) -> tuple[Point, Point]:
    """Return the corners of a cube."""
    return _point(np.subtract(centre, reach)), _point(np.add(centre, reach))


def _point(values: np.ndarray) -> Point:
    """Return three plain numbers."""
    x, y, z = values.tolist()
    return x, y, z
