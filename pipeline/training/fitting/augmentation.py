"""Vary training tiles: their geometry on the plane, and their intensities.

Pure functions on arrays, with a seeded generator. The geometry of a tile is
drawn once, as a `Warp`, and the tile is read from the whole plane, so that a
rotated tile shows anatomy at its edges and not padding:

    plane  +-----------------+
           |     /-----.     |
           |    / tile /     |     image: linear interpolation
           |   '-----/       |     label: nearest pixel
           +-----------------+

All neighbour slices of a tile and its label move together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from voxtile.volume import Shape2D

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much training tiles are varied.

    The kinds follow nnU-Net (Isensee et al. 2021, "nnU-Net", supplementary note 4), with
    smaller and rarer variations by default, which suit training runs of minutes. Values are
    drawn uniformly from the ranges; a frequency is the fraction of tiles that a kind of
    variation changes.
    """

    rotation_deg: float = 10.0  # largest angle in both directions
    scale: Range = (0.9, 1.1)  # (low, high): magnification; its logarithm is drawn uniformly
    # Largest additional magnification of one axis relative to the other, as a fraction.
    stretch: float = 0.05
    # Standard deviation of the shift of each control point, in mm; None: by rule, else one pixel.
    elastic_mm: float | None = None
    elastic_spacing: int = 16  # pixels between control points
    # Largest shift of a tile, as a fraction of the tile, if the plane is not larger than the tile.
    shift: float = 0.05
    # Frequency of each kind of geometric variation, and of each kind of intensity variation.
    geometry_rate: float = 0.3
    intensity_rate: float = 0.1
    noise: float = 0.15  # largest standard deviation, as a fraction of the tile's own
    blur_pixels: Range = (0.4, 0.9)  # (low, high): standard deviation of a Gaussian
    # (low, high): fraction of the rows and columns that remain before a tile is resized to its
    # old size.
    low_resolution: Range = (0.5, 1.0)
    brightness: float = 0.2  # largest offset, as a fraction of the tile's standard deviation
    # (low, high): factor of the differences from the tile's mean; exponent of the tile in [0, 1].
    contrast: Range = (0.75, 1.3)
    gamma: Range = (0.7, 1.5)

    @classmethod
    def none(cls) -> "Augmentation":
        """Return the augmentation that changes nothing."""
        return cls(geometry_rate=0, intensity_rate=0, shift=0)

    @classmethod
    def strong(cls) -> "Augmentation":
        """Return the augmentation for training runs that see each plane very often."""
        return cls(
            rotation_deg=20.0,
            scale=(0.8, 1.25),
            stretch=0.1,
            geometry_rate=0.7,
            intensity_rate=0.2,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Where the pixels of a tile are read on a plane."""

    angle_deg: float = 0.0  # rotation of the tile on the plane
    # (rows, columns): magnification of the image in the tile.
    scale: tuple[float, float] = (1.0, 1.0)
    # ndarray of float, shape (m, n, 2), or None: shifts (rows, columns) of the control points of a
    # cubic B-spline over the tile, in mm (free-form deformation, Rueckert et al. 1999, section
    # III.B).
    control_mm: np.ndarray | None = None

    @property
    def turn(self) -> np.ndarray:
        """Rotation and scaling of offsets (rows, columns) from a tile's middle, in mm."""
        cosine, sine = np.cos(np.radians(self.angle_deg)), np.sin(np.radians(self.angle_deg))
        turn: np.ndarray = np.array([[cosine, -sine], [sine, cosine]]) / np.asarray(self.scale)
        return turn


def draw_warp(
    rng: np.random.Generator, tile: Shape2D, spacing_mm: tuple[float, float], how: Augmentation
) -> Warp:
    """Return a random warp for a tile on a plane with this (rows, columns) spacing."""
    angle, scale, control = 0.0, (1.0, 1.0), None
    if rng.random() < how.geometry_rate:
        angle = rng.uniform(-how.rotation_deg, how.rotation_deg)
    if rng.random() < how.geometry_rate:
        common = rng.uniform(*np.log(how.scale))
        stretch = rng.uniform(-1, 1) * np.log1p(how.stretch) / 2
        scale = float(np.exp(common + stretch)), float(np.exp(common - stretch))
    elastic_mm = min(spacing_mm) if how.elastic_mm is None else how.elastic_mm
    if rng.random() < how.geometry_rate and elastic_mm > 0:
        control = rng.normal(0, elastic_mm, (*control_points(tile, how), 2))
        # Control points cannot fold the tile when they move less than about 0.4 of their
        # distance (Choi and Lee 2000, "Injectivity conditions of 2D and 3D uniform cubic B-spline
        # functions").
        reach = 0.4 * how.elastic_spacing * np.asarray(spacing_mm)
        control = np.minimum(np.maximum(control, -reach), reach)  # `clip` takes much longer
    return Warp(angle, scale, control)


def control_points(tile: Shape2D, how: Augmentation) -> Shape2D:
    """Return how many rows and columns of control points a tile has."""
    rows, columns = (-(-size // how.elastic_spacing) + 3 for size in tile)
    return rows, columns


def coordinates(
    tile: Shape2D, centre: tuple[float, float], warp: Warp, spacing_mm: tuple[float, float]
) -> np.ndarray:
    """Return where each pixel of a tile is read on its plane: (row, column), perhaps outside.

    The result is float32, (2, rows, columns). `centre` is the point of the plane that the middle of
    the tile shows, in pixels; the middle of a tile of 4 pixels is 1.5. The rotation is done in mm,
    with `spacing_mm` (rows, columns) of the plane, so that nothing is sheared.
    """
    offsets = [np.arange(size) - (size - 1) / 2 for size in tile]
    moved = np.stack(np.meshgrid(*offsets, indexing="ij"))
    spacing = np.asarray(spacing_mm, float).reshape(2, 1, 1)
    if warp.angle_deg or warp.scale != (1.0, 1.0):
        moved = np.tensordot(warp.turn, moved * spacing, 1) / spacing
    if warp.control_mm is not None:
        rows, columns = (
            spline_basis(size, points)
            for size, points in zip(tile, warp.control_mm.shape, strict=False)
        )
        shift = np.einsum("rm,mnd,cn->drc", rows, warp.control_mm, columns, optimize=True)
        moved = moved + shift / spacing
    return np.asarray((moved + np.reshape(centre, (2, 1, 1))).astype(np.float32))


def read_linear(plane: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Interpolate a plane linearly; outside the plane, use the value at its edge.

    The plane is float32, (rows, columns, channels); `where`, float32, (2, ...), has row and column
    to read, in pixels; the result is float32, (..., channels).
    """
    rows, columns, channels = plane.shape
    corner, part = [], []
    for axis, size in ((0, rows), (1, columns)):
        inside = np.clip(where[axis], 0, size - 1)
        first = np.minimum(inside.astype(np.intp), max(size - 2, 0))
        corner.append(first)
        part.append((inside - first)[..., np.newaxis])
    flat = plane.reshape(rows * columns, channels)
    start = corner[0] * columns + corner[1]
    below, right = columns * (rows > 1), int(columns > 1)
    top = flat[start] * (1 - part[1]) + flat[start + right] * part[1]
    bottom = flat[start + below] * (1 - part[1]) + flat[start + below + right] * part[1]
    return np.asarray(top * (1 - part[0]) + bottom * part[0])


def read_nearest(plane: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the values of the pixels nearest to `where`; outside the plane, use its edge."""
    rows, columns = (
        np.clip(np.rint(where[axis]).astype(np.intp), 0, size - 1)
        for axis, size in enumerate(plane.shape)
    )
    return np.asarray(plane[rows, columns])


def flip(
    image: np.ndarray, label: np.ndarray, axes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return views of a tile, mirrored along rows (0), columns (1) or neighbour slices (2)."""
    return np.flip(image, tuple(axes)), np.flip(label, tuple(axis for axis in axes if axis < 2))


@dataclass(frozen=True, slots=True, eq=False)
class Variation:
    """How the intensities of a channel of a tile change, in this order; the defaults do nothing."""

    blur_pixels: float = 0.0  # standard deviation of a Gaussian
    brightness: float = 0.0  # offset, as a fraction of the channel's standard deviation
    contrast: float = 1.0
    gamma: float = 1.0
    inverted: bool = False  # whether gamma corrects the negative
    noise: float = 0.0  # standard deviation, as a fraction of the channel's
    # The noise itself, with standard deviation 1, or the seed from which a device makes it.
    pattern: np.ndarray | int = 0
    low_resolution: float = 1.0  # fraction of the rows and columns that remain


def draw_variation(
    rng: np.random.Generator, how: Augmentation, shape: Sequence[int] | None
) -> Variation:
    """Return a random variation of a channel of this shape; without a shape, noise has a seed."""
    drawn: dict[str, Any] = {}
    if rng.random() < how.intensity_rate:
        drawn["blur_pixels"] = rng.uniform(*how.blur_pixels)
    if rng.random() < how.intensity_rate:
        drawn["brightness"] = rng.uniform(-how.brightness, how.brightness)
    if rng.random() < how.intensity_rate:
        drawn["contrast"] = rng.uniform(*how.contrast)
    if rng.random() < how.intensity_rate:
        drawn["gamma"], drawn["inverted"] = rng.uniform(*how.gamma), rng.random() < 0.5
    if rng.random() < how.intensity_rate:
        drawn["noise"] = rng.uniform(0, how.noise)
        drawn["pattern"] = (
            int(rng.integers(2**31))
            if shape is None
            else rng.standard_normal(tuple(shape), np.float32)
        )
    if rng.random() < how.intensity_rate:
        drawn["low_resolution"] = rng.uniform(*how.low_resolution)
    return Variation(**drawn)


def vary_intensity(image: np.ndarray, variations: Sequence[Variation]) -> np.ndarray:
    """Return a tile with another brightness, contrast, gamma, sharpness, noise and resolution.

    Channels (last axis) vary independently, because they are different contrasts of
    the same anatomy. Neighbour slices vary together, because they are of the same scan.
    """
    varied = np.array(image, np.float32)
    for channel, how in enumerate(variations):
        part = varied[..., channel]
        deviation = float(part.std())
        part = blur(part, how.blur_pixels)
        if how.brightness:
            part = part + np.float32(how.brightness * deviation)
        part = contrast(part, how.contrast)
        part = gamma(part, how.gamma, inverted=how.inverted)
        if how.noise:
            part = part + np.float32(how.noise * deviation) * how.pattern
        varied[..., channel] = low_resolution(part, how.low_resolution)
    return varied


def blur(image: np.ndarray, sigma_pixels: float) -> np.ndarray:
    """Return the image smoothed by a Gaussian along rows and columns; 0 changes nothing."""
    if sigma_pixels <= 0:
        return image
    for axis in (0, 1):
        image = gaussian_filter1d(image, sigma_pixels, axis=axis, mode="nearest", truncate=3)
    return image


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Return the image stretched about its mean, clipped to its range; 1 changes nothing."""
    if factor == 1:
        return image
    mean = image.mean()
    stretched: np.ndarray = np.clip(
        (image - mean) * np.float32(factor) + mean, image.min(), image.max()
    )
    return stretched


def gamma(image: np.ndarray, exponent: float, *, inverted: bool = False) -> np.ndarray:
    """Return the image with a gamma correction inside its range; 1 changes nothing.

    `inverted` corrects the negative of the image, so that bright pixels change
    more than dark ones.
    """
    low, high = image.min(), image.max()
    if exponent == 1 or high <= low:
        return image
    unit = (high - image if inverted else image - low) / (high - low)
    bent = np.power(unit, np.float32(exponent)) * (high - low)
    bent = high - bent if inverted else bent + low
    return np.asarray(bent.astype(np.float32, copy=False))


def low_resolution(image: np.ndarray, share: float) -> np.ndarray:
    """Return the image as a coarser scan would show it, in the same size; 1 changes nothing.

    Pixels are left out, so that a fraction of the rows and columns remains; then the
    image is interpolated (nnU-Net's SimulateLowResolution). Neighbour slices, along
    the last axis, are not mixed.
    """
    small = remaining(image.shape[:2], share)
    if small == image.shape[:2]:
        return image
    rows, columns = (np.linspace(0, n - 1, k) for n, k in zip(image.shape, small, strict=False))
    coarse = image[np.rint(rows).astype(np.intp)][:, np.rint(columns).astype(np.intp)]
    back = (np.linspace(0, k - 1, n) for n, k in zip(image.shape, small, strict=False))
    where = np.meshgrid(*back, indexing="ij")
    return read_linear(coarse, np.stack(where).astype(np.float32))


def remaining(shape: Sequence[int], share: float) -> Shape2D:
    """Return how many rows and columns remain in a lower resolution."""
    rows, columns = (max(1, round(size * share)) for size in shape)
    return rows, columns


@lru_cache(maxsize=32)
def spline_basis(size: int, points: int) -> np.ndarray:
    """Return the weight of each control point of a uniform cubic B-spline at each pixel."""
    position = (np.arange(size) + 0.5) / size * (points - 3)
    distance = np.abs(position[:, np.newaxis] + 1 - np.arange(points))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    basis: np.ndarray = np.where(distance < 1, near, far)
    basis.setflags(write=False)
    return basis
