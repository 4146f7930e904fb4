"""Read a segmentation or structure set as a label map, for use as a reference.

    segmentation.py    a SEG      -> segments, each a mask on the scan's grid
    structure_set.py   an RTSTRUCT -> regions of interest, each a mask on the scan's grid
    layered.py         a .seg.nrrd -> segments, each a mask on the scan's grid
    this module        segments -> their labels -> one label map

The label of a segment is never guessed. This runs in the child process.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.sr.coding import Code

from voxtile.errors import CaseError, Notice, counted, first_few
from voxtile.models.spec import Label
from voxtile.reading.isolation import Workspace
from voxtile.reading.joining import Meant, by_number, join
from voxtile.reading.scan import Scan
from voxtile.volume import Volume

from .drawing import Grid, Segment
from .folder import Place
from .kinds import is_slicer_segmentation
from .layered import SlicerSegmentation
from .provenance import check_source
from .segmentation import Segmentation
from .structure_set import StructureSet

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def annotation_here(
    workspace: Workspace,
    path: Path,
    grid: Grid,
    labels: Sequence[Label],
    numbers: Mapping[int, int],
) -> Scan:
    """Do the work of `voxtile.reading.dicom.read_annotation` in this process."""
    try:
        if is_slicer_segmentation(path):
            layered = SlicerSegmentation(path, grid, {label.value for label in labels})
            return _label_map(workspace, layered, grid, labels, {**layered.values, **numbers})
        return _label_map(workspace, _open(path, grid, workspace.at), grid, labels, numbers)
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # pydicom and highdicom raise anything on a damaged file
        raise CaseError(
            "label_damaged",
            f"the reference is a segmentation that cannot be read ({type(error).__name__}); "
            "export it again",
        ) from error


def _open(path: Path, grid: Grid, at: Callable[[str], None]) -> Segmentation | StructureSet:
    """Return the segments of a file."""
    place = Place(path, 1, 1)
    with place.open() as file:
        dataset = dcmread(file, stop_before_pixels=True)
    at("its segments")
    if dataset.get("SOPClassUID") == _RTSTRUCT:
        return StructureSet(dataset, grid, at)
    return Segmentation(place, dataset, grid)


def _label_map(
    workspace: Workspace,
    drawing: Segmentation | StructureSet | SlicerSegmentation,
    grid: Grid,
    labels: Sequence[Label],
    numbers: Mapping[int, int],
) -> Scan:
    """Return the label map of a drawing."""
    meant, notices = match(drawing.segments, labels, numbers, drawing.what)
    _require_own_numbers(drawing.segments, meant, drawing.what)
    used = {one.number for one in meant}
    frames = (one.frame for one in drawing.segments if one.number in used)
    notices += check_source(frames, drawing.series, grid.source)
    top = max(label.value for label in labels)
    kind = np.dtype(np.int16 if top < 2**15 else np.int32)
    array = workspace.allocate(grid.shape, kind)

    def mask_of(number: int) -> np.ndarray:
        """Draw one segment, and report progress."""
        workspace.at(f"segment {number}")
        return drawing.mask(number)

    for one in join(array, meant, labels, mask_of, drawing.what):
        name = next(label.name for label in labels if label.value == one.value)
        sentence = (
            f"{drawing.what} {one.number} of the reference, label {one.value} ({name}), has no "
            "voxel in the image; taken as empty"
        )
        notices.append(Notice("label_empty", sentence))
    return Scan(Volume(array, grid.affine), (*notices, *drawing.notices()))


def _require_own_numbers(segments: Sequence[Segment], meant: Sequence[Meant], what: str) -> None:
    """Refuse a segment that is used if its number belongs to another name too."""
    for number in dict.fromkeys(one.number for one in meant):
        names = {segment.name for segment in segments if segment.number == number}
        if len(names) > 1:
            raise CaseError(
                "label_ambiguous",
                f"{len(names)} {what}s of different names have the number {number}, so it is "
                f"unknown which of them was drawn; give each {what} a number of its own",
            )


def match(
    segments: Sequence[Segment], labels: Sequence[Label], numbers: Mapping[int, int], what: str
) -> tuple[list[Meant], list[Notice]]:
    """Match segments to labels: by number if `numbers` has it, else by name, else by code.

    Raises
    ------
    CaseError
        If nothing matches, two segments match one label, or both segments and
        labels are left without a match, so that they may belong together.
    """
    meant: list[Meant] = []
    left: list[Segment] = []
    for segment in segments:
        if segment.number in numbers:
            value = numbers[segment.number]
            if value:
                meant.append(by_number(segment.number, value, labels))
            continue
        found = [label for label in labels if _plain(label.name) == _plain(segment.name)]
        if not found and segment.code is not None:
            found = [label for label in labels if _is(label, segment.code)]
        if len(found) == 1:
            meant.append(Meant(segment.number, found[0].value, (found[0].values,)))
        else:
            left.append(segment)
    values = {label.value for label in labels}
    unknown = sorted({one.value for one in meant} - values)
    if unknown:
        raise CaseError(
            "label_values",
            f"--label-map gives a {what} the value {unknown[0]}, but the model has only "
            f"{', '.join(map(str, sorted(values)))}; use one of these",
        )
    return meant, _judged(meant, left, labels, numbers, what)


def _judged(
    meant: Sequence[Meant],
    left: Sequence[Segment],
    labels: Sequence[Label],
    numbers: Mapping[int, int],
    what: str,
) -> list[Notice]:
    """Return notices about segments and labels without a match, or refuse them."""
    for label in labels:
        same = [
            one.number for one in meant if one.value == label.value and one.number not in numbers
        ]
        if len(same) > 1:
            raise CaseError(
                "label_ambiguous",
                f"{what}s {', '.join(map(str, same))} all match label {label.value} ({label.name}) "
                "by name or code; keep one of them in the file",
                f"choose with --label-map, such as {same[0]}:{label.value},{same[1]}:0",
            )
    # Only a segment of the label itself counts: a region does not show where its parts are.
    drawn = {one.value for one in meant}
    absent = [label for label in labels if label.value not in drawn]
    if left and (absent or not meant):
        label = (absent or labels)[0]
        raise CaseError(
            "label_unmatched",
            f"no {what} has the name or code of label {label.value} ({label.name}), and "
            f"{len(left)} of the {what}s match no label (numbers "
            f"{first_few([segment.number for segment in left])}); give {what}s and labels the "
            "same names",
            f"match them with --label-map, such as {left[0].number}:{label.value}, or "
            f"{left[0].number}:0 to leave one out",
        )
    notices = []
    if left:
        sentence = (
            f"{counted(len(left), what)} of the reference left out: no label has the name or code"
        )
        notices.append(Notice("label_left_out", sentence))
    for whole, taken in ((True, "empty"), (False, "only the labels inside it")):
        names = [
            f"{label.value} ({label.name})"
            for label in absent
            if drawn.isdisjoint(label.values) == whole
        ]
        if names:
            sentence = f"no {what} of the reference is label {', '.join(names)}; taken as {taken}"
            notices.append(Notice("label_absent", sentence))
    return notices


def _plain(name: str) -> str:
    """Return a name for comparison: only letters and digits, without difference of case."""
    return re.sub(r"[\W_]", "", name.casefold())


def _is(label: Label, code: Code) -> bool:
    """Whether a code is a label's; for pydicom, SNOMED's old codes (SRT) equal its new ones."""
    concept = label.concept
    if concept is None:
        return False
    return bool(Code(concept.value, concept.scheme, concept.meaning) == code)
