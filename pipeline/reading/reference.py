"""Read a reference mask onto the scan's grid, or say why it cannot be used."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from voxtile.errors import CaseError, Notice, first_few
from voxtile.label_values import label_type, label_values
from voxtile.models.spec import Label, stand_ins
from voxtile.volume import Axes, Volume, grid_difference, reorient

from .channels import in_mm, read_mask
from .dicom import annotation_file, read_annotation
from .one_hot import flatten
from .scan import Scan, off_grid

# A value at most this far from an integer was rounded by the program that wrote it; if a value is
# further away, the file is not a label map.
_INTEGRAL = 1e-3


def read_reference(
    path: Path,
    image: Volume,
    labels: Sequence[Label],
    label_map: Mapping[int, int] | None = None,
    ignore: int | None = None,
    unlabelled: Sequence[int] | None = None,
) -> tuple[Volume, tuple[Notice, ...]]:
    """Read a reference mask and check it against the image and the labels.

    Parameters
    ----------
    path : Path
        A label map in any format; or a DICOM SEG, RTSTRUCT or 3D Slicer
        segmentation, as a file or in a folder of its own.
    image : Volume
        The scan; its voxels are not used.
    labels : sequence of Label
        Values without a label, except 0, are refused. Segments of a SEG and ROIs of an
        RTSTRUCT are matched to these labels by name or code.
    label_map : mapping of int to int, optional
        Labels by reference value, which are applied before the check; by
        number of segment or ROI for SEG and RTSTRUCT; by number of channel for
        channels of 0 and 1.
    ignore : int, optional
        A further value that is allowed.
    unlabelled : sequence of int, optional
        Further values, which become 0.

    Returns
    -------
    mask : Volume of uint8 or uint16, shape (i, j, k)
        On the grid and in the storage order of `image`. A merged value is replaced by its
        label's own.

    Raises
    ------
    CaseError
        If the mask is on another grid, or has values that are not labels.
    """
    others = {0} if ignore is None else {0, ignore}
    allowed = {*others, *(value for label in labels for value in label.values)}
    kind = label_type(allowed)
    annotation = annotation_file(path)
    if annotation is not None:
        drawn = read_annotation(annotation, image, labels, label_map)
        return image.with_array(drawn.volume.array.astype(kind)), drawn.notices
    scan = _read(path, "label")
    several = scan.volume.array.ndim == 4
    scan = _flat(scan, "label", labels, label_map or {})
    placed, notices = on_grid_of(scan.volume, image, "label")
    array, more = integral(placed.array, "label")
    if label_map and not several:
        array = _renamed(array, label_map)
    if same := {**dict.fromkeys(unlabelled or (), 0), **stand_ins(labels)}:
        array = _renamed(array, same)
    unknown = sorted(set(label_values(array)) - allowed)
    if unknown == [255] and len(labels) == 1 and not array[(array != 0) & (array != 255)].any():
        (label,), unknown = labels, []
        array = np.where(array, np.uint16(label.value), np.uint16(0))
        sentence = f"the reference has values 0 and 255; 255 was read as {label.value}"
        more = (*more, Notice("label_binary", sentence))
    if unknown:
        raise CaseError(
            "label_values",
            f"the reference has values {first_few(unknown)}, but the model has only "
            f"{first_few(sorted(allowed))}; change the values in the file",
            f"rename them with --label-map, such as {unknown[0]}:{max(allowed)}",
        )
    return image.with_array(array.astype(kind)), (*scan.notices, *notices, *more)


def read_label_map(
    path: Path,
    what: str,
    *,
    survey: bool = False,
    labels: Sequence[Label] = (),
    pixel_mm: tuple[float, ...] = (),
) -> Scan:
    """Read a mask on its own grid (`pixel_mm` is that of a picture); a survey reads only headers.

    `what` is "label" (called the reference in messages), "prediction" or "mask".
    Errors suggest no options such as ``--volume``, which are for scans. Channels
    of 0 and 1 may overlap if `labels` are regions.
    """
    scan = _read(path, what, survey=survey, pixel_mm=pixel_mm)
    return _without_voxels(scan, what) if survey else _flat(scan, what, labels)


def _read(path: Path, what: str, *, survey: bool = False, pixel_mm: tuple[float, ...] = ()) -> Scan:
    """Read a mask; several volumes have shape (i, j, k, volume)."""
    try:
        return read_mask(path, survey=survey, pixel_mm=pixel_mm)
    except CaseError as error:
        raise CaseError(error.code, f"the {_name(what)} cannot be used: {error.bare}") from error


def _flat(
    scan: Scan,
    what: str,
    labels: Sequence[Label] = (),
    label_map: Mapping[int, int] | None = None,
) -> Scan:
    """Return the label map of a mask with several channels."""
    if scan.volume.array.ndim == 3:
        return scan
    try:
        array, sentence = flatten(scan.volume.array, labels, label_map)
    except CaseError as error:
        bare = f"the {_name(what)} cannot be used: {error.bare}"
        raise CaseError(error.code, bare, error.option if label_map is not None else "") from error
    notice = Notice(f"{what}_one_hot", f"the {_name(what)} has {sentence}")
    return Scan(scan.volume.with_array(array), (*scan.notices, notice))


def _without_voxels(scan: Scan, what: str) -> Scan:
    """Return one volume of a mask whose voxels were not read."""
    array = scan.volume.array
    if array.ndim == 3:
        return scan
    sentence = (
        f"the {_name(what)} has {array.shape[3]} volumes; they can be used if each is a channel of "
        "0 and 1 for one label (this is checked when the voxels are read)"
    )
    volume = scan.volume.with_array(array[..., 0])
    return Scan(volume, (*scan.notices, Notice(f"{what}_one_hot", sentence)))


def on_grid_of(mask: Volume, image: Volume, what: str) -> tuple[Volume, tuple[Notice, ...]]:
    """Return `mask` in the storage order of `image`, if both are on the same grid.

    Raises
    ------
    CaseError
        If they differ in shape, or by more than a tenth of a voxel at a
        corner, even after axes are permuted and flipped.
    """
    name = _name(what)
    if mask.array.ndim != 3:
        raise CaseError(
            "label_grid", f"the {name} has several channels; it needs one value per voxel"
        )
    if mask.is_picture or image.is_picture:
        return _on_picture(mask, image, name), ()
    axes = _axes_between(mask, image)
    placed = mask if axes is None else reorient(mask, axes)
    if placed.shape != image.shape:
        raise CaseError(
            "label_grid",
            f"the {name} has shape {mask.shape} ({mask.orientation}), but the image has "
            f"{image.shape} ({image.orientation}); resample the {name} to the image first",
        )
    difference = grid_difference(image.shape, placed.affine, image.affine)
    if not difference.tolerable:
        raise CaseError(
            "label_grid",
            f"the {name} is up to {difference.position_mm:.3g} mm away from the image (its spacing "
            f"is {in_mm(mask.spacing_mm)}, the image's {in_mm(image.spacing_mm)}); resample the "
            f"{name} to the image first",
        )
    notices = []
    if axes is not None and axes != Axes((0, 1, 2), (False, False, False)):
        sentence = (
            f"the {name} is stored as {mask.orientation}, the image as {image.orientation}, on the "
            "same grid; its axes were reordered to match the image"
        )
        notices.append(Notice(f"{what}_reoriented", sentence))
    if difference:
        notices.append(off_grid(what, f"the {name}", difference.voxels))
    return image.with_array(placed.array), tuple(notices)


def _on_picture(mask: Volume, image: Volume, name: str) -> Volume:
    """Return `mask` on the grid of `image` if one of them is a picture and sizes agree.

    A mask of another format must have columns, rows and pages in the same order
    as pictures; the masks that voxtile writes for pictures have this order.
    """
    plain = all(
        volume.is_picture
        or (volume.orientation == "LPS" and np.count_nonzero(volume.affine[:3, :3]) == 3)
        for volume in (mask, image)
    )
    if not plain or mask.shape != image.shape:
        raise CaseError(
            "label_grid",
            f"the {name} has shape {mask.shape} ({mask.orientation}), but the image has "
            f"{image.shape} ({image.orientation}), and a picture has no position in the world; "
            f"save the {name} as a picture of the same size",
        )
    return image.with_array(mask.array)


def integral(array: np.ndarray, what: str) -> tuple[np.ndarray, tuple[Notice, ...]]:
    """Return label values as integers.

    Raises
    ------
    CaseError
        If a value is negative, or not within 1e-3 of an integer.
    """
    notices: tuple[Notice, ...] = ()
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        largest = float(np.abs(array - rounded).max())
        if largest > _INTEGRAL:
            raise CaseError(
                f"{what}_not_integral",
                f"the {_name(what)} has values up to {largest:.3g} from an integer, but a label "
                "map has whole numbers; if it holds probabilities or was interpolated, use the "
                "original label map",
            )
        if largest > 0:
            sentence = f"the {_name(what)} had values up to {largest:.2g} from an integer; rounded"
            notices = (Notice(f"{what}_rounded", sentence),)
        array = rounded
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 65535:
        raise CaseError(
            f"{what}_values",
            f"the {_name(what)} has values from {low:g} to {high:g}, but they must be 0 to 65535",
        )
    # uint8 stays uint8.
    return array if array.dtype == np.uint8 else array.astype(np.uint16, copy=False), notices


def _axes_between(mask: Volume, image: Volume) -> Axes | None:
    """Return the permutation and flips from the mask's axes to the image's; None if not enough."""
    relation = np.linalg.solve(image.affine[:3, :3], mask.affine[:3, :3])
    rounded = np.rint(relation).astype(int)
    size = np.abs(rounded)
    if (size.sum(axis=0) != 1).any() or (size.sum(axis=1) != 1).any():
        return None
    i, j, k = (int(axis) for axis in size.argmax(axis=1))
    flips = tuple(bool(rounded[axis, source] < 0) for axis, source in enumerate((i, j, k)))
    return Axes((i, j, k), (flips[0], flips[1], flips[2]))


def _renamed(array: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """Return the array with all values renamed at once, so that 1:2,2:1 swaps."""
    table = np.arange(max(int(array.max()), *label_map) + 1, dtype=np.uint16)
    for before, after in label_map.items():
        table[before] = after
    renamed: np.ndarray = table[array]
    return renamed


def _name(what: str) -> str:
    """Return what messages call a mask; a reference is ``label`` in the codes of notices."""
    return "reference" if what == "label" else what
