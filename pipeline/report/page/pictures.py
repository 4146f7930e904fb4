"""Make a case small enough for a browser: its image, its mask and its reference.

Pictures are only for people: intensities are windowed to 8 bits, and a large
scan is cropped to its masks and reduced. Nothing is measured on a picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.label_values import Box, label_type, region_box
from voxtile.models.spec import Label, stand_ins
from voxtile.reading.channels import own_channels, present_channels, read_channels
from voxtile.reading.dicom import annotation_file
from voxtile.reading.reference import integral, on_grid_of, read_label_map, read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Shape3D, Volume, canonical

# Maximum number of voxels of a volume in a picture; 3 million are about 3 MB of script.
MOST_VOXELS = 3_000_000
# Margin around the masks, for cropping and for measuring the window.
_MARGIN_MM = 25.0
_WINDOW_PERCENTILES = (0.5, 99.5)
_SAMPLES = 500_000


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A case to look at, on one grid that is stored in the order closest to RAS."""

    image: Volume  # windowed: 0 and 255 are the edges of `window`
    # Position of each voxel's label in the list of labels, from 1; 0 is background.
    prediction: Volume
    reference: Volume | None  # positions, as in `prediction`
    window: tuple[float, float]  # intensities that became 0 and 255
    notes: tuple[str, ...] = ()  # how the picture differs from the scan, for people
    others: tuple[Volume, ...] = ()  # positions of the masks of other runs


