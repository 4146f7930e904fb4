"""Recognise a DICOMDIR, SEG, RTSTRUCT or .seg.nrrd by name and first bytes, without decoding."""

import struct
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib

from voxtile.machine.files import regular

GZIP = b"\x1f\x8b"
# isal's type stub declares its exception class as an instance.
_ISAL_ERROR: Any = isal_zlib.error
GZIP_ERRORS = (igzip.BadGzipFile, _ISAL_ERROR, EOFError)

# Segmentation, Label Map Segmentation, RT Structure Set (PS3.4 B.5).
_ANNOTATIONS = (
    b"1.2.840.10008.5.1.4.1.1.66.4",
    b"1.2.840.10008.5.1.4.1.1.66.7",
    b"1.2.840.10008.5.1.4.1.1.481.3",
)


def is_dicomdir(path: Path) -> bool:
    """Whether a path is a DICOMDIR, by its name (PS3.10 section 8)."""
    return path.name.upper() == "DICOMDIR" and not path.is_dir()


def annotation_file(path: Path) -> Path | None:
    """Return the SEG, RTSTRUCT or 3D Slicer segmentation of a path; None for other paths.

    It is the file itself, or the only file in a folder, as a PACS exports it.
    """
    if path.is_dir():
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        path = files[0] if len(files) == 1 else path
    return path if is_slicer_segmentation(path) or _is_annotation(path) else None


def first_bytes(path: Path) -> bytes:
    """Return the first 4096 bytes, decompressed if the file is gzipped and that is possible."""
    with regular(path).open("rb") as file:
        head = file.read(4096)
    if head.startswith(GZIP):
        try:
            with igzip.open(path) as unzipped:
                return bytes(unzipped.read(4096))
        except GZIP_ERRORS:
            return head
    return head


def is_slicer_segmentation(path: Path) -> bool:
    """Whether a file has segments of 3D Slicer, by its name and header."""
    if not path.name.lower().endswith((".seg.nrrd", ".seg.nhdr")):
        return False
    try:
        with regular(path).open("rb") as file:
            return b"\nSegment0_" in file.read(2**16)
    except OSError:
        return False


def _is_annotation(path: Path) -> bool:
    """Whether a file is a SEG or RTSTRUCT, by its file header (PS3.10 section 7.1)."""
    try:
        head = first_bytes(path)
    except OSError:
        return False
    # Media Storage SOP Class UID, always explicit little endian.
    at = head.find(b"\x02\x00\x02\x00UI")
    if head[128:132] != b"DICM" or not 0 <= at <= len(head) - 8:
        return False
    (length,) = struct.unpack_from("<H", head, at + 6)
    return head[at + 8 : at + 8 + length].rstrip(b"\0") in _ANNOTATIONS
