"""Pictures as files, for tests."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), np.uint8)
COLOURS = RNG.integers(0, 256, (7, 5, 3), np.uint8)


def saved(path: Path, array: np.ndarray = GREY, **options) -> Path:
    """A file that pillow wrote from rows of pixels."""
    Image.fromarray(array).save(path, **options)
    return path


def png(path: Path, array: np.ndarray, depth: int, kind: int) -> Path:
    """A PNG of another depth or kind of colour than pillow writes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path
