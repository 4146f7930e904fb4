"""Mask -> cleaner mask: one label of a division per plane, no small parts, holes filled.

    mask  ->  divided by planes
      |
      v
    parts of each label's region  ->  small ones become 0
      ^                                       |
      +--  holes take the value around them --+     until nothing changes
      |
      v
    divided again: a hole across a border took one value; then cleaned again if that
    changed anything

Some structures are divided by planes: the hippocampus into anterior and
posterior by a coronal plane, a vessel or a muscle into thirds along its length.
Their references have one label in each plane, and a network that decides voxel
by voxel leaves a ragged border there.

All steps work in 3D, on the finished label map. With overlapping regions every
label was written before, so a removed voxel becomes 0, whichever label it had
replaced. Regions are handled one at a time, cropped to their box, so this needs
less memory than a second mask.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from voxtile.label_values import label_values, region_box
from voxtile.models.spec import Cleaning, Division, ModelSpec
from voxtile.scoring.components import find_components
from voxtile.volume import Volume, canonical_axes

_FACES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
# Relative tolerance, so that no part of exactly the minimum volume is lost to a rounding error.
_ROUNDING = 1e-9
# Maximum number of times that a cleaned mask is divided again. Two were enough for every mask that
# was tried. Without a limit, a removed part could leave a hole that is filled and removed for ever.
_DIVISIONS = 4


def clean(mask: Volume, spec: ModelSpec) -> Volume:
    """Return a mask that is divided, and cleaned of parts and holes, as its spec says.

    Parts are connected over faces, edges and corners (26-neighbourhood, as
    `components_pred` of a report counts them), and belong to a label's region:
    to its value, or for overlapping regions to any of its values. Parts as
    large as the last one that stays also stay.

    A hole is a piece of background, connected over faces, that touches neither
    the border of the scan nor any value outside the region. It takes the most
    common value around it (the smaller of two that are equally common).

    The mask, uint8 or uint16, (i, j, k), may have any orientation; an oblique or sheared grid has
    voxels of ``|det affine|`` mm3. The result is on the same grid, in the same storage order, and
    has no new value. Cleaning it again changes nothing. It is `mask` itself if the spec asks for
    nothing.

    Examples
    --------
    >>> from voxtile.models.spec import Label, ModelSpec, Network
    >>> spec = ModelSpec(
    ...     name="x", tile=(8, 8), activation="sigmoid",
    ...     labels=(Label(value=1, name="organ", color="#ff0000"),),
    ...     networks=(Network(file="x.keras", sha256="0" * 64, views=("axial",)),),
    ...     postprocess=(Cleaning(label=1, largest=1),),
    ... )
    >>> clean(Volume(np.array([[[1, 1, 0, 1]]], np.uint8), np.eye(4)), spec).array.tolist()
    [[[1, 1, 0, 0]]]
    """
    if not spec.postprocess and not spec.divisions:
        return mask
    values = {label.value: label.values for label in spec.labels}
    closed = [values[step.label] for step in spec.postprocess if step.fill_holes]
    array = np.array(mask.array, order="K")
    canonical = canonical_axes(mask.affine).apply(array)
    divide(canonical, spec.divisions)
    # Finding parts is fastest with a contiguous last axis.
    turned = array.transpose(np.argsort(np.abs(array.strides), stable=True)[::-1])
    voxel_mm3 = 1000 * mask.voxel_volume_ml
    # Removing a part of one region may open a hole, or split a part of another region. The loop
    # ends: every removal leaves fewer pieces of equal value, and filling adds none.
    for _ in range(_DIVISIONS):
        while any(
            [
                *(
                    _remove_parts(turned, values[step.label], step, voxel_mm3)
                    for step in spec.postprocess
                ),
                *(_fill_holes(turned, region) for region in closed),
            ]
        ):
            pass
        # A hole across a division's border was filled with the same value on both sides.
        if not _divide_again(canonical, spec.divisions):
            break
    return mask.with_array(array)


def divide(array: np.ndarray, divisions: Sequence[Division]) -> None:
    """Give each plane one label of each division, in place.

    All voxels of a plane that have a label of the division take the label that
    most of them have; if two labels have equally many voxels, the one named first.

    `array`, uint8 or uint16, (R, A, S), may be a view. Divisions are applied in order.

    Examples
    --------
    >>> array = np.array([[[1, 1, 2]], [[2, 1, 2]], [[0, 0, 0]]], np.uint8)
    >>> divide(array, [Division(axis="R", labels=(1, 2))])
    >>> array.tolist()
    [[[1, 1, 1]], [[2, 2, 2]], [[0, 0, 0]]]
    """
    for division in divisions:
        box = region_box(array, division.labels)
        if box is None:
            continue
        for plane in np.moveaxis(array[box], "RAS".index(division.axis), 0):
            voxels = [np.count_nonzero(plane == value) for value in division.labels]
            if np.count_nonzero(voxels) > 1:
                plane[np.isin(plane, division.labels)] = division.labels[int(np.argmax(voxels))]


def _divide_again(array: np.ndarray, divisions: Sequence[Division]) -> bool:
    """Divide a cleaned mask by planes; return whether that changed it."""
    if not divisions:
        return False
    before = array.copy()
    divide(array, divisions)
    return not np.array_equal(array, before)


def _remove_parts(
    array: np.ndarray, region: Sequence[int], step: Cleaning, voxel_mm3: float
) -> bool:
    """Set the parts of a region that do not stay to 0; return whether there were any."""
    if step.largest is None and not step.smallest_mm3:
        return False
    box = region_box(array, region)
    if box is None:
        return False
    crop = array[box]
    parts = find_components(np.ascontiguousarray(np.isin(crop, region)))
    voxels = parts.voxels
    stays = voxels * voxel_mm3 >= step.smallest_mm3 * (1 - _ROUNDING)
    if step.largest is not None:
        last = np.sort(voxels)[::-1][min(step.largest, parts.count) - 1]
        stays &= voxels >= last
    if stays.all():
        return False
    goes = ~stays[parts.component]
    # A run of voxels is +1 where it starts and -1 where it stops, always on the same line.
    edges = np.zeros((*crop.shape[:2], crop.shape[2] + 1), np.int8)
    edges.reshape(-1)[parts.runs.starts[goes]] = 1
    edges.reshape(-1)[parts.runs.stops[goes]] = -1
    crop[np.cumsum(edges, axis=-1, dtype=np.int8)[..., :-1] > 0] = 0
    return True


def _fill_holes(array: np.ndarray, region: Sequence[int]) -> bool:
    """Fill the holes of a region; return whether there were any."""
    box = region_box(array, region)
    if box is None:
        return False
    crop = array[box]
    # Background that reaches a face of the region's box is connected to the outside: no hole.
    pieces, count = ndimage.label(crop == 0)
    inside = np.ones(count + 1, bool)
    inside[0] = False
    for axis in range(3):
        for face in (0, -1):
            inside[np.unique(pieces.take(face, axis))] = False
    if not inside.any():
        return False
    background = np.argwhere(inside[pieces])
    # A row for each piece of background inside, a column for each value that occurs.
    row = np.cumsum(inside) - 1
    values = np.array(label_values(crop), crop.dtype)
    column = np.zeros(int(values[-1]) + 1, np.intp)
    column[values] = np.arange(values.size)
    of = row[pieces[tuple(background.T)]]
    around = np.zeros((np.count_nonzero(inside), values.size), np.int64)
    for step in _FACES:
        np.add.at(around, (of, column[crop[tuple((background + step).T)]]), 1)
    around[:, 0] = 0  # background
    holes = around[:, ~np.isin(values, region)].sum(axis=1) == 0
    filled = holes[of]
    crop[tuple(background[filled].T)] = values[around.argmax(axis=1)][of[filled]]
    return bool(filled.any())