def read_picture(
    case: Case,
    mask: Path,
    labels: Sequence[Label],
    *,
    policy: ReadPolicy | None = None,
    label_map: Mapping[int, int] | None = None,
    channels: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> Picture:
    """Read the first channel, the mask and the reference of a case, and make them small.

    `mask` is the prediction, on the grid of the scan in any storage order. `policy` says how the
    run read scans; values in the row of the case come first. `label_map` has the reference values
    that the run renamed, `channels` are the channels of the model (default: of the manifest), and
    `others` are the masks of other runs.
    CaseError if the image or the mask cannot be read, or their grids differ. A reference that
    cannot be shown is only noted.
    """
    notes = []
    channels = channels or own_channels(case, policy)
    shown = present_channels(case, channels)[:1]
    scan = read_channels(case, shown, policy).volume
    count = max(len(channels), len(case.images))
    if count > 1:
        notes.append(f"channel {shown[0]} of {count}")
    image = canonical(scan)
    for one in (mask, *others):
        if not one.exists():
            raise CaseError("no_mask", f"the mask {one.name} is missing; run the case again")
    prediction, *rest = (
        _label_positions(one, image, "prediction", labels, {}) for one in (mask, *others)
    )
    reference = None
    if case.label is not None:
        try:
            if annotation_file(case.label) is None:
                reference = _label_positions(case.label, image, "label", labels, label_map or {})
            else:  # DICOM SEG or RTSTRUCT: matched to the labels by name, drawn on the scan
                drawn, _ = read_reference(case.label, scan, labels, label_map)
                reference = _positions(canonical(drawn), labels, {})
        except CaseError as error:
            notes.append(f"reference not shown: {error.sentence}")
    return make_picture(image, prediction, reference, notes=notes, others=rest)


def make_picture(
    image: Volume,
    prediction: Volume,
    reference: Volume | None,
    *,
    notes: Sequence[str] = (),
    most_voxels: int = MOST_VOXELS,
    others: Sequence[Volume] = (),
) -> Picture:
    """Make volumes on one RAS grid smaller.

    A scan of more than `most_voxels` is cropped to its masks and a margin, and if that is not
    enough, blocks of voxels become one voxel.
    """
    notes = list(notes)
    masks = [prediction, *others, *([] if reference is None else [reference])]
    around = _box_around(masks)
    low, high = _window(image.array[around])
    if image.array.size > most_voxels and image.array[around].shape != image.shape:
        image = _cropped(image, around)
        masks = [_cropped(mask, around) for mask in masks]
        notes.append(f"cropped to {_MARGIN_MM:g} mm around the masks")
    steps = _steps(image, most_voxels)
    if steps != (1, 1, 1):
        notes.append(f"blocks of {steps[0]} x {steps[1]} x {steps[2]} voxels are shown as one")
    reduced = [_reduced(mask, steps) for mask in masks]
    return Picture(
        image=_reduced(image.with_array(_windowed(image.array, low, high)), steps),
        prediction=reduced[0],
        reference=None if reference is None else reduced[-1],
        others=tuple(reduced[1 : 1 + len(others)]),
        window=(low, high),
        notes=tuple(notes),
    )


def _label_positions(
    path: Path, image: Volume, what: str, labels: Sequence[Label], renamed: Mapping[int, int]
) -> Volume:
    """Read a mask onto the grid of the image, and replace its values by positions of labels."""
    placed, _ = on_grid_of(read_label_map(path, what, labels=labels).volume, image, what)
    values, _ = integral(placed.array, what)
    return _positions(image.with_array(values), labels, renamed)


def _positions(mask: Volume, labels: Sequence[Label], renamed: Mapping[int, int]) -> Volume:
    """Return a label map whose values are positions of labels."""
    values = mask.array
    renamed = {**stand_ins(labels), **renamed}
    positions = np.zeros(values.shape, label_type([len(labels)]))
    for position, label in enumerate(labels, start=1):
        # Only a region's own value: masks are label maps, and the other values are labels too.
        own = [] if label.value in renamed else [label.value]
        for value in (*own, *(old for old, new in renamed.items() if new == label.value)):
            positions[values == value] = position
    return mask.with_array(positions)


def _box_around(masks: Sequence[Volume]) -> Box:
    """Return the box of all labelled voxels with a margin; without labels, the whole volume."""
    labelled = np.logical_or.reduce([mask.array > 0 for mask in masks])
    box = region_box(labelled.view(np.uint8), (1,))
    if box is None:
        return tuple(slice(0, size) for size in masks[0].shape)
    margins = [int(np.ceil(_MARGIN_MM / spacing_mm)) for spacing_mm in masks[0].spacing_mm]
    return tuple(
        slice(max(0, part.start - margin), part.stop + margin)
        for part, margin in zip(box, margins, strict=True)
    )


def _window(array: np.ndarray) -> tuple[float, float]:
    """Return the intensities to show as black and white, from at most half a million voxels."""
    step = max(1, int(np.ceil((array.size / _SAMPLES) ** (1 / 3))))
    low, high = np.percentile(array[::step, ::step, ::step], _WINDOW_PERCENTILES).tolist()
    return low, high if high > low else low + 1


def _windowed(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return intensities as 8 bits, computed slice by slice."""
    shown = np.empty(array.shape, np.uint8)
    for k in range(array.shape[2]):
        scaled = (array[:, :, k].astype(np.float32) - low) * (255 / (high - low))
        shown[:, :, k] = np.clip(np.rint(scaled), 0, 255)
    return shown


def _cropped(volume: Volume, box: Box) -> Volume:
    """Return a box of a volume, at its position in the world."""
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ [part.start for part in box]
    return replace(volume, array=volume.array[box], affine=affine)


def _steps(volume: Volume, most_voxels: int) -> Shape3D:
    """Return how many voxels become one along each axis: the finest axes are reduced first."""
    steps = [1, 1, 1]
    while np.prod([size // step for size, step in zip(volume.shape, steps, strict=True)]) > (
        most_voxels
    ):
        spacing = [size * step for size, step in zip(volume.spacing_mm, steps, strict=True)]
        # An axis of one voxel cannot be reduced further.
        able = [axis for axis in range(3) if volume.shape[axis] // (steps[axis] + 1) > 0]
        steps[min(able, key=spacing.__getitem__)] += 1
    return steps[0], steps[1], steps[2]


def _reduced(volume: Volume, steps: Shape3D) -> Volume:
    """Return a volume whose voxels are medians of blocks; incomplete blocks at the end are cut."""
    # The (lower) median of a block is always one of its values, and the majority if there is one,
    # so the result has only existing labels.
    if steps == (1, 1, 1):
        return volume
    whole = [size // step for size, step in zip(volume.shape, steps, strict=True)]
    cut = volume.array[tuple(slice(n * step) for n, step in zip(whole, steps, strict=True))]
    (i, j, k), (a, b, c) = whole, steps
    blocks = cut.reshape(i, a, j, b, k, c).transpose(0, 2, 4, 1, 3, 5).reshape(i, j, k, a * b * c)
    middle = (a * b * c - 1) // 2
    affine = volume.affine @ np.diag([*steps, 1])
    affine[:3, 3] += volume.affine[:3, :3] @ [(step - 1) / 2 for step in steps]
    return replace(volume, array=np.partition(blocks, middle, axis=-1)[..., middle], affine=affine)
