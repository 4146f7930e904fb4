"""A DICOM segmentation or structure set as a reference: what it draws, as a label map.

    segmentation.py    a SEG      -> segments, each a mask on the scan's grid
    structure_set.py   an RTSTRUCT -> regions of interest, each a mask on the scan's grid
    here               segments -> the labels they mean -> one label map

Segments are matched to labels, never guessed, and what one label map cannot
hold is refused. Runs in the child process.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice
from voxtile.models.spec import Label
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import Scan
from voxtile.volume import Volume

from .drawing import Drawing, Grid, Segment
from .segmentation import Segmentation
from .structure_set import StructureSet

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class _Meant:
    """What a segment is in a label map.

    Parameters
    ----------
    value : int
        What its voxels get.
    meanings : tuple of tuple of int
        Values that its voxels may have in the end, those of a region's parts;
        several where it may be the region or the part that has its value.
    """

    segment: Segment
    value: int
    meanings: tuple[tuple[int, ...], ...]


def annotation_here(
    workspace: Workspace,
    path: Path,
    grid: Grid,
    labels: Sequence[Label],
    numbers: Mapping[int, int],
) -> Scan:
    """Read a SEG or RTSTRUCT as a label map; as `voxtile.reading.dicom.read_annotation`."""
    try:
        return _label_map(workspace, _open(path, grid), grid, labels, numbers)
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # pydicom and highdicom raise anything on a damaged file
        raise CaseError(
            "label_damaged",
            f"the label is a DICOM object that cannot be read ({type(error).__name__}); export it "
            "again",
        ) from error


def _open(path: Path, grid: Grid) -> Drawing:
    """Return what a file draws."""
    dataset = dcmread(path, stop_before_pixels=True)
    if dataset.get("SOPClassUID") == _RTSTRUCT:
        return StructureSet(dataset, grid)
    return Segmentation(path, dataset, grid)


def _label_map(
    workspace: Workspace,
    drawing: Drawing,
    grid: Grid,
    labels: Sequence[Label],
    numbers: Mapping[int, int],
) -> Scan:
    """Return the label map that a drawing is."""
    meant, notices = match(drawing.segments, labels, numbers, drawing.what)
    top = max(label.value for label in labels)
    kind = np.dtype(np.int16 if top < 2**15 else np.int32)
    array = workspace.allocate(grid.shape, kind)
    kept: list[tuple[_Meant, _Box, np.ndarray]] = []
    # In the order of the spec, so that a region's parts are written over it.
    order = {label.value: index for index, label in enumerate(labels)}
    for one in sorted(meant, key=lambda one: order.get(one.value, -1)):
        workspace.at(f"segment {one.segment.number}")
        mask = drawing.mask(one.segment.number)
        box = bounding_box(mask)
        if box is not None:
            array[box][mask[box]] = one.value
            kept.append((one, box, mask[box].copy()))
    _require_whole(array, kept, drawing.what)
    return Scan(Volume(array, grid.affine), (*notices, *drawing.notices()))


def match(
    segments: Sequence[Segment], labels: Sequence[Label], numbers: Mapping[int, int], what: str
) -> tuple[list[_Meant], list[Notice]]:
    """Return which label each segment means.

    Parameters
    ----------
    segments : sequence of Segment
    labels : sequence of Label
    numbers : mapping of int to int
        Numbers of segments to label values; 0 leaves a segment out.
    what : str
        How messages call a segment.

    Returns
    -------
    meant : list
        By number where `numbers` names it, else by name, else by code.
    notices : list of Notice

    Raises
    ------
    CaseError
        If nothing matches, two segments match one label, or segments and
        labels are both left over, so that one may be the other.
    """
    meant: list[_Meant] = []
    left: list[Segment] = []
    for segment in segments:
        if segment.number in numbers:
            value = numbers[segment.number]
            if value:
                # A number names a value, which a region shares with one of its parts.
                own = [label.values for label in labels if label.value == value]
                meanings = tuple(dict.fromkeys([(value,), *own]))
                meant.append(_Meant(segment, value, meanings))
            continue
        found = [label for label in labels if _plain(label.name) == _plain(segment.name)]
        if not found and segment.code is not None:
            found = [label for label in labels if _is(label, segment.code)]
        if len(found) == 1:
            meant.append(_Meant(segment, found[0].value, (found[0].values,)))
        else:
            left.append(segment)
    values = {label.value for label in labels}
    strange = sorted({one.value for one in meant} - values)
    if strange:
        raise CaseError(
            "label_values",
            f"--label-map gives a {what} the value {strange[0]}, but the model knows only "
            f"{', '.join(map(str, sorted(values)))}",
        )
    return meant, _judged(meant, left, labels, numbers, what)


def _judged(
    meant: Sequence[_Meant],
    left: Sequence[Segment],
    labels: Sequence[Label],
    numbers: Mapping[int, int],
    what: str,
) -> list[Notice]:
    """Return notices about what is left over, or refuse it."""
    for label in labels:
        same = [
            one.segment.number
            for one in meant
            if one.value == label.value and one.segment.number not in numbers
        ]
        if len(same) > 1:
            raise CaseError(
                "label_ambiguous",
                f"{what}s {', '.join(map(str, same))} all match label {label.value} ({label.name}) "
                f"by name or code; leave one that does",
                f"say which with --label-map, such as {same[0]}:{label.value},{same[1]}:0",
            )
    # By the segment of the label itself: a region says nothing about where its parts are.
    drawn = {one.value for one in meant}
    absent = [label for label in labels if label.value not in drawn]
    if left and (absent or not meant):
        label = (absent or labels)[0]
        raise CaseError(
            "label_unmatched",
            f"no {what} has the name or code of label {label.value} ({label.name}), and "
            f"{len(left)} of the {what}s match no label (numbers "
            f"{', '.join(str(segment.number) for segment in left[:10])}); give them the "
            "same names",
            f"name them with --label-map, such as {left[0].number}:{label.value}, or "
            f"{left[0].number}:0 to leave one out",
        )
    notices = []
    if left:
        notices.append(
            Notice("label_left_out", f"{len(left)} {what}s match no label and were left out")
        )
    empty = [label for label in absent if drawn.isdisjoint(label.values)]
    partial = [label for label in absent if not drawn.isdisjoint(label.values)]
    for some, taken in ((empty, "empty"), (partial, "no more than the labels within")):
        if some:
            names = ", ".join(f"{label.value} ({label.name})" for label in some)
            notices.append(
                Notice(
                    "label_absent", f"no {what} is label {names}; taken as {taken} in the reference"
                )
            )
    return notices


def _plain(name: str) -> str:
    """Return a name as it is compared: letters and digits, of any case."""
    return re.sub(r"[\W_]", "", name.casefold())


def _is(label: Label, code: Code) -> bool:
    """Whether a code is a label's; pydicom takes SNOMED's old codes (SRT) for its new ones."""
    concept = label.concept
    if concept is None:
        return False
    return bool(Code(concept.value, concept.scheme, concept.meaning) == code)


def bounding_box(mask: np.ndarray) -> _Box | None:
    """Return the smallest box with all true voxels; None without any."""
    sides = []
    for axis in range(3):
        (found,) = np.nonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not found.size:
            return None
        sides.append(slice(int(found[0]), int(found[-1]) + 1))
    i, j, k = sides
    return i, j, k


def _require_whole(
    array: np.ndarray, kept: Sequence[tuple[_Meant, _Box, np.ndarray]], what: str
) -> None:
    """Refuse segments that overlap in a way one label map cannot hold."""
    counts = dict(
        zip(*(found.tolist() for found in np.unique(array, return_counts=True)), strict=True)
    )
    for one, box, mask in kept:
        # A label with several segments, by --label-map, is their union.
        alike = [other for other in kept if other[0].value == one.value]
        drawn = np.count_nonzero(mask if len(alike) == 1 else _union(array.shape, alike))
        wrong = []
        for values in one.meanings:
            lost = int(np.count_nonzero(mask & ~np.isin(array[box], values)))
            gained = sum(counts.get(value, 0) for value in values) - int(drawn)
            wrong.append(max(lost, gained))
        if min(wrong) > 0:
            raise CaseError(
                "label_overlap",
                f"{what} {one.segment.number} overlaps others in {min(wrong)} voxels, but a "
                "voxel of a label map has one value; use labels that are regions",
                f"leave one out with --label-map {one.segment.number}:0",
            )


def _union(
    shape: tuple[int, ...], several: Sequence[tuple[_Meant, _Box, np.ndarray]]
) -> np.ndarray:
    """Return the voxels of any of some segments."""
    union = np.zeros(shape, bool)
    for _, box, mask in several:
        union[box] |= mask
    return union
