"""Find the file and frame of every slice of a volume.

A DICOM segmentation refers to the slices it was drawn on. Runs in the child
process, as reading does.
"""

from pathlib import Path

import numpy as np

from voxtile.errors import CaseError
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume

from .series import find_stack


def sources_here(workspace: Workspace, path: Path, policy: ReadPolicy) -> Scan:
    """Return the sources of the slices as a scan, whose voxels travel between processes.

    Returns
    -------
    Scan of int32, shape (1, 1, slices, 4)
        Number of the file in name order, frame from 0, rows and columns of
        each slice; file 0 for a missing slice. The affine is the volume's.

    Raises
    ------
    CaseError
        As reading the series does; ``mosaic_source`` if slices are tiles of one image.
    """
    found = find_stack(workspace, path, policy)
    stack = found.stack
    if any(
        (piece.rows, piece.columns) != (piece.store.rows, piece.store.columns)
        for piece in stack.slices
    ):
        raise CaseError(
            "mosaic_source",
            "the series is a mosaic: one image holds all slices, and DICOM cannot refer to a "
            "part of an image; export the series as single slices",
        )
    table = workspace.allocate((4, stack.planes[-1] + 1, 1, 1), np.dtype(np.int32))
    table[2], table[3] = stack.slices[0].rows, stack.slices[0].columns
    for plane, piece in zip(stack.planes, stack.slices, strict=True):
        table[0, plane], table[1, plane] = piece.store.place.number, piece.frame
    return Scan(Volume(table.T, stack.affine), found.notices)
