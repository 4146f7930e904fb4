"""Grids of every orientation, and what SimpleITK reads of a file, for tests of formats."""

from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path

import numpy as np
import SimpleITK

from voxtile.volume import Volume, grid_difference

SHAPE = (5, 4, 3)
KINDS = ("plain", "oblique", "anisotropic")
VOXELS = np.random.default_rng(0).integers(-500, 500, SHAPE).astype(np.int16)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affines(kind: str) -> Iterator[np.ndarray]:
    """Yield an affine in RAS for each of the 48 orders and directions of the axes."""
    spacing = (0.7, 1.3, 4.1) if kind == "anisotropic" else (1.5, 1.5, 1.5)
    tilt = np.eye(3)
    if kind != "plain":
        for angle, (one, other) in ((0.3, (0, 1)), (-0.2, (1, 2)), (0.1, (0, 2))):
            turn = np.eye(3)
            turn[[one, one, other, other], [one, other, one, other]] = (
                np.cos(angle),
                -np.sin(angle),
                np.sin(angle),
                np.cos(angle),
            )
            tilt = tilt @ turn
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = tilt @ (np.eye(3)[:, order] * signs) * spacing
        affine[:3, 3] = (-31.5, 17.25, 112.125)
        yield affine


def by_simpleitk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and affine in RAS as SimpleITK reads them."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, LPS @ affine


def to_simpleitk(array: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """An image of SimpleITK with an affine in RAS."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def assert_same(volume: Volume, voxels: np.ndarray, affine: np.ndarray, within=1e-3) -> None:
    """Voxels are equal, and every corner is at its place."""
    np.testing.assert_array_equal(volume.array, voxels)
    assert grid_difference(volume.shape, volume.affine, affine).position_mm < within


def next_affine() -> np.ndarray:
    """One oblique affine, for tests of something else."""
    return next(affines("oblique"))
