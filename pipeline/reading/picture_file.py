"""Decode a picture with pillow, or tifffile if pillow would lose bits. Runs in the child process.

Pillow and its libraries are written in C. They decode 16-bit colours to 8 bits
and ignore the checksums of a PNG, so this module checks both first.
"""

import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from voxtile.errors import CaseError, Notice, counted
from voxtile.machine.files import is_special
from voxtile.volume import Volume

from .isolation import Workspace
from .scan import ReadPolicy, Scan

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_LOSSY = ("jpeg", "tiff_jpeg", "webp", "jpeg2000")
# Types of grey pictures by pillow's mode; mode "1" is black and white.
_GREY = {
    "1": "uint8",
    "L": "uint8",
    "I;16": "uint16",
    "I;16B": "uint16",
    "I;16L": "uint16",
    "I": "int32",
    "F": "float32",
}
_TRANSPARENT = ("LA", "PA", "RGBA", "La", "RGBa")
# Tag numbers of a TIFF.
_SUBFILE, _BITS, _DESCRIPTION, _SAMPLES = 254, 258, 270, 277
_X, _Y, _UNIT, _ORIENTATION = 282, 283, 296, 274
# Screen resolutions (dots per inch), which programs write if they do not know the true one.
_SCREENS = (72, 96)
_IMAGEJ_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "micron": 1e-3, "um": 1e-3, "µm": 1e-3}


@dataclass(frozen=True, slots=True)
class _Picture:
    """The header of a picture, and its pages that are not thumbnails."""

    size: tuple[int, int]  # (columns, rows), as displayed
    colours: bool
    dtype: str
    pages: Sequence[int]
    deep: bool  # 16-bit colours, for tifffile
    notices: list[Notice]


def picture_here(
    workspace: Workspace, path: Path, policy: ReadPolicy, survey: bool, mask: bool
) -> Scan:
    """Do the work of `voxtile.reading.pictures` in this process."""
    _require_file(path)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        # Open the file here: if pillow gets a path, it maps the file and scrambles a rotated TIFF.
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.format == "PNG":
                _check_png(path)
            found = _look(image, mask)
            spacing, about = _spacing(image, policy, mask)
            pages = _chosen(found, policy, mask, path.name)
            columns, rows = found.size
            shape = (*([3] if found.colours else []), len(pages), rows, columns)
            array = workspace.allocate(shape, np.dtype(found.dtype))
            for index, page in enumerate(pages if not survey else ()):
                workspace.at(f"page {index + 1} of {len(pages)}")
                plane = _deep(path, page) if found.deep else _plane(image, page, mask)
                array[..., index, :, :] = np.moveaxis(plane, -1, 0) if found.colours else plane
    except UnidentifiedImageError as error:
        raise CaseError(
            "not_picture",
            f"{path.name} is not a PNG, JPEG, TIFF or BMP picture that can be read; save it again",
        ) from error
    except Image.DecompressionBombError as error:
        raise CaseError(
            "too_large",
            f"{path.name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; cut it into "
            "parts",
        ) from error
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # pillow and tifffile raise anything on a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        code = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise CaseError(
            code, f"{path.name} cannot be decoded to its end; copy or save it again"
        ) from error
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    return Scan(Volume(array.T, affine), (*found.notices, *about))


def _require_file(path: Path) -> None:
    """Refuse a path that is not a file, or is an empty file."""
    if path.is_dir() or is_special(path):
        raise CaseError("not_picture", f"{path.name} is not a file; name a picture")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CaseError("unreadable", f"{path.name} cannot be read ({error.strerror})") from error
    if size == 0:
        raise CaseError("empty_file", f"{path.name} has 0 bytes; copy or download it again")


