"""Write masks and images as NIfTI files, with the headers of nibabel.

Only this module, reading/nifti.py and reading/mgh.py import nibabel.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from voxtile.machine.files import replacing
from voxtile.reading.nifti import FORM_TOLERANCE_MM, channel_paths
from voxtile.volume import Volume, grid_difference, is_sheared


def write_mask(path: str | Path, mask: Volume) -> None:
    """Write a label map as NIfTI, completely or not at all.

    Parameters
    ----------
    path : str or Path
        Must end in ``.nii.gz`` or ``.nii``.
    mask : Volume of an unsigned integer type, shape (i, j, k)
        Written in its storage order. sform and qform get its affine and its
        codes. If one code is 0, it becomes equal to the other; if both are 0, they
        stay 0. Only the sform is written if the grid is sheared or the rounding of
        the qform would shift a corner by 0.1 mm. All other header fields are
        new: intent ``label``, unit mm, nothing from the source.

    Raises
    ------
    ValueError
        If the array is not 3D with an unsigned integer type, or the name is
        not that of a NIfTI file.
    EnvironmentFault
        If the file cannot be written.
    """
    if mask.array.ndim != 3 or mask.array.dtype.kind != "u":
        raise ValueError(
            f"mask has shape {mask.array.shape} and type {mask.array.dtype}, but a label map needs "
            "3 axes and an unsigned integer type; convert it first"
        )
    header = _fresh_header(mask)
    header.set_intent("label", name="labels")
    header["cal_max"] = int(mask.array.max())
    _write(Path(path), header, mask.array)


def write_volume(
    path: Path,
    volume: Volume,
    *,
    slope: float | None = None,
    let_go: Callable[[], None] = lambda: None,
) -> None:
    """Write the voxels of one channel as NIfTI, as `write_mask` writes a mask.

    The volume, int or float, (i, j, k), is written in its storage order and type. `slope` is
    ``scl_slope``, the value of a stored 1; 1 by default. `let_go` is called after each plane along
    k, so that memory of voxels of a mapped file can be released.
    """
    if volume.array.ndim != 3:
        raise ValueError(f"volume has shape {volume.array.shape}; write one channel at a time")
    header = _fresh_header(volume)
    if slope is not None:
        header["scl_slope"], header["scl_inter"] = slope, 0
    _write(path, header, volume.array, let_go)


def nifti_bytes(volume: Volume) -> bytes:
    """Return the bytes that `write_volume` would write as ``.nii.gz``."""
    buffer = BytesIO()
    _write_gzip(buffer, _fresh_header(volume), volume.array)
    return buffer.getvalue()


def write_channels(
    path: Path, volume: Volume, channels: Sequence[str], missing: Sequence[str] = ()
) -> None:
    """Write an image as NIfTI: one file, or a file ``<name>_<channel>`` for each channel it has."""
    if volume.array.ndim == 3:
        write_volume(path, volume)
        return
    for index, name in enumerate(channel_paths(path, channels)):
        if channels[index] not in missing:
            write_volume(name, volume.with_array(volume.array[..., index]))


def _write(
    path: Path, header: Nifti1Header, array: np.ndarray, let_go: Callable[[], None] = lambda: None
) -> None:
    """Write a file: the header, and then the voxels."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"file name {path.name!r} must end in .nii or .nii.gz")
    with replacing(path) as file:
        if name.endswith(".nii"):
            file.writelines(_file_bytes(header, array, let_go))
            return
        _write_gzip(file, header, array, let_go)


def _write_gzip(
    file: BinaryIO,
    header: Nifti1Header,
    array: np.ndarray,
    let_go: Callable[[], None] = lambda: None,
) -> None:
    """Write a compressed NIfTI file into an open file."""
    # The gzip header has no name and no time, so that equal voxels give equal files.
    with igzip.GzipFile("", "wb", compresslevel=2, fileobj=file, mtime=0) as stream:
        for piece in _file_bytes(header, array, let_go):
            stream.write(piece)


def _fresh_header(volume: Volume) -> Nifti1Header:
    """Return a new header for a volume (NIfTI-2 only where an axis is longer than 32767)."""
    header = Nifti1Header() if max(volume.shape) <= 32767 else Nifti2Header()
    header.set_data_dtype(volume.array.dtype.newbyteorder("="))
    header.set_data_shape(volume.shape)
    header["descrip"] = b"voxtile"
    sform, qform = volume.codes
    header.set_sform(volume.affine, code=sform or qform)
    header.set_qform(volume.affine, code=qform or sform)
    sheared = is_sheared(volume.affine)
    away = grid_difference(volume.shape, volume.affine, header.get_qform()).position_mm
    if sheared or away > FORM_TOLERANCE_MM:
        # A quaternion cannot express shear, and its three float32 are inexact for rotations
        # within 0.001 rad of a half turn (nifti1.h, "orientation and location in space").
        header.set_qform(np.eye(4), code=0)
        header["pixdim"][1:4] = volume.spacing_mm
        header["descrip"] = (
            b"voxtile: sheared grid, see sform" if sheared else b"voxtile: see sform"
        )
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352 if header.sizeof_hdr == 348 else 544
    return header


def _file_bytes(
    header: Nifti1Header, array: np.ndarray, let_go: Callable[[], None]
) -> Iterator[bytes | memoryview]:
    """Yield a file's content: header, no extensions, voxels slab by slab in Fortran order."""
    yield header.binaryblock
    yield bytes(4)
    for k in range(array.shape[2]):
        # No copy if the array is in Fortran order, as volumes from files and masks are.
        yield np.ascontiguousarray(array[:, :, k].T).reshape(-1).view(np.uint8).data
        let_go()
