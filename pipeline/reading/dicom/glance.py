"""Recognise an image by a few tags, if a similar one was read. Runs in the child process.

A tree has thousands of slices that differ only in position. `read_header` reads
the first of them. Of each other slice, only the tags that decide what kind of
file it is are compared with the first slice, byte by byte.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import isfinite

from pydicom import Dataset, dcmread
from pydicom.tag import Tag

from .folder import Place

# The tags that decide what kind of file it is, apart from its geometry.
_SAME = (
    *("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SpecificCharacterSet"),
)
# How many numbers each of these tags must have in a slice.
_GEOMETRY = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_TAGS = {name: Tag(name) for name in (*_SAME, *_GEOMETRY, "SOPInstanceUID")}
_PIXELS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")

Key = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """The identity of an image, and what a similar image must have in common with it."""

    instance: str
    key: Key


def glance(place: Place) -> Glance | None:
    """Return what a few tags of an image say; None if they do not show that it is a slice."""
    with suppress(Exception), place.open() as file:  # `read_header` says what is wrong
        dataset = dcmread(file, specific_tags=[*_TAGS.values()], stop_before_pixels=True)
        pixels = file.read(4)
        geometry = all(_finite(_bytes(dataset, name), count) for name, count in _GEOMETRY.items())
        if geometry and pixels in _PIXELS:
            syntax = str(dataset.file_meta.TransferSyntaxUID).encode()
            key = (syntax, pixels, *(_bytes(dataset, name) for name in _SAME))
            return Glance(_bytes(dataset, "SOPInstanceUID").rstrip(b"\0 ").decode("ascii"), key)
    return None


def _bytes(dataset: Dataset, name: str) -> bytes:
    """Return the stored bytes of an element; empty if it is missing."""
    tag = _TAGS[name]
    value = dataset.get_item(tag).value if tag in dataset else b""
    if not isinstance(value, bytes):
        raise TypeError(name)
    return value


def _finite(value: bytes, count: int) -> bool:
    """Whether the bytes of a decimal string are the given count of finite numbers."""
    numbers = list(map(float, value.rstrip(b"\0").split(b"\\")))
    return len(numbers) == count and all(map(isfinite, numbers))
