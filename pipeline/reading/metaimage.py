"""Read MetaImage files: ``.mha``, and ``.mhd`` with its data file.

The header has lines of ``key = value`` (itk.org/Wiki/MetaIO/Documentation),
so that this module replaces SimpleITK, whose wheel has 50 MB. As in ITK, the
world is LPS whatever AnatomicalOrientation says.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.volume import Volume

from .beside import data_file
from .scan import ReadPolicy, Scan
from .stream import Compression, Stream
from .voxels import Layout, Voxels, no_voxels, pick_volume, read_voxels

_LONGEST_HEADER = 2**20
_LAST = "elementdatafile"  # voxels follow the line of this key
_TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
_ORIGINS = ("offset", "position", "origin")

Header = Mapping[str, str]


def read_metaimage(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read a MetaImage file; the data file of a ``.mhd`` must be in the same folder.

    Raises
    ------
    CaseError
        As `read_nifti`.
    """
    return _read(path, policy or ReadPolicy(), read_voxels)


def survey_metaimage(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_metaimage` would, from the header alone: all voxels are 0."""
    return _read(path, policy or ReadPolicy(), no_voxels)


def files_of_metaimage(path: Path) -> list[Path]:
    """Return a MetaImage file and, if it has one, its separate data file."""
    named = _data_file(path, _read_header(path)[0])
    return [path] if named is None else [path, named]


def _read(path: Path, policy: ReadPolicy, voxels_of: Voxels) -> Scan:
    """Return a scan with the voxels that `voxels_of` reads."""
    opened = partial(Stream, code="not_metaimage", needed="a MetaImage file")
    try:
        header, start = _read_header(path)
        layout, affine, notices = _layout(header, path.name), *_affine(header, path.name)
        skip = _numbers(header, path.name, "headersize", [0])[0]
        named = _data_file(path, header)
        if named is not None:
            start = named.stat().st_size - layout.nbytes if skip == -1 else int(skip)
        if start < 0:
            raise _bad(path.name, "promises more voxels than the file has")
        compression: Compression = "zlib" if _is_true(header, "compresseddata") else "none"
        with opened(named or path, start=start, compression=compression, name=path.name) as file:
            stored = voxels_of(file, layout, 0)
    except OSError as error:
        raise CaseError(
            "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
        ) from error
    if stored.ndim > int(header["ndims"]):  # several channels
        stored = np.moveaxis(stored, 0, -1)
    if int(header["ndims"]) == 2:
        stored = np.expand_dims(stored, 2)
    try:
        volume = Volume(pick_volume(stored, policy, path.name), affine)
    except ValueError as error:
        raise CaseError("bad_affine", f"{path.name}: {error}; write its position again") from error
    return Scan(volume, tuple(notices))


def _read_header(path: Path) -> tuple[Header, int]:
    """Return the values of a header by their keys in lower case, and the position of its end."""
    with Stream(path, "not_metaimage", "a MetaImage file", compression="none") as file:
        content = file.read(min(_LONGEST_HEADER, file.size))
    header: dict[str, str] = {}
    end = 0
    for line in content.splitlines(keepends=True):
        key, equals, value = line.partition(b"=")
        name = key.strip().decode("ascii", "replace").lower()
        if not equals or name in header:
            break
        end += len(line)
        header[name] = value.decode(errors="replace").strip()
        if name == _LAST:
            return header, end
    if "ndims" in header:
        raise _bad(path.name, "does not end with ElementDataFile")
    raise CaseError(
        "not_metaimage", f"{path.name} does not begin as a MetaImage file; convert it again"
    )


def _layout(header: Header, name: str) -> Layout:
    """Return the layout of the voxels; if there are several channels, they are the first axis."""
    count = header.get("ndims", "")
    sizes = [int(size) for size in _numbers(header, name, "dimsize", [])]
    if count not in ("2", "3", "4") or len(sizes) != int(count) or min(sizes) < 1:
        raise _bad(name, "needs 2 to 4 dimensions, each with a positive size")
    kind = _TYPES.get(header.get("elementtype", "").removeprefix("MET_"))
    if kind is None:
        raise CaseError(
            "not_scalar",
            f"{name} has voxels of a type that is not one real number; extract one channel first",
        )
    if header.get("binarydata", "true").lower() in ("false", "0"):
        raise _bad(name, "says that voxels are text, which is not supported")
    for key, plain in (("slope", 1.0), ("offset", 0.0)):
        if _numbers(header, name, f"elementtointensityfunction{key}", [plain]) != [plain]:
            raise _bad(name, "scales its voxels, which programs read in different ways")
    big = _is_true(header, "elementbyteordermsb") or _is_true(header, "binarydatabyteordermsb")
    channels = int(_numbers(header, name, "elementnumberofchannels", [1])[0])
    if not 1 <= channels < 2**15:
        raise _bad(name, "has an invalid number of channels")
    dtype = np.dtype(kind).newbyteorder(">" if big else "<")
    return Layout((*([channels] if channels > 1 else []), *sizes), dtype)


def _affine(header: Header, name: str) -> tuple[np.ndarray, list[Notice]]:
    """Return the affine of a header in RAS+ mm, and notices about it."""
    count = int(header["ndims"])
    sizes = _numbers(header, name, "elementsize", [1.0] * count)
    spacing = _numbers(header, name, "elementspacing", sizes)
    key = next((key for key in _DIRECTIONS if key in header), "")
    directions = _numbers(header, name, key, np.eye(count).ravel().tolist())
    origin = _numbers(header, name, next((k for k in _ORIGINS if k in header), ""), [0.0] * count)
    if (len(spacing), len(directions), len(origin)) != (count, count**2, count):
        raise _bad(name, "needs spacing, direction and offset for each dimension")
    used = min(3, count)
    # The numbers of TransformMatrix are the direction of the first axis, then of the second.
    matrix = np.array(directions).reshape(count, count).T * spacing
    affine = np.eye(4)
    affine[:used, :used] = matrix[:used, :used]
    affine[:used, 3] = origin[:used]
    notices = []
    if not key:
        sentence = (
            f"{name}: the header has no direction (TransformMatrix); read as LPS, as ITK does, so "
            "left and right may be swapped"
        )
        notices.append(Notice("no_orientation", sentence))
    if count == 2:
        notices.append(Notice("no_thickness", f"{name}: one slice without thickness; 1 mm assumed"))
    affine[:2] *= -1  # from LPS
    return affine, notices


def _data_file(path: Path, header: Header) -> Path | None:
    """Return the separate data file; None if the voxels follow the header."""
    named = header[_LAST]
    return None if named.upper() == "LOCAL" else data_file(path, named)


def _numbers(header: Header, name: str, key: str, default: list[float]) -> list[float]:
    """Return the numbers of a key."""
    try:
        return [float(word) for word in header[key].split()] if key in header else default
    except ValueError:
        raise _bad(name, f"has text instead of numbers in {key}") from None


def _is_true(header: Header, key: str) -> bool:
    """Whether the value of a key is true."""
    return header.get(key, "").lower() in ("true", "1")


def _bad(name: str, problem: str) -> CaseError:
    """Return the error for a header."""
    return CaseError("bad_header", f"{name}: the header {problem}; save the file again")
