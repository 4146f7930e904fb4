"""Synthetic scans with exact masks: shapes drawn in world millimetres, on any grid.

The demo and the tests use them. A voxel belongs to a shape if its centre is inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxtile.volume import Shape3D, Volume


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """A solid ellipsoid whose axes are the world's axes."""

    centre_mm: tuple[float, float, float]  # (x, y, z) in RAS+ millimetres, like the radii
    radii_mm: tuple[float, float, float]
    intensity: float  # value of its voxels in the image
    label: int = 0  # value of its voxels in the mask; 0 for a distractor


def draw(
    shape: Shape3D,
    affine: np.ndarray,
    solids: Sequence[Ellipsoid],
    *,
    noise: float = 0.0,
    seed: int = 0,
) -> tuple[Volume, Volume]:
    """Draw ellipsoids on a grid.

    The image is int16, the truth uint8. Later solids cover earlier ones, and background has
    intensity 0. `noise` is the standard deviation of Gaussian noise, in units of intensity.
    """
    indices = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ indices + affine[:3, 3:]
    image = np.zeros(indices.shape[1])
    truth = np.zeros(indices.shape[1], np.uint8)
    for solid in solids:
        offset = ((world.T - solid.centre_mm) / solid.radii_mm).T
        inside = np.square(offset).sum(axis=0) <= 1
        image[inside] = solid.intensity
        truth[inside] = solid.label
    image += np.random.default_rng(seed).normal(0, noise, image.shape) if noise else 0
    return (
        Volume(np.rint(image).astype(np.int16).reshape(shape), affine),
        Volume(truth.reshape(shape), affine),
    )


def centred_affine(
    shape: Shape3D,
    spacing_mm: tuple[float, float, float],
    *,
    axes: str = "RAS",
    tilt_degrees: float = 0.0,
) -> np.ndarray:
    """Return the affine of a grid whose middle is at the origin of the world.

    `axes` are the world directions of the storage axes, such as "LPS" or "PIR". `tilt_degrees`
    rotates the whole grid about x and then, by half as much, about z.
    """
    directions = np.zeros((3, 3))
    for axis, letter in enumerate(axes):
        pair = next(number for number, both in enumerate(("RL", "AP", "SI")) if letter in both)
        directions[pair, axis] = 1 if letter in "RAS" else -1
    x, z = np.deg2rad(tilt_degrees), np.deg2rad(tilt_degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ directions @ np.diag(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
