"""Read NRRD files: ``.nrrd``, and ``.nhdr`` with its data file.

pynrrd parses the header (teem.sourceforge.net/nrrd/format.html). The voxels
are read here, because pynrrd follows any path to a data file and does not
reach the checksum of a compressed one.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.volume import Volume

from .beside import data_file
from .scan import ReadPolicy, Scan
from .stream import Compression, Stream
from .voxels import Layout, Voxels, no_voxels, pick_volume, read_voxels

# Headers of segmentations are long: they have a line for each property of each segment.
_LONGEST_HEADER = 2**24
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), "i8"),
    **dict.fromkeys(("signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "u8"),
    **dict.fromkeys(("uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_COMPRESSIONS: dict[str, Compression] = {
    "raw": "none",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
}
# Signs from the world's axes to RAS, by the initials of `space`. ITK reads other spaces as LPS.
_TO_RAS = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1)}
_MM = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1e3}
_SPATIAL = ("domain", "space")
_NOT_REAL = ("complex", "quaternion", "color", "rgb", "hsv", "xyz", "matrix", "covariant")

Header = Mapping[str, Any]


def read_nrrd(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read an NRRD file; voxels are in storage order, and axes that are not spatial come last.

    The data file of a ``.nhdr`` must be in the same folder.

    Raises
    ------
    CaseError
        As `read_nifti`; also if the encoding is not raw, gzip or bzip2.
    """
    return _read(path, policy or ReadPolicy(), read_voxels)


