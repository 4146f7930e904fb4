"""Read NIfTI files. Only this module, reading/mgh.py and writing/nifti.py import nibabel.

nibabel alone does not reach the checksum of a gzip stream, so that most damaged
files give wrong voxels without an error. Here files are decompressed to the end.
"""

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import imageglobals
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from voxtile.errors import CaseError, Notice
from voxtile.volume import Volume, grid_difference, is_grid, is_sheared

from .scan import ReadPolicy, Scan
from .stream import Stream
from .voxels import (
    Layout,
    Voxels,
    hold_promise,
    no_voxels,
    pick_volume,
    promised_bytes,
    read_voxels,
    zeros,
)

_open = partial(Stream, code="not_nifti", needed="a NIfTI file")
# sform and qform are float32, the qform a quaternion; smaller differences are rounding errors.
FORM_TOLERANCE_MM = 0.1
# First bytes of files in other formats, in lower case; the format, and the suffix it needs.
_OTHER_FORMATS = {
    b"nrrd000": ("an NRRD file", ".nrrd"),
    b"objecttype": ("a MetaImage file", ".mha"),
    b"\x89png": ("a PNG picture", ".png"),
    b"\xff\xd8\xff": ("a JPEG picture", ".jpg"),
    b"pk\x03\x04": ("a zip archive", ".zip"),
}
# Units of length other than mm, by their code in xyzt_units, and their size in mm (nifti1.h).
_UNITS = {1: ("metre", 1e3), 3: ("micrometre", 1e-3)}


