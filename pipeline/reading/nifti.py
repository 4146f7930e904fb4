"""Read NIfTI files. With writing/nifti.py the only importer of nibabel.

nibabel alone does not reach the checksum of a gzip stream, so that most damaged
files give wrong voxels without an error. Here files are decompressed to the end.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip, isal_zlib
from nibabel import imageglobals
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from voxtile.errors import CaseError, Notice, counted
from voxtile.machine.files import is_special
from voxtile.machine.memory import free_memory_mb
from voxtile.volume import Volume, grid_difference, is_sheared

from .scan import ReadPolicy, Scan

# Deflate compresses at most 1032:1, so a header that promises more is wrong.
_MOST_INFLATION = 1100
# Bytes after the last voxel that are accepted; some writers pad.
_SLACK = 2**16
_CHUNK = 2**22
# isal's stub calls its exception class an instance.
_ISAL_ERROR: Any = isal_zlib.error
_INFLATE_ERRORS = (igzip.BadGzipFile, _ISAL_ERROR, zlib.error)
# sform and qform are float32, the qform as a quaternion: smaller differences are rounding.
FORM_TOLERANCE_MM = 0.1


def read_nifti(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read a NIfTI file: ``.nii``, ``.hdr``/``.img``, version 1 or 2, plain or gzip, any endian.

    `path` may be either file of a pair. Gzip is recognised by content, not by
    name. NaN is not checked here. Voxels are in storage order with ``scl_slope``
    and ``scl_inter`` applied; integers stay integers if they are not scaled. The
    affine is the sform, else the qform, else nibabel's default.

    Raises
    ------
    CaseError
        With the reason: not NIfTI, damaged, truncated, more than one volume,
        invalid affine, voxels that are not real numbers.
    """
    return _read(path, policy or ReadPolicy(), _read_voxels)


