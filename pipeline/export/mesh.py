"""Compute the surface of a label as a smooth triangle mesh, in world millimetres.

Marching cubes on the mask at one half (Lewiner et al. 2003) puts corners half
way between voxel centres, so the surface has steps. Taubin's filter (1995, "A
signal processing approach to fair surface design") removes the steps and,
unlike repeated averaging, does not shrink the surface.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from skimage.measure import marching_cubes

from voxtile.label_values import region_box
from voxtile.volume import Volume

# Taubin 1995, section 4: a pass band of 0.1 and the two weights that give it.
_SHRINK, _GROW = 0.5, -0.526


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles."""

    corners: np.ndarray  # ndarray of float32, shape (n, 3): RAS+ millimetres
    # ndarray of int32, shape (m, 3): indices of corners, counter-clockwise seen from outside.
    triangles: np.ndarray

    @property
    def normals(self) -> np.ndarray:
        """Outward unit vectors, shape (m, 3); 0 for a triangle without area."""
        one, two, three = (self.corners[self.triangles[:, index]] for index in range(3))
        across = np.cross(two - one, three - one)
        lengths = np.linalg.norm(across, axis=1, keepdims=True)
        normals: np.ndarray = np.divide(
            across, lengths, out=np.zeros_like(across), where=lengths > 0
        )
        return normals

    @property
    def volume_ml(self) -> float:
        """Enclosed volume in ml, by the divergence theorem; negative if turned inside out."""
        middle = self.corners.mean(axis=0, dtype=np.float64)
        one, two, three = (
            self.corners[self.triangles[:, index]].astype(np.float64) - middle for index in range(3)
        )
        return float(np.einsum("ij,ij->", one, np.cross(two, three))) / 6 / 1000


def surface(inside: Volume, *, smoothing: int = 15) -> Mesh | None:
    """Return the surface of a mask of bool; None if the mask has no voxel.

    It is closed, also where the mask meets the image's border. `smoothing` is
    the number of passes of Taubin's filter; each shrinks the surface and grows it again.
    """
    box = region_box(inside.array.view(np.uint8), (1,))
    if box is None:
        return None
    # A border of background closes the surface.
    padded = np.pad(inside.array[box].astype(np.float32), 1)
    corners, triangles, _, _ = marching_cubes(padded, 0.5, allow_degenerate=False)
    indices = corners.astype(np.float64) + [side.start - 1 for side in box]
    world = indices @ inside.affine[:3, :3].T + inside.affine[:3, 3]
    # scikit-image turns triangles outward in index space; a flipped axis mirrors them.
    if np.linalg.det(inside.affine[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    mesh = Mesh(_smoothed(world, triangles, smoothing), np.ascontiguousarray(triangles, np.int32))
    return mesh if mesh.volume_ml > 0 else Mesh(mesh.corners, mesh.triangles[:, ::-1])


def _smoothed(corners: np.ndarray, triangles: np.ndarray, passes: int) -> np.ndarray:
    """Return corners after Taubin's filter, float32."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    count = len(corners)
    links = sparse.csr_matrix(
        (np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count)
    )
    links.data[:] = 1  # an edge belongs to two triangles but counts once
    mean = sparse.diags_array(1 / np.maximum(np.diff(links.indptr), 1)) @ links
    # Relative to the middle, because differences of large coordinates lose digits.
    middle = corners.mean(axis=0)
    moved = corners - middle
    for _ in range(passes):
        for weight in (_SHRINK, _GROW):
            moved = moved + weight * (mean @ moved - moved)
    return np.asarray((moved + middle).astype(np.float32))
