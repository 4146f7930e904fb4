"""A volume: an array of voxels and their positions in the world.

The world is millimetres in RAS+ (x to the patient's right, y to anterior, z
to superior), as in NIfTI. ``affine @ (i, j, k, 1)`` is the centre of voxel
``(i, j, k)``. File formats are not known here.
"""

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

Array = np.ndarray
Shape2D = tuple[int, int]
Shape3D = tuple[int, int, int]
# How far, in voxels, a label or channel may be from the grid of its scan. Scanners round the
# positions of slices, and converters compute the slice spacing from them in different ways.
OFF_GRID = 0.1


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a volume, to compare it with the scan that its label was drawn on.

    Parameters
    ----------
    frames, series : tuple of str
        Pseudonyms of coordinate systems and series; empty if unknown.
    """

    frames: tuple[str, ...] = ()
    series: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An array of voxels with its affine, immutable.

    Parameters
    ----------
    array : ndarray, shape (i, j, k) or (i, j, k, channels)
        Voxels of any real type, in the storage order of the source.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to RAS+ millimetres.
    codes : (sform, qform), default (1, 1)
        Coordinate system, in NIfTI's numbers (1 scanner, 2 aligned, 3
        Talairach, 4 MNI; 0 unknown). A mask has the codes of its scan.
    source : Source
        Source of a scan that was read from DICOM.
    is_picture : bool
        Whether the grid is that of a picture, which has no position in the
        world: another picture of the same size is on the same grid.

    Raises
    ------
    ValueError
        If the array does not have 3 or 4 axes or is empty, or the affine is
        not a finite, invertible (4, 4) matrix.
    """

    array: Array
    affine: Array
    codes: tuple[int, int] = (1, 1)
    source: Source = Source()
    is_picture: bool = False

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or 0 in self.array.shape:
            raise ValueError(
                f"array has shape {self.array.shape}, but a volume needs (i, j, k) or "
                "(i, j, k, channels), all above 0"
            )
        affine = np.array(self.affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"affine {affine.tolist()} must be a finite (4, 4) matrix")
        if not np.array_equal(affine[3], (0, 0, 0, 1)):
            raise ValueError(f"last row of the affine is {affine[3].tolist()}, not [0, 0, 0, 1]")
        if not is_grid(affine):
            raise ValueError(
                f"affine {affine.tolist()} is singular: it gives several voxels one position"
            )
        affine.setflags(write=False)
        array = self.array.view()
        array.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "array", array)

    @property
    def shape(self) -> Shape3D:
        """Voxels along (i, j, k)."""
        i, j, k = self.array.shape[:3]
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along (i, j, k), in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, in millilitres: ``|det affine| / 1000``, right for sheared grids."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def orientation(self) -> str:
        """Nearest world direction of each storage axis, such as ``RAS`` or ``LPS``."""
        axes = canonical_axes(self.affine)
        names = ["?"] * 3
        for world, (storage, flip) in enumerate(zip(axes.order, axes.flips, strict=True)):
            names[storage] = ("RAS", "LPI")[flip][world]
        return "".join(names)

    def with_array(self, array: Array) -> "Volume":
        """Return a volume on the same grid with other voxels.

        ValueError if the spatial shape differs.
        """
        if array.shape[:3] != self.shape:
            raise ValueError(f"array has shape {array.shape}, but the grid has {self.shape}")
        return replace(self, array=array)