def _check_png(path: Path) -> None:
    """Check every checksum of a PNG, and refuse 16-bit colours, of which pillow keeps 8 bits."""
    content = memoryview(path.read_bytes())
    at, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(content[at : at + 4], "big")
        kind, end = bytes(content[at + 4 : at + 8]), at + 8 + length
        if end + 4 > len(content):
            raise CaseError("truncated", f"{path.name} ends too early; copy it again")
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise CaseError("corrupt", f"{path.name} has a wrong checksum; copy it again")
        if kind == b"IHDR" and content[at + 16] == 16 and content[at + 17] != 0:
            raise CaseError(
                "picture_depth",
                f"{path.name} has 16 bits for each colour, but a PNG may have 8; save it as TIFF",
            )
        at = end + 4


def _look(image: Image.Image, mask: bool) -> _Picture:
    """Return what the header says, without decoding."""
    notices = []
    tags = getattr(image, "tag_v2", {})
    pages, sizes = [], set()
    # In a JPEG with several pictures, all but the first are a preview or a map.
    count = 1 if image.format == "JPEG" else getattr(image, "n_frames", 1)
    for page in range(count):
        if count > 1:
            image.seek(page)
        if not getattr(image, "tag_v2", {}).get(_SUBFILE, 0) & 1:  # a smaller copy
            pages.append(page)
            sizes.add((image.size, image.mode))
    image.seek(0)
    if len(sizes) > 1:
        raise CaseError("mixed_size", "the pages of the picture have several sizes or types")
    bits = tags.get(_BITS, (8,))
    deep = image.format == "TIFF" and tags.get(_SAMPLES, 1) > 1 and max(bits) > 8
    orientation = image.getexif().get(_ORIENTATION, 1)
    size = image.size
    if orientation in range(2, 9):
        if deep:
            raise CaseError(
                "picture_depth", "a 16-bit colour picture must be stored upright; save it again"
            )
        if orientation > 4 and image.format != "TIFF":  # pillow has already swapped a TIFF's size
            size = size[1], size[0]
        sentence = (
            f"the picture has orientation {orientation} (EXIF); it was rotated or flipped to match"
        )
        notices.append(Notice("picture_turned", sentence))
    mode = image.mode
    if mask and (image.info.get("compression") in _LOSSY or image.format == "JPEG"):
        raise CaseError(
            "label_lossy",
            "it is a picture with lossy compression, which changes values at every edge; save "
            "the original mask as PNG",
        )
    if mask and deep:
        raise CaseError(
            "label_colours", "the picture of the mask has colours; save it as grey values"
        )
    transparent = mode in _TRANSPARENT or "transparency" in image.info
    if transparent and not mask:
        notices.append(Notice("alpha_dropped", "the picture's transparency was not used"))
    if mode not in (*_GREY, *_TRANSPARENT, "P", "RGB"):
        raise CaseError(
            "picture_mode", f"the picture has mode {mode}; save it as grey or RGB, without CMYK"
        )
    colours = not mask and (mode in ("P", "PA", "RGB", "RGBA", "RGBa"))
    dtype = "uint16" if deep else "uint8" if colours else _GREY.get(mode, "uint8")
    return _Picture(size, colours, dtype, pages, deep, notices)


def _chosen(found: _Picture, policy: ReadPolicy, mask: bool, name: str) -> Sequence[int]:
    """Return the pages to read."""
    count = len(found.pages)
    if policy.volume is not None and not mask:
        if not isinstance(policy.volume, int) or policy.volume >= count:
            raise CaseError(
                "no_such_volume",
                f"{name}: volume {policy.volume} was chosen, but the file has "
                f"{counted(count, 'page')}, numbered from 0; choose another",
            )
        return [found.pages[policy.volume]]
    if count != 1 and not mask and policy.pages == "refuse":
        raise CaseError(
            "several_volumes",
            f"{name} has {counted(count, 'page')}, but one is needed; save each as a file",
            f"pass --pages stack to read them as slices, or choose one with --volume 0 to "
            f"--volume {count - 1}",
        )
    return found.pages


def _plane(image: Image.Image, page: int, mask: bool) -> np.ndarray:
    """Return a decoded page, shape (rows, columns) or (rows, columns, 3)."""
    if page or getattr(image, "n_frames", 1) > 1:
        image.seek(page)
    image.load()
    # Pillow rotates a TIFF when it loads it.
    shown = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
    if mask:
        return _values(shown)
    if shown.mode in ("LA", "La"):
        shown = shown.convert("L")
    elif shown.mode not in _GREY:
        shown = shown.convert("RGB")
    return np.asarray(shown.convert("L") if shown.mode == "1" else shown)


