"""Find the slices in tiled images, as Siemens (mosaic) and UIH (grid) write them.

+---+---+---+
| 0 | 1 | 2 |      slices row by row; a Siemens mosaic is square and
+---+---+---+      padded with empty tiles; its position is the corner
| 3 | 4 | - |      of an image of this size around the centre of slice 0
+---+---+---+
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

import numpy as np
from pydicom import Dataset

from voxtile.errors import CaseError

from .elements import named, private, words
from .folder import Place


@dataclass(frozen=True, slots=True)
class Tile:
    """One slice in a tiled image, with the fields of a `Slice` that differ between tiles."""

    corner: tuple[int, int]
    rows: int
    columns: int
    position: tuple[float, float, float]


def siemens_tiles(dataset: Dataset, place: Place) -> list[Tile] | None:
    """Return the slices of a Siemens mosaic; None for other images.

    The number of slices and their normal come from the private CSA header
    (0029,xx10); their distances come from SpacingBetweenSlices.
    """
    if not _may_be_tiled(dataset, "MOSAIC"):
        return None
    csa = _csa(private(dataset, 0x00290010, "SIEMENS CSA HEADER"))
    counts = csa.get("NumberOfImagesInMosaic", [])
    count = int(counts[0]) if counts else private(dataset, 0x0019000A, "SIEMENS MR HEADER")
    if not count and not words(named(dataset, "ImageType")):
        return None
    normal = np.array([float(text) for text in csa.get("SliceNormalVector", [])])
    spacing = dataset.get("SpacingBetweenSlices")
    if not count or normal.shape != (3,) or not spacing:
        raise CaseError(
            "mosaic",
            f"{place} is a Siemens mosaic without the private header (0029,1010) that gives the "
            "number and direction of its slices; export it with private tags",
        )
    side = isqrt(count - 1) + 1
    rows, columns = _tile_size(dataset, (side, side), place)
    across, down = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in dataset.PixelSpacing)
    if abs(abs(normal @ np.cross(across, down)) - 1) > 1e-3:
        raise CaseError(
            "mosaic",
            f"{place} is a Siemens mosaic whose slice direction is not at right angles to rows "
            "and columns; export the series as single slices",
        )
    first = (
        np.array(dataset.ImagePositionPatient, float)
        + across * between_columns * (dataset.Columns - columns) / 2
        + down * between_rows * (dataset.Rows - rows) / 2
    )
    return [
        _tile(number, side, rows, columns, first + normal * float(spacing) * number)
        for number in range(count)
    ]


def uih_tiles(dataset: Dataset, place: Place) -> list[Tile] | None:
    """Return the slices of a UIH grid (VFRAME); None for other images.

    The private sequence (0065,xx51) holds each slice's position.
    """
    if not _may_be_tiled(dataset, "VFRAME"):
        return None
    items = private(dataset, 0x00650051, "Image Private Header")
    if not items and not words(named(dataset, "ImageType")):
        return None
    count = len(items or ())
    stated = private(dataset, 0x00650050, "Image Private Header")
    if not count or (stated is not None and int(stated) != count):
        raise CaseError(
            "mosaic",
            f"{place} is a UIH grid without the private sequence (0065,1051) that gives the "
            "positions of its slices; export it with private tags",
        )
    across = ceil(count**0.5)
    rows, columns = _tile_size(dataset, (ceil(count / across), across), place)
    positions = [np.array(item.ImagePositionPatient, float) for item in items]
    return [
        _tile(number, across, rows, columns, position) for number, position in enumerate(positions)
    ]


def _may_be_tiled(dataset: Dataset, word: str) -> bool:
    """Whether ImageType contains a word, or is missing (then the private header decides)."""
    # Slices that a program cut out of a mosaic often keep its private header.
    stated = words(named(dataset, "ImageType"))
    return not stated or any(word in each for each in stated)


def _tile(number: int, across: int, rows: int, columns: int, position: np.ndarray) -> Tile:
    """Return one tile, counted row by row."""
    x, y, z = position.tolist()
    corner = (number // across * rows, number % across * columns)
    return Tile(corner, rows, columns, (x, y, z))


def _tile_size(dataset: Dataset, grid: tuple[int, int], place: Place) -> tuple[int, int]:
    """Return rows and columns of a tile."""
    if dataset.Rows % grid[0] or dataset.Columns % grid[1]:
        raise CaseError(
            "mosaic",
            f"{place} has {dataset.Rows} x {dataset.Columns} pixels, which cannot be divided into "
            f"{grid[0]} x {grid[1]} equal tiles; export the series as single slices",
        )
    return dataset.Rows // grid[0], dataset.Columns // grid[1]


def _csa(content: Any) -> dict[str, list[str]]:
    """Return the elements of a Siemens CSA2 header ("SV10"); empty for other content.

    Layout as nibabel documents it (nibabel.nicom, "Siemens format DICOM with
    CSA header"): 8 bytes, the number of elements, then for each a name of 64
    bytes, five numbers of which the fourth counts items, and each item's
    length with its text, padded to 4 bytes.
    """
    if not isinstance(content, bytes) or content[:4] != b"SV10":
        return {}
    try:
        return dict(_csa_elements(content))
    except (struct.error, UnicodeDecodeError):
        return {}


def _csa_elements(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and texts of each element."""
    (count,) = struct.unpack_from("<I", content, 8)
    at = 16
    for _ in range(min(count, 1000)):
        name, _, _, _, items, _ = struct.unpack_from("<64si4siii", content, at)
        at += 84
        texts = []
        for _ in range(min(items, 1000)):
            (length,) = struct.unpack_from("<4xi8x", content, at)
            at += 16
            if not 0 <= length <= len(content) - at:
                raise struct.error("an item is longer than the header")
            text = content[at : at + length].split(b"\0")[0].decode("latin-1").strip()
            at += -(-length // 4) * 4
            if text:
                texts.append(text)
        yield name.split(b"\0")[0].decode("ascii"), texts