@dataclass(frozen=True, slots=True)
class Axes:
    """A change of storage axes: a permutation, then flips."""

    order: Shape3D  # result axis ``a`` is storage axis ``order[a]``
    flips: tuple[bool, bool, bool]  # whether result axis ``a`` is reversed

    def apply(self, array: Array) -> Array:
        """Return a view of `array` with these axes; axes after the third stay."""
        turned = array.transpose(*self.order, *range(3, array.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def undo(self, array: Array) -> Array:
        """Return a view of `array` in storage order: the inverse of `apply`."""
        turned = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return turned.transpose(*np.argsort(self.order), *range(3, array.ndim))

    def index_affine(self, shape: Shape3D) -> Array:
        """Return the affine from a result index to the storage index, for a storage `shape`."""
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for axis, (source, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            affine[source, axis] = -1 if flip else 1
            affine[source, 3] = shape[source] - 1 if flip else 0
        return affine


def canonical_axes(affine: Array) -> Axes:
    """Return the axes that bring a grid closest to RAS.

    Of the six permutations, this is the one with the largest sum of absolute
    cosines between storage axes and world axes.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    i, j, k = max(
        permutations(range(3)), key=lambda order: np.abs(cosines[range(3), list(order)]).sum()
    )
    r, a, s = (bool(cosines[world, axis] < 0) for world, axis in enumerate((i, j, k)))
    return Axes((i, j, k), (r, a, s))


def axes_to(affine: Array, orientation: str) -> Axes:
    """Return the axes that bring a grid closest to an orientation, such as LPS.

    "stored" changes nothing.
    """
    if orientation == "stored":
        return Axes((0, 1, 2), (False, False, False))
    ras = canonical_axes(affine)
    places = ["RASLPI".index(letter) for letter in orientation]
    i, j, k = (ras.order[place % 3] for place in places)
    first, second, third = (ras.flips[place % 3] != (place > 2) for place in places)
    return Axes((i, j, k), (first, second, third))


def reorient(volume: Volume, axes: Axes) -> Volume:
    """Return the volume with other storage axes; every voxel keeps its position in the world.

    The array is not resampled; it is a view of the input's array.
    """
    return replace(
        volume,
        array=axes.apply(volume.array),
        affine=volume.affine @ axes.index_affine(volume.shape),
    )


def canonical(volume: Volume) -> Volume:
    """Return the volume in the storage order closest to RAS, by a permutation and flips.

    An oblique volume stays oblique. The array is a view.
    """
    return reorient(volume, canonical_axes(volume.affine))


@dataclass(frozen=True, slots=True)
class GridDifference:
    """The difference between two grids of the same shape."""

    position_mm: float  # largest distance between corresponding corners, in mm
    direction: float  # largest difference of an entry of the direction cosines
    # Largest distance of corresponding corners along an axis of the second grid, in voxels of that.
    voxels: float

    def __bool__(self) -> bool:
        """Whether there is a difference: beyond 1e-3 mm or voxels, or 1e-4 in direction."""
        return max(self.position_mm, self.voxels) > 1e-3 or self.direction > 1e-4

    @property
    def tolerable(self) -> bool:
        """Whether voxels of both grids are the same: no corner is further off than `OFF_GRID`.

        An axis of one voxel has no corners to compare, so no axis may be rotated by 6 degrees.
        """
        return self.voxels <= OFF_GRID and self.direction <= 0.1


def grid_difference(shape: Shape3D, one: Array, other: Array) -> GridDifference:
    """Compare two affines over a grid of `shape`."""
    indices = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    indices[:, :3] *= np.array(shape) - 1
    corners = (indices @ (one - other).T)[:, :3]
    cosines = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (one, other)]
    return GridDifference(
        position_mm=float(np.linalg.norm(corners, axis=1).max()),
        direction=float(np.abs(cosines[0] - cosines[1]).max()),
        voxels=float(np.abs(np.linalg.solve(other[:3, :3], corners.T)).max()),
    )


def is_grid(affine: Array) -> bool:
    """Whether an affine is finite and gives every voxel a different position."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the direction cosines does not depend on the unit and the voxel size.
    return bool(
        np.isfinite(affine).all()
        and (lengths > 0).all()
        and abs(np.linalg.det(affine[:3, :3] / lengths)) >= 1e-6
    )


def is_sheared(affine: Array) -> bool:
    """Whether the axes of a grid are not at right angles (beyond 1e-4 in cosine)."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-4)
