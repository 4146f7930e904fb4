"""Label map -> label map on which some labels never share a plane.

Some structures are divided by planes: the hippocampus into anterior and
posterior by a coronal one, a vessel or a muscle into thirds along its length.
Their references have one label a plane, and a network that decides voxel by
voxel leaves a ragged border there.
"""

from collections.abc import Sequence

import numpy as np

from voxtile.label_values import region_box
from voxtile.models.spec import Division


def divide(array: np.ndarray, divisions: Sequence[Division]) -> None:
    """Give each plane one label of each division, in place.

    Of the labels of a division that a plane has, all take the value that the
    most of its voxels have; the one that is named first where two have as
    many.

    Parameters
    ----------
    array : ndarray of uint8 or uint16, shape (R, A, S)
        In canonical order, a view or not.
    divisions : sequence of Division
        Applied in order.

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