def survey_nifti(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_nifti` would, from the header alone.

    Grid, orientation codes and notices are those of the scan. All voxels are 0
    and take no memory. Voxels and checksum are not read, but a file that is
    shorter than its header promises is refused.
    """
    return _read(path, policy or ReadPolicy(), _no_voxels)


def compare_nifti(path: Path, array: np.ndarray) -> tuple[Scan, bool]:
    """Read a file to its end, checksum included, and compare its voxels with an array.

    Only one plane is in memory at a time. The scan is as `survey_nifti` returns
    it, with whether shape, type and every voxel are equal.
    """
    same = False

    def compare(file: _Source, layout: _Layout, name: str, consumed: int) -> np.ndarray:
        """Compare the voxels in storage order."""
        nonlocal same
        same = layout.shape == array.shape and layout.dtype == array.dtype
        promised = _promised(file, layout, name)
        got = consumed + file.read_into(memoryview(bytearray(layout.offset - consumed)), name)
        plane = int(np.prod(layout.shape[:2]))
        stored = np.empty(plane, layout.dtype)
        for k in range(layout.voxels // max(1, plane)):
            got += file.read_into(stored.view(np.uint8).data, name)
            same = same and np.array_equal(stored, array[..., k].reshape(-1, order="F"))
        _hold_promise(got, promised, name)
        _finish(file, name, promised)
        return _zeros(layout)

    scan = _read(path, ReadPolicy(), compare)
    # Voxels that a slope changes are not equal.
    return scan, same and scan.volume.array.dtype == array.dtype


def _read(path: Path, policy: ReadPolicy, voxels_of: "_Voxels") -> Scan:
    """Return a scan with the voxels that `voxels_of` reads from the opened file."""
    try:
        is_image = path.name.lower().endswith((".img", ".img.gz"))
        with _Source(_sibling(path, ".hdr") if is_image else path) as file:
            header = _read_header(file, path.name)
            layout = _layout(header, path.name)
            if layout.paired:
                _finish(file, path.name, header.sizeof_hdr)
            else:
                voxels = voxels_of(file, layout, path.name, header.sizeof_hdr)
        if layout.paired:
            with _Source(path if is_image else _sibling(path, ".img")) as file:
                voxels = voxels_of(file, layout, path.name, 0)
    except OSError as error:
        raise CaseError(
            "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
        ) from error
    array = _pick_volume(voxels, policy, path.name)
    if voxels_of is _read_voxels and array.size < voxels.size:
        array = array.copy(order="F")  # a view would keep all other volumes in memory
    del voxels
    try:
        scaled = array if voxels_of is _no_voxels else _scaled(header, array)
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


@dataclass(frozen=True, slots=True)
class _Layout:
    """The voxels that a header promises."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    paired: bool

    @property
    def voxels(self) -> int:
        """Number of voxels, without overflow."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return self.voxels * self.dtype.itemsize


class _Source:
    """A file, decompressed while it is read if it is gzip; every read is checked."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise CaseError("not_nifti", f"{path.name} is a folder; name a NIfTI file")
        if is_special(path):
            raise CaseError(
                "not_nifti", f"{path.name} is a pipe, socket or device; name a NIfTI file"
            )
        self.size = path.stat().st_size
        self._raw = path.open("rb")
        self.gzip = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        self._file: Any = igzip.GzipFile(fileobj=self._raw, mode="rb") if self.gzip else self._raw

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def read_into(self, target: memoryview, name: str) -> int:
        """Fill `target` and return the number of bytes read; less only at the end of the file."""
        filled = 0
        try:
            while filled < len(target):
                got = self._file.readinto(target[filled : filled + _CHUNK])
                if not got:
                    break
                filled += got
        except EOFError as error:
            raise CaseError(
                "truncated", f"{name}: the gzip stream ends too early; copy the file again"
            ) from error
        except _INFLATE_ERRORS as error:
            raise CaseError(
                "corrupt", f"{name}: the gzip stream is damaged ({error}); copy the file again"
            ) from error
        return filled


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


def _read_header(file: _Source, name: str) -> Any:
    """Return the nibabel header at the start of a file."""
    if file.size == 0:
        raise CaseError("empty_file", f"{name} has 0 bytes; copy or download it again")
    block = bytearray(348)
    if file.read_into(memoryview(block), name) < len(block):
        raise CaseError("not_nifti", f"{name} is too short to be a NIfTI file{_looks_like(block)}")
    for endian in "<>":
        (size,) = struct.unpack(endian + "i", block[:4])
        if size == 348 and bytes(block[344:348]) in (b"n+1\0", b"ni1\0"):
            kind = Nifti1Header if block[344:348] == b"n+1\0" else Nifti1PairHeader
            break
        if size == 540 and bytes(block[4:8]) in (b"n+2\0", b"ni2\0"):
            kind = Nifti2Header if block[4:8] == b"n+2\0" else Nifti2PairHeader
            rest = bytearray(540 - 348)
            if file.read_into(memoryview(rest), name) < len(rest):
                raise CaseError("truncated", f"{name} ends within its header; copy it again")
            block += rest
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
    if header["sform_code"] == 0:
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
    if bytes(block[128:132]) == b"DICM":
        return ": it is a DICOM file; name the folder of its series instead"
    return "; name a .nii, .nii.gz or .hdr/.img file"


def _layout(header: Any, name: str) -> _Layout:
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
    return _Layout(shape, dtype, max(int(offset), least), paired)


def _read_voxels(file: _Source, layout: _Layout, name: str, consumed: int) -> np.ndarray:
    """Return all voxels in storage order, after the file was read to its end."""
    promised, free = _promised(file, layout, name), free_memory_mb() * 1e6
    if layout.nbytes > free:
        raise CaseError(
            "too_large",
            f"{name} has {layout.nbytes / 2**30:.1f} GiB of voxels, but {free / 2**30:.1f} GiB of "
            "memory are free; read it on a larger machine, or crop it",
        )
    skipped = memoryview(bytearray(layout.offset - consumed))
    stored = np.empty(layout.voxels, layout.dtype)
    got = file.read_into(skipped, name) + file.read_into(stored.view(np.uint8).data, name)
    _hold_promise(consumed + got, promised, name)
    _finish(file, name, promised)
    return stored.reshape(layout.shape, order="F")


_Voxels = Callable[[_Source, _Layout, str, int], np.ndarray]


def _no_voxels(file: _Source, layout: _Layout, name: str, _: int) -> np.ndarray:
    """Return zeros of the promised shape, after the size of the file was checked."""
    _promised(file, layout, name)
    return _zeros(layout)


def _zeros(layout: _Layout) -> np.ndarray:
    """Return zeros of the promised shape that take no memory."""
    return np.broadcast_to(np.zeros((), layout.dtype.newbyteorder("=")), layout.shape)


def _hold_promise(got: int, promised: int, name: str) -> None:
    """Refuse a file with fewer bytes than its header promises."""
    if got < promised:
        raise CaseError(
            "truncated",
            f"{name}: the header promises {promised} bytes, but the file has {got}; copy it again",
        )


def _promised(file: _Source, layout: _Layout, name: str) -> int:
    """Return the number of bytes that the header promises, if the file can hold them."""
    promised = layout.offset + layout.nbytes
    if promised > (file.size * _MOST_INFLATION if file.gzip else file.size):
        raise CaseError(
            "truncated",
            f"{name}: the header promises {layout.shape} voxels, {promised} bytes, but the file "
            f"has {file.size}{' compressed' if file.gzip else ''}; copy it again",
        )
    return promised


def _finish(file: _Source, name: str, promised: int) -> None:
    """Read to the end of a stream, which checks its CRC; refuse a file that is much too long."""
    rest = memoryview(bytearray(_SLACK + 1))
    if file.read_into(rest, name) > _SLACK:
        raise CaseError(
            "too_long",
            f"{name} holds more than the {promised} bytes that its header promises, so header or "
            "file is damaged; copy it again",
        )


def _pick_volume(voxels: np.ndarray, policy: ReadPolicy, name: str) -> np.ndarray:
    """Return the (i, j, k) array of the only volume, or of the one that the policy chooses."""
    space = (*voxels.shape[:3], 1, 1)[:3]
    volumes = voxels.reshape((*space, -1), order="F")
    count = volumes.shape[3]
    chosen = policy.volume
    if chosen is None:
        if count > 1:
            raise CaseError(
                "several_volumes",
                f"{name} holds {count} volumes (shape {voxels.shape}), but one is needed; "
                "keep one of them in the file",
                f"choose one with --volume 0 to --volume {count - 1}",
            )
        chosen = 0
    if not 0 <= chosen < count:
        raise CaseError(
            "no_such_volume",
            f"{name}: volume {chosen} was chosen, but the file holds {counted(count, 'volume')}, "
            "numbered from 0; choose another",
        )
    picked: np.ndarray = volumes[..., chosen]
    return picked if picked.dtype.isnative else picked.astype(picked.dtype.newbyteorder("="))


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


def _place(header: Any, array: np.ndarray, name: str) -> tuple[Volume, list[Notice]]:
    """Return the volume with the header's affine, and notices about that."""
    notices = []
    codes = int(header["sform_code"]), int(header["qform_code"])
    affine = header.get_best_affine()
    try:
        volume = Volume(array, affine, codes)
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
        away = grid_difference(volume.shape, affine, header.get_qform()).position_mm
        if away > FORM_TOLERANCE_MM:
            sentence = f"{name}: sform and qform differ by up to {away:.3g} mm; the sform was used"
            notices.append(Notice("form_conflict", sentence))
    unit = header.get_xyzt_units()[0]
    if unit in ("meter", "micron"):
        sentence = (
            f"{name}: the header's unit is {unit}, but numbers were read as mm, as in viewers"
        )
        notices.append(Notice("unit", sentence))
    return volume, notices
