"""Read segmentations of 3D Slicer: ``.seg.nrrd``.

They are NRRD files whose header has a line for each property of each segment
(slicer.readthedocs.io, Developer guide, Segmentations, "Segmentation file
format"). Segments that overlap are in several layers, in which the same value
may mean different segments, and the array may be only a part of the grid that
was segmented.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.errors import CaseError
from voxtile.volume import Volume, grid_difference, is_grid

from .nrrd import (
    Header,
    affine_of,
    files_of_nrrd,
    layers_of,
    read_header,
    read_nrrd,
    segment_fields,
    survey_nrrd,
)
from .scan import ReadPolicy, Scan
from .voxels import no_voxels, read_voxels

__all__ = ["Layered", "files_of_nrrd", "read_nrrd", "read_segmentation", "survey_nrrd"]

# Names that 3D Slicer gave: they say only the number of the segment.
_AUTOMATIC = re.compile(r"(?:segment|label)?[ _]?\d*", re.IGNORECASE)
_GEOMETRY = re.compile(r"Reference image geometry\|([^|]*)\|")


@dataclass(frozen=True, slots=True)
class LayeredSegment:
    """A segment: the voxels of one layer that have one value."""

    name: str
    layer: int
    value: int
    code: tuple[str, str, str] | None  # scheme, value and meaning of its type


class Layered:
    """A segmentation, read from its file.

    Parameters
    ----------
    survey : bool
        Read only the header: all voxels are 0.
    """

    def __init__(self, path: Path, *, survey: bool = False) -> None:
        try:
            header, start = read_header(path)
            layers = layers_of(path, header, start, no_voxels if survey else read_voxels)
            affine, self.notices = affine_of(header, path.name)
            self.volume = Volume(layers.reshape((*layers.shape[:3], -1)), affine)
        except OSError as error:
            raise CaseError(
                "unreadable", f"{path.name} cannot be read ({error.strerror or error})"
            ) from error
        except ValueError as error:
            raise CaseError(
                "bad_affine", f"{path.name}: {error}; write its position again"
            ) from error
        self.segments = [_segment(fields) for fields in segment_fields(header)]
        count = self.volume.array.shape[3]
        if any(not 0 <= segment.layer < count for segment in self.segments):
            raise CaseError(
                "bad_header",
                f"{path.name}: a segment is in a layer that the file does not have; save it again",
            )
        self.whole = _whole_grid(header, self.volume)

    def mask(self, segment: LayeredSegment) -> np.ndarray:
        """Return the voxels of a segment, bool, in the file's own array."""
        inside: np.ndarray = self.volume.array[..., segment.layer] == segment.value
        return inside

    @property
    def has_unique_values(self) -> bool:
        """Whether no two segments have the same value, even in different layers."""
        values = [segment.value for segment in self.segments]
        return len(set(values)) == len(values)

    @property
    def is_unnamed(self) -> bool:
        """Whether no segment has a name that says what it is."""
        return all(_AUTOMATIC.fullmatch(segment.name.strip()) for segment in self.segments)


def read_segmentation(path: Path, policy: ReadPolicy, survey: bool = False) -> Scan:
    """Read a segmentation as the label map of its segments' values, on the grid it was drawn on.

    Raises
    ------
    CaseError
        If segments overlap, or segments of different layers have the same
        value: a label map cannot distinguish them.
    """
    found = Layered(path, survey=survey)
    layers = found.volume.array
    if layers.shape[3] == 1:
        merged = layers[..., 0]
    else:
        if not found.has_unique_values:
            raise CaseError(
                "label_values",
                "segments in different layers have the same value, so only their names tell them "
                "apart; use a command that knows the labels, or export a label map from 3D Slicer",
            )
        if np.count_nonzero(layers, axis=3).max() > 1:
            raise CaseError(
                "label_overlap",
                "segments overlap, but a voxel of a label map has one value; export a label map "
                "from 3D Slicer, which keeps one of them",
            )
        merged = layers.max(axis=3)
    volume = found.volume.with_array(merged)
    if found.whole is not None:
        shape, offset = found.whole
        array = np.zeros(shape, merged.dtype)
        array[tuple(slice(o, o + n) for o, n in zip(offset, merged.shape, strict=True))] = merged
        volume = Volume(array, moved(volume.affine, [-step for step in offset]))
    return Scan(volume, tuple(found.notices))


def moved(affine: np.ndarray, voxels: Sequence[int]) -> np.ndarray:
    """Return the affine of an array that begins the given number of voxels later."""
    shift = np.eye(4)
    shift[:3, 3] = voxels
    result: np.ndarray = affine @ shift
    return result


def _segment(fields: Mapping[str, str]) -> LayeredSegment:
    """Return a segment from its lines of the header."""
    entry = re.search(
        r"TerminologyEntry:[^~]*~[^~]*~([^~^]*)\^([^~^]*)\^([^~^]*)~", fields.get("Tags", "")
    )
    try:
        return LayeredSegment(
            fields.get("Name", ""),
            int(fields.get("Layer", 0)),
            int(fields.get("LabelValue", 1)),
            (entry[1], entry[2], entry[3]) if entry and entry[2] else None,
        )
    except ValueError as error:
        raise CaseError(
            "bad_header", "a segment's layer or value is not a number; save the file again"
        ) from error


def _whole_grid(header: Header, part: Volume) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shape of the whole grid, and where in it the array begins, if it is a part.

    None if the header does not say so, or if its geometry does not fit the array.
    """
    geometry = _GEOMETRY.search(str(header.get("Segmentation_ConversionParameters", "")))
    if geometry is None:
        return None
    try:
        numbers = [float(text) for text in geometry[1].split(";") if text.strip()]
        offset = [int(n) for n in header["Segmentation_ReferenceImageExtentOffset"].split()]
    except (KeyError, ValueError):
        return None
    if len(numbers) != 22 or len(offset) != 3 or not np.isfinite(numbers).all():
        return None
    first, last = np.array(numbers[16::2], int), np.array(numbers[17::2], int)
    begin = np.array(offset) - first
    shape = last - first + 1
    if (begin < 0).any() or (begin + part.shape > shape).any() or (shape > 2**15).any():
        return None
    reference = moved(np.array(numbers[:16]).reshape(4, 4), offset)
    if not is_grid(reference):
        return None
    if not grid_difference(part.shape, reference, part.affine).tolerable:
        return None
    if tuple(shape) == part.shape:
        return None
    return tuple(shape.tolist()), tuple(begin.tolist())