def read_nifti(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read a NIfTI file: ``.nii``, ``.hdr``/``.img``, version 1 or 2, any endian.

    `path` may be either file of a pair. Compression is recognised by content,
    not by name. NaN is not checked here. Voxels are in storage order with ``scl_slope``
    and ``scl_inter`` applied; integers stay integers if they are not scaled. The
    affine is the sform, else the qform, else nibabel's default, in mm whatever
    the header's unit is.

    Raises
    ------
    CaseError
        If the file is not NIfTI, is damaged or truncated, or has more than one
        volume, an invalid affine, or voxels that are not real numbers.
    """
    return _read(path, policy or ReadPolicy(), read_voxels)


def survey_nifti(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_nifti` would, from the header alone.

    Grid, orientation codes and notices are those of the scan. All voxels are 0
    and take no memory. Voxels and checksum are not read, but a file that is
    shorter than its header promises is refused.
    """
    return _read(path, policy or ReadPolicy(), no_voxels)


def compare_nifti(path: Path, array: np.ndarray) -> tuple[Scan, bool]:
    """Read a file to its end, checksum included, and compare its voxels with an array.

    Only one plane is in memory at a time. Returns the scan as `survey_nifti`
    does, and whether shape, type and every voxel are equal.
    """
    same = False

    def compare(file: Stream, layout: Layout, consumed: int) -> np.ndarray:
        """Compare the voxels in storage order."""
        nonlocal same
        same = layout.shape == array.shape and layout.dtype == array.dtype
        promised = promised_bytes(file, layout)
        got = consumed + file.read_into(memoryview(bytearray(layout.offset - consumed)))
        plane = int(np.prod(layout.shape[:2]))
        stored = np.empty(plane, layout.dtype)
        for k in range(layout.voxels // max(1, plane)):
            got += file.read_into(stored.view(np.uint8).data)
            same = same and np.array_equal(stored, array[..., k].reshape(-1, order="F"))
        hold_promise(got, promised, file.name)
        file.finish(promised)
        return zeros(layout)

    scan = _read(path, ReadPolicy(), compare)
    # Voxels that are scaled by a slope are not equal to the array.
    return scan, same and scan.volume.array.dtype == array.dtype


def _read(path: Path, policy: ReadPolicy, voxels_of: Voxels) -> Scan:
    """Return a scan with the voxels that `voxels_of` reads from the opened file."""
    try:
        is_image = path.name.lower().endswith((".img", ".img.gz"))
        with _open(_sibling(path, ".hdr") if is_image else path) as file:
            header = _read_header(file, path.name)
            layout = _layout(header, path.name)
            if layout.paired:
                file.finish(header.sizeof_hdr)
            else:
                voxels = voxels_of(file, layout, header.sizeof_hdr)
        if layout.paired:
            with _open(path if is_image else _sibling(path, ".img")) as file:
                voxels = voxels_of(file, layout, 0)
    except OSError as error:
        raise CaseError(
            "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
        ) from error
    array = pick_volume(voxels, policy, path.name)
    del voxels
    try:
        scaled = array if voxels_of is no_voxels else _scaled(header, array)
        volume, notices = _place(header, scaled, path.name)
    except (HeaderDataError, ValueError) as error:
        raise CaseError("bad_header", f"{path.name}: {error}") from error
    return Scan(volume, tuple(notices))


def channel_paths(path: Path, channels: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of an image's channels; for a single channel, `path` itself."""
    if len(channels) == 1:
        return (path,)
    stem, _, ending = path.name.partition(".nii")
    return tuple(path.with_name(f"{stem}_{channel}.nii{ending}") for channel in channels)


def _sibling(path: Path, ending: str) -> Path:
    """Return the other file of a .hdr/.img pair, compressed or not."""
    stem = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    for name in (stem[:-4] + ending, stem[:-4] + ending.upper()):
        for suffix in ("", ".gz", ".GZ"):
            candidate = path.with_name(name + suffix)
            if candidate.exists():
                return candidate
    raise CaseError(
        "missing_pair", f"{path.name} needs its {ending} file in the same folder; copy both"
    )


def _read_header(file: Stream, name: str) -> Any:
    """Return the nibabel header at the start of a file."""
    if file.size == 0:
        raise CaseError("empty_file", f"{name} has 0 bytes; copy or download it again")
    block = bytearray(file.read(348))
    if len(block) < 348:
        block += bytes(348 - len(block))
        raise CaseError("not_nifti", f"{name} is too short to be a NIfTI file{_looks_like(block)}")
    for endian in "<>":
        (size,) = struct.unpack(endian + "i", block[:4])
        if size == 348 and bytes(block[344:348]) in (b"n+1\0", b"ni1\0"):
            kind = Nifti1Header if block[344:348] == b"n+1\0" else Nifti1PairHeader
            break
        if size == 540 and bytes(block[4:8]) in (b"n+2\0", b"ni2\0"):
            kind = Nifti2Header if block[4:8] == b"n+2\0" else Nifti2PairHeader
            block += file.read(540 - 348)
            if len(block) < 540:
                raise CaseError("truncated", f"{name} ends within its header; copy it again")
            break
    else:
        raise CaseError("not_nifti", f"{name} is not a NIfTI file{_looks_like(block)}")
    # nibabel logs every small repair of a header; our own notices report what matters.
    with imageglobals.LoggingOutputSuppressor():
        try:
            header = kind(bytes(block), endianness=endian)
        except (HeaderDataError, ValueError, KeyError) as error:
            raise CaseError(
                "bad_header", f"{name} has a damaged header ({error}); copy it again"
            ) from error
    if header["sform_code"] == 0 or not is_grid(header.get_sform()):
        # nibabel replaces a voxel size of 0 by 1 mm. If no sform is used, that is a guess.
        stored = kind(bytes(block), endianness=endian, check=False)["pixdim"][1:4]
        header["pixdim"][1:4][stored == 0] = 0
    return header


def _looks_like(block: bytearray) -> str:
    """Return what a file may be instead, and what to do, for the message."""
    start = bytes(block).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return ": it is a web page, so its download failed; download it again"
    if start.startswith(b"version https://git-lfs"):
        return ": it is a git-lfs pointer; run `git lfs pull` in its repository"
    if struct.unpack("<i", block[:4])[0] == 348 or struct.unpack(">i", block[:4])[0] == 348:
        return ": it looks like an Analyze 7.5 header, which has no orientation; convert it"
    for magic, (name, suffix) in _OTHER_FORMATS.items():
        if start.startswith(magic):
            return f": it is {name}; rename it to end in {suffix}"
    if bytes(block[128:132]) == b"DICM":
        return ": it is a DICOM file; name the folder of its series instead"
    return "; name a .nii, .nii.gz or .hdr/.img file"


def _layout(header: Any, name: str) -> Layout:
    """Return the voxels that the header promises, checked before memory is allocated."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise CaseError(
            "bad_header", f"{name}: the header states {count} dimensions, but 1 to 7 are allowed"
        )
    shape = tuple(int(size) for size in header["dim"][1 : count + 1])
    if any(size < 1 for size in shape):
        raise CaseError(
            "bad_header", f"{name}: the header states dimensions {shape}, but all must be positive"
        )
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise CaseError("bad_header", f"{name}: unknown data type ({error})") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise CaseError(
            "not_scalar",
            f"{name} has voxels of type {dtype.name or dtype}, but each must be one real number; "
            "extract one channel first",
        )
    offset = float(header["vox_offset"])
    paired = isinstance(header, Nifti1PairHeader | Nifti2PairHeader)
    least = 0 if paired else (352 if header.sizeof_hdr == 348 else 544)
    if not np.isfinite(offset) or offset < 0 or offset != int(offset) or offset > 2**31:
        raise CaseError(
            "bad_header", f"{name}: the header states that voxels begin at byte {offset}"
        )
    # Voxels of a single file cannot begin inside its header, but some writers write 0.
    return Layout(shape, dtype, max(int(offset), least), paired)


def _scaled(header: Any, array: np.ndarray) -> np.ndarray:
    """Return ``stored * scl_slope + scl_inter``; the stored voxels if they are not scaled.

    16-bit integers and float32 become float32, each value rounded once from
    the float64 result; wider types become float64.
    """
    slope, inter = header.get_slope_inter()
    if slope is None or (slope, inter) == (1, 0):
        return array
    if array.dtype.itemsize > 2 and array.dtype != np.float32:
        wide: np.ndarray = array * np.float64(slope) + np.float64(inter)
        return wide
    scaled = np.empty(array.shape, np.float32, order="F")
    for k in range(array.shape[2]):
        scaled[:, :, k] = array[:, :, k] * np.float64(slope) + np.float64(inter)
    return scaled


def _qform(header: Any) -> np.ndarray:
    """Return the affine of the quaternion; NaN if the quaternion is invalid."""
    try:
        affine: np.ndarray = header.get_qform()
        return affine
    except ValueError:  # the quaternion is longer than 1
        return np.full((4, 4), np.nan)


def _place(header: Any, array: np.ndarray, name: str) -> tuple[Volume, list[Notice]]:
    """Return the volume with the header's affine, and notices about this affine."""
    notices = []
    codes = int(header["sform_code"]), int(header["qform_code"])
    qform = _qform(header)
    if codes[0] and codes[1] and not is_grid(header.get_sform()) and is_grid(qform):
        codes, affine = (0, codes[1]), qform
        sentence = f"{name}: the sform puts several voxels at one position; the qform was used"
        notices.append(Notice("bad_sform", sentence))
    else:
        affine = header.get_best_affine() if codes[0] or not codes[1] else qform
    # Other codes are units of time, or unknown, which means mm in practice.
    unit, scale = _UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    try:
        volume = Volume(array, np.diag([scale, scale, scale, 1]) @ affine, codes)
    except ValueError as error:
        cure = "set the header's sform to the scan's position"
        size = header["pixdim"][1:4].tolist()
        if codes[0] == 0 and 0 in size:
            cure = f"its voxel size (pixdim) is {size} mm: write the true size there, or {cure}"
        raise CaseError("bad_affine", f"{name}: {error}; {cure}") from error
    if codes == (0, 0):
        sentence = (
            f"{name}: sform and qform codes are both 0, so the header gives no orientation; "
            f"read as {volume.orientation}, as nibabel does, so left and right may be swapped"
        )
        notices.append(Notice("no_orientation", sentence))
    elif min(codes) > 0 and not is_sheared(affine):
        away = grid_difference(volume.shape, affine, qform).position_mm * scale
        if not away <= FORM_TOLERANCE_MM * min(scale, 1):
            by = f"differ by up to {away:.3g} mm" if is_grid(qform) else "differ: it is not valid"
            sentence = f"{name}: sform and qform {by}; the sform was used"
            notices.append(Notice("form_conflict", sentence))
    if unit:
        sentence = f"{name}: the header's unit is {unit}; size and position were converted to mm"
        notices.append(Notice("unit", sentence))
    return volume, notices
