"""Find the file and frame of every slice of a volume. Runs in the child process."""

from pathlib import Path

import numpy as np

from voxtile.errors import CaseError
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume

from .series import find_stack


def sources_here(workspace: Workspace, path: Path, policy: ReadPolicy) -> Scan:
    """Return the sources of the slices as a scan, because a scan can be sent between processes.

    Returns
    -------
    Scan of int32, shape (1, 1, slices, 4)
        Number of the file in name order, frame from 0, rows and columns of
        each slice; file 0 for a missing slice. The affine is the volume's.
    """
    found = find_stack(workspace, path, policy)
    stack = found.stack
    stores = ((piece, piece.store) for piece in stack.slices)
    if any((one.rows, one.columns) != (store.rows, store.columns) for one, store in stores):
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