def survey_nrrd(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_nrrd` would, but read only the header; voxels are 0 and take no memory."""
    return _read(path, policy or ReadPolicy(), no_voxels)


def files_of_nrrd(path: Path) -> list[Path]:
    """Return an NRRD file and, if it has one, its separate data file."""
    header, _ = read_header(path)
    named = _data_file(path, header)
    return [path] if named is None else [path, named]


def _read(path: Path, policy: ReadPolicy, voxels_of: Voxels) -> Scan:
    """Return a scan with the voxels that `voxels_of` reads."""
    try:
        header, start = read_header(path)
        array = layers_of(path, header, start, voxels_of)
    except OSError as error:
        raise CaseError(
            "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
        ) from error
    affine, notices = affine_of(header, path.name)
    try:
        volume = Volume(pick_volume(array, policy, path.name), affine)
    except ValueError as error:
        raise CaseError("bad_affine", f"{path.name}: {error}; write its position again") from error
    return Scan(volume, tuple(notices))


def read_header(path: Path) -> tuple[Header, int]:
    """Return a header's fields, named in lower case without spaces, and the position of its end."""
    with Stream(path, "not_nrrd", "an NRRD file", compression="none") as file:
        content = file.read(min(_LONGEST_HEADER, file.size))
    if not content.startswith(b"NRRD000"):
        raise CaseError("not_nrrd", f"{path.name} does not begin as an NRRD file; convert it again")
    end = re.search(rb"\r?\n\r?\n", content)
    if end is None and len(content) == _LONGEST_HEADER:
        raise CaseError("bad_header", f"{path.name}: the header has no end; save it again")
    text = content[: end.start() if end else None].decode(errors="replace")
    lines = [
        re.sub(r"^[^:=#]+(?=: )", lambda name: name[0].strip().lower(), line)
        for line in text.splitlines()
    ]
    try:
        return nrrd.read_header([f"{line}\n" for line in lines]), end.end() if end else len(content)
    except Exception as error:  # pynrrd raises anything on a damaged header
        raise _bad(path.name, f"cannot be parsed ({type(error).__name__})") from error


def layers_of(path: Path, header: Header, start: int, voxels_of: Voxels) -> np.ndarray:
    """Return all voxels, shape (i, j, k, ...): axes that are not spatial come last."""
    encoding = str(header.get("encoding", "")).lower()
    if encoding not in _COMPRESSIONS:
        raise _bad(path.name, f"has encoding {encoding[:20]!r}; only raw, gzip and bzip2 are read")
    layout = _layout(path.name, header)
    named = _data_file(path, header)
    if named is not None:
        start = 0
    skip = _number(header, "byte skip", path.name)
    if skip == -1:  # the voxels are at the end
        start, skip = (named or path).stat().st_size - layout.nbytes, 0
        if encoding != "raw" or start < 0:
            raise _bad(path.name, "has a byte skip of -1, but the file is too short")
    layout = Layout(layout.shape, layout.dtype, skip)
    compression = _COMPRESSIONS[encoding]
    opened = partial(Stream, code="not_nrrd", needed="an NRRD file")
    with opened(named or path, start=start, compression=compression, name=path.name) as file:
        stored = voxels_of(file, layout, 0)
    spatial = _spatial_axes(header, path.name)
    others = [axis for axis in range(stored.ndim) if axis not in spatial]
    moved = stored.transpose(*spatial, *others)
    return np.expand_dims(moved, 2) if len(spatial) == 2 else moved


def affine_of(header: Header, name: str) -> tuple[np.ndarray, list[Notice]]:
    """Return the affine of a header in RAS+ mm, and notices about it."""
    notices = []
    space = str(header.get("space", "")).lower()
    initials = "".join(word[:1] for word in space.split("-")[:3]).upper()
    world = _TO_RAS.get(initials if "-" in space else space.upper()[:3])
    if world is None:
        sentence = (
            f"{name}: the header does not say where right, front and top are; read as LPS, as ITK "
            "does, so left and right may be swapped"
        )
        notices.append(Notice("no_orientation", sentence))
        world = _TO_RAS["LPS"]
    spatial = _spatial_axes(header, name)
    axes = np.zeros((3, 3))
    origin = np.zeros(3)
    directions = header.get("space directions")
    if directions is not None:
        found = np.asarray(directions, float)[list(spatial), :3]
        axes[: found.shape[1], : found.shape[0]] = found.T
        place = np.asarray(header.get("space origin", origin), float)[:3]
        origin[: len(place)] = place
    else:
        spacings = np.asarray(header.get("spacings", np.ones(len(spatial) + 9)), float)
        steps = [float(spacings[axis]) for axis in spatial]
        axes[: len(steps), : len(steps)] = np.diag(steps)
    if len(spatial) == 2:
        across = np.cross(axes[:, 0], axes[:, 1])
        axes[:, 2] = across / (np.linalg.norm(across) or 1)
        notices.append(Notice("no_thickness", f"{name}: one slice without thickness; 1 mm assumed"))
    unit = _unit(header, name)
    if unit != 1:
        sentence = f"{name}: the header's unit is {unit:g} mm; positions were converted to mm"
        notices.append(Notice("unit", sentence))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * unit, origin * unit
    if len(spatial) == 2:
        affine[:3, 2] = axes[:, 2]
    affine[:3] *= np.array(world)[:, np.newaxis]
    return affine, notices


def _layout(name: str, header: Header) -> Layout:
    """Return the voxels that a header promises."""
    sizes = tuple(int(size) for size in header.get("sizes", ()))
    if not 1 <= len(sizes) <= 7 or min(sizes) < 1 or len(sizes) != header.get("dimension"):
        raise _bad(name, "needs positive sizes, one for each dimension")
    kinds = [str(kind).lower() for kind in header.get("kinds", ())]
    if any(word in kind for kind in kinds for word in _NOT_REAL):
        raise CaseError(
            "not_scalar",
            f"{name} has voxels of kind {', '.join(kinds)}, but each must be one real number; "
            "extract one channel first",
        )
    kind = _TYPES.get(str(header.get("type", "")).lower())
    if kind is None:
        raise _bad(name, "has no type that is a real number")
    dtype = np.dtype(kind)
    if dtype.itemsize > 1:
        endian = {"little": "<", "big": ">"}.get(str(header.get("endian", "")).lower())
        if endian is None:
            raise _bad(name, "does not say its endian, little or big")
        dtype = dtype.newbyteorder(endian)  # type: ignore[arg-type]
    if _number(header, "line skip", name):
        raise _bad(name, "skips lines before its voxels, which is not supported")
    return Layout(sizes, dtype)


def _spatial_axes(header: Header, name: str) -> tuple[int, ...]:
    """Return the two or three axes of space, in storage order."""
    count = len(header["sizes"])
    kinds = [str(kind).lower() for kind in header.get("kinds", ["?"] * count)]
    directions = header.get("space directions")
    if directions is not None:
        rows = np.asarray(directions, float)
        if rows.ndim != 2 or len(rows) != count or rows.shape[1] > 4:
            raise _bad(name, "needs space directions for each axis")
        spatial = [axis for axis in range(count) if np.nan_to_num(rows[axis, :3]).any()]
    else:
        named = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL]
        unnamed = [axis for axis, kind in enumerate(kinds) if kind in ("?", "???", "none")]
        spatial = named or unnamed[:3]
    if not 2 <= len(spatial) <= 3:
        raise _bad(name, f"has {len(spatial)} axes of space, but a volume has 3")
    return tuple(spatial)


def _unit(header: Header, name: str) -> float:
    """Return the header's unit of length, in mm."""
    units = header.get("space units") or header.get("units") or ()
    known = {str(unit).strip().lower() for unit in units} - {"", "none", "?", "???", "s", "ms"}
    if not known:
        return 1.0
    if len(known) > 1 or not known <= set(_MM):
        raise _bad(name, "has a unit other than mm, um, cm and m, or several units")
    return _MM[known.pop()]


def _data_file(path: Path, header: Header) -> Path | None:
    """Return the separate data file; None if the voxels follow the header."""
    named = header.get("data file", header.get("datafile"))
    return None if named is None else data_file(path, str(named))


def _number(header: Header, field: str, name: str) -> int:
    """Return a whole number of a header, whose field may lack its space; 0 if missing."""
    number = int(header.get(field, header.get(field.replace(" ", ""), 0)))
    if not -1 <= number < 2**31:
        raise _bad(name, f"has an invalid {field}")
    return number


def _bad(name: str, problem: str) -> CaseError:
    """Return the error for a header."""
    return CaseError("bad_header", f"{name}: the header {problem}; save the file again")


def segment_fields(header: Header) -> Sequence[Mapping[str, str]]:
    """Return the properties of each segment of a 3D Slicer segmentation, such as Name and Layer."""
    found: dict[int, dict[str, str]] = {}
    for field, value in header.items():
        if match := re.fullmatch(r"Segment(\d{1,6})_(\w+)", field):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    return [found[number] for number in sorted(found)]