def _values(image: Image.Image) -> np.ndarray:
    """Return a decoded page's label values: grey values, or the indices of a coloured palette."""
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if (alpha != 255).any():
            raise CaseError(
                "label_colours",
                "the picture of the mask has transparent pixels; save it as grey values or with a "
                "palette, without transparency",
            )
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode in _GREY:
        return np.asarray(image)
    colours = np.asarray(image.convert("RGB"))
    grey: np.ndarray = colours[..., 0]
    if (colours == grey[..., np.newaxis]).all():
        return grey
    if image.mode != "P":
        raise CaseError(
            "label_colours",
            "the picture of the mask has colours without a palette, so they have no label values; "
            "save it as grey values or with a palette",
        )
    return np.asarray(image)


def _deep(path: Path, page: int) -> np.ndarray:
    """Return a page of 16-bit colours, shape (rows, columns, 3)."""
    with tifffile.TiffFile(path) as file:
        found = file.pages[page]
        ends = [a + b for a, b in zip(found.dataoffsets, found.databytecounts, strict=True)]
        if max(ends, default=0) > path.stat().st_size:
            raise CaseError("truncated", f"{path.name} ends too early; copy it again")
        try:
            array = found.asarray()
        except ValueError as error:  # a compression that tifffile needs another library for
            raise CaseError(
                "missing_codec",
                f"{path.name} has 16-bit colours with a compression that is not supported; save "
                "it without compression",
            ) from error
        array = np.moveaxis(array, 0, -1) if found.axes.startswith("S") else array
    if array.ndim != 3 or array.shape[2] < 3 or array.dtype != np.uint16:
        raise CaseError("picture_depth", f"{path.name} must have 8 or 16 bits for each colour")
    return array[..., :3]


def _spacing(
    image: Image.Image, policy: ReadPolicy, mask: bool
) -> tuple[tuple[float, float, float], list[Notice]]:
    """Return the spacing along (columns, rows, pages) in mm, and a notice if no user gave it."""
    if policy.pixel_mm:
        column, row, page = (*policy.pixel_mm, *[1.0] * 3)[:3]
        return (column, row if len(policy.pixel_mm) > 1 else column, page), []
    x, y, z = _said(image)
    if image.getexif().get(_ORIENTATION, 1) > 4:
        x, y = y, x
    if mask:
        return (x or 1.0, y or 1.0, z or 1.0), []
    if x is None or y is None:
        sentence = "the picture gives no pixel size; 1 mm assumed (the column pixel_mm sets it)"
        return (1.0, 1.0, 1.0), [Notice("picture_spacing", sentence)]
    sentence = f"{x:.4g} x {y:.4g} mm pixels, from the file (the column pixel_mm sets it)"
    return (x, y, z or 1.0), [Notice("picture_spacing", sentence)]


def _said(image: Image.Image) -> tuple[float | None, float | None, float | None]:
    """Return the spacing that a file gives, in mm; None along axes without one."""
    tags = getattr(image, "tag_v2", {})
    text = str(tags.get(_DESCRIPTION, ""))
    if text.startswith("ImageJ="):
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        unit = _IMAGEJ_MM.get(fields.get("unit", "").replace("\\u00B5", "µ"))
        if unit is None:
            return None, None, None
        step = _positive(fields.get("spacing", ""))
        found = [_positive(tags.get(tag, 0)) for tag in (_X, _Y)]
        x, y = (unit / size if size else None for size in found)
        return x, y, step * unit if step else None
    x, y = (_positive(size) for size in image.info.get("dpi", (0, 0)))
    if x is None or y is None or all(round(size, 1) in _SCREENS for size in (x, y)):
        return None, None, None
    return 25.4 / x, 25.4 / y, None


def _positive(value: object) -> float | None:
    """Return a number if it can be a size; else None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and 1e-6 < number < 1e9 else None
