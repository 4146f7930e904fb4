"""Read FreeSurfer's ``.mgz`` and ``.mgh`` files; nibabel parses their header."""

from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader, data_type_codes, header_dtype

from voxtile.errors import CaseError, Notice
from voxtile.volume import Volume

from .scan import ReadPolicy, Scan
from .stream import Stream
from .voxels import Layout, Voxels, no_voxels, pick_volume, read_voxels

# FreeSurfer appends scan parameters, a table of colours, and the commands that made the file.
_SLACK = 2**24


def read_mgh(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read an MGH file, compressed or not; the world is RAS, as in FreeSurfer's scanner space.

    Raises
    ------
    CaseError
        As `read_nifti`.
    """
    return _read(path, policy or ReadPolicy(), read_voxels)


def survey_mgh(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_mgh` would, from the header alone: all voxels are 0."""
    return _read(path, policy or ReadPolicy(), no_voxels)


def _read(path: Path, policy: ReadPolicy, voxels_of: Voxels) -> Scan:
    """Return a scan with the voxels that `voxels_of` reads."""
    name = path.name
    try:
        with Stream(path, "not_mgh", "an MGH file") as file:
            block = file.read(header_dtype.itemsize)
            if len(block) < header_dtype.itemsize or block[:4] != b"\0\0\0\1":
                raise CaseError(
                    "not_mgh", f"{name} does not begin as an MGH file; convert it again"
                )
            header = MGHHeader(block, check=False)
            layout = _layout(header, name)
            stored = voxels_of(file, layout, len(block))
    except OSError as error:
        raise CaseError(
            "unreadable", f"{name} cannot be read ({error.strerror or error})"
        ) from error
    notices = []
    if not np.frombuffer(block, header_dtype)["goodRASFlag"][0]:
        sentence = (
            f"{name}: the header gives no orientation; read as coronal, as FreeSurfer does, so "
            "left and right may be swapped"
        )
        notices.append(Notice("no_orientation", sentence))
    try:
        volume = Volume(pick_volume(stored, policy, name), header.get_affine())
    except ValueError as error:
        raise CaseError("bad_affine", f"{name}: {error}; write its position again") from error
    return Scan(volume, tuple(notices))


def _layout(header: MGHHeader, name: str) -> Layout:
    """Return the voxels that a header promises."""
    shape = tuple(int(size) for size in header["dims"])
    code = int(header["type"])
    if min(shape) < 1:
        raise CaseError(
            "bad_header", f"{name}: the header states dimensions {shape}, but all must be positive"
        )
    if code not in data_type_codes.code:
        raise CaseError("not_scalar", f"{name} has voxels of type {code}, which is not supported")
    dtype = np.dtype(data_type_codes.numpy_dtype[code])
    return Layout(shape, dtype, DATA_OFFSET, slack=_SLACK)
