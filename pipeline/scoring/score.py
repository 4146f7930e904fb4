"""Measure everything of each label in two label maps.

    prediction, reference -> box of a label -> two masks -> overlap.py
                                                         -> surface.py
                                                         -> components.py
                                                         -> on request: lesions.py, surface_area.py

Labels are measured one at a time. Both masks are cropped to the box that holds
the label in either mask, so that no array is larger than the label maps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxtile.label_values import joint_box
from voxtile.models.spec import Label
from voxtile.volume import Volume

from .components import LesionCounts, component_count, count_lesions, slab_planes
from .lesions import Lesions, match_lesions
from .measures import Measures as Measures
from .overlap import Overlap, check_one_grid, labels_of
from .surface import SurfaceDistances, measure_surfaces
from .surface_area import WeightedDistances, weigh_surfaces


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """The measurements of one label.

    Parameters
    ----------
    lesions : LesionCounts or None
        None if lesions were not measured.
    matched : Lesions or None
        None if lesions were not matched one by one.
    area : WeightedDistances or None
        None if surfaces were not weighted by their area.
    """

    label: int
    label_name: str
    overlap: Overlap
    surface: SurfaceDistances
    components_pred: int
    components_ref: int
    lesions: LesionCounts | None
    voxel_volume_ml: float
    matched: Lesions | None = None
    area: WeightedDistances | None = None

    @property
    def volume_ml_pred(self) -> float:
        """Volume of the prediction, in ml."""
        return self.overlap.voxels_pred * self.voxel_volume_ml

    @property
    def volume_ml_ref(self) -> float:
        """Volume of the reference, in ml."""
        return self.overlap.voxels_ref * self.voxel_volume_ml

    @property
    def volume_difference_ml(self) -> float:
        """Volume of the prediction minus that of the reference, in ml."""
        return (self.overlap.fp - self.overlap.fn) * self.voxel_volume_ml

    @property
    def volume_difference_rel(self) -> float:
        """Volume difference as a fraction of the reference; NaN if the reference is empty."""
        counts = self.overlap
        return (counts.fp - counts.fn) / counts.voxels_ref if counts.voxels_ref else float("nan")


def score(
    prediction: Volume,
    reference: Volume,
    labels: Sequence[Label] | None = None,
    *,
    measures: Measures | None = None,
) -> tuple[Score, ...]:
    """Compare two label maps on one grid: overlap, surface distances, components.

    Parameters
    ----------
    prediction, reference : Volume of integers, shape (i, j, k)
    labels : sequence of Label, optional
        Labels to score; by default every value in either mask.
    measures : Measures, optional
        What to measure in addition, and which value of the reference is ignored: its voxels
        count as background in both masks.

    Returns
    -------
    tuple of Score
        One for each label, in order.

    Raises
    ------
    ValueError
        If the grids differ.

    Examples
    --------
    >>> from voxtile import Volume, score
    >>> one = Volume(np.array([[[1, 1, 0]]]), np.eye(4))
    >>> other = Volume(np.array([[[0, 1, 1]]]), np.eye(4))
    >>> result = score(one, other)[0]
    >>> result.overlap, result.surface.hd95_mm, result.surface.nsd(0)
    (Overlap(tp=1, fp=1, fn=1), 0.95, 0.5)
    """
    check_one_grid(prediction, reference)
    measures = measures or Measures()
    if measures.ignore is not None:
        known = reference.array != measures.ignore
        prediction, reference = (
            mask.with_array(np.where(known, mask.array, 0).astype(mask.array.dtype))
            for mask in (prediction, reference)
        )
    if labels is None:
        labels = labels_of(prediction, reference)
    crops = _crops((prediction, reference), labels)
    # The affine's axes are permuted like the masks'.
    order = _memory_order(prediction.array)
    affine = prediction.affine[:3, [*order, 3]]
    # The surface of a mask of one plane is its outline; a single voxel is its own surface.
    extended = [position for position, axis in enumerate(order) if prediction.shape[axis] > 1]
    return tuple(
        _score(
            label,
            pair,
            _moved(affine, start),
            prediction.voxel_volume_ml,
            measures,
            tuple(extended or [0]),
        )
        for label, (start, pair) in zip(labels, crops, strict=True)
    )


def count_components(mask: Volume, labels: Sequence[Label]) -> tuple[tuple[int, int], ...]:
    """Return the number of voxels and of components of each label of one mask."""
    crops = _crops((mask,), labels)
    return tuple(
        _count(crop, label.values) for label, (_, (crop,)) in zip(labels, crops, strict=True)
    )


def _count(crop: np.ndarray, region: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of voxels and components of a region; no mask is larger than a slab."""
    thick = slab_planes(crop.shape)
    voxels = sum(
        int(np.count_nonzero(_mask(crop[start : start + thick], region)))
        for start in range(0, len(crop), thick)
    )
    return voxels, component_count(crop, lambda slab: _mask(slab, region))


def _score(
    label: Label,
    crops: Sequence[np.ndarray],
    affine: np.ndarray,
    voxel_volume_ml: float,
    measures: Measures,
    extended: tuple[int, ...],
) -> Score:
    """Measure one label on crops of two masks; surfaces only along the `extended` axes."""
    prediction, reference = (_mask(crop, label.values) for crop in crops)
    shape = [prediction.shape[axis] for axis in extended]
    flat = prediction.reshape(shape), reference.reshape(shape)
    linear = affine[:, list(extended)]
    both, pred, ref = map(np.count_nonzero, (prediction & reference, prediction, reference))
    return Score(
        label.value,
        label.name,
        Overlap(int(both), int(pred - both), int(ref - both)),
        measure_surfaces(*flat, linear),
        components_pred=component_count(prediction),
        components_ref=component_count(reference),
        lesions=count_lesions(prediction, reference) if measures.lesions else None,
        voxel_volume_ml=voxel_volume_ml,
        matched=match_lesions(prediction, reference, affine, extended)
        if measures.per_lesion
        else None,
        area=weigh_surfaces(*flat, linear) if measures.nsd_area else None,
    )


def _moved(affine: np.ndarray, start: Sequence[int]) -> np.ndarray:
    """Return the affine of a crop that begins at the voxel `start`."""
    moved = affine.copy()
    moved[:, 3] += affine[:, :3] @ np.array(start)
    return moved


def _crops(
    volumes: Sequence[Volume], labels: Sequence[Label]
) -> Iterator[tuple[tuple[int, ...], tuple[np.ndarray, ...]]]:
    """Yield for each label the same box of every volume, which holds the label in all volumes.

    Yield the first index of the box too.

    Axes are in the memory order of the first volume, so that the last is
    contiguous.
    """
    order = _memory_order(volumes[0].array)
    arrays = [volume.array.transpose(order) for volume in volumes]
    arrays = [array.view(np.uint8) if array.dtype == bool else array for array in arrays]
    largest = max((value for label in labels for value in label.values), default=0)
    boxes = [ndimage.find_objects(array, largest) for array in arrays]
    for label in labels:
        box = joint_box(found[value - 1] for found in boxes for value in label.values)
        # A label that is in no mask gets a box of one voxel without this label.
        box = box or (slice(0, 1),) * 3
        yield tuple(part.start for part in box), tuple(array[box] for array in arrays)


def _memory_order(array: np.ndarray) -> tuple[int, ...]:
    """Return the axes of an array from the slowest to the fastest in memory."""
    return tuple(int(axis) for axis in np.argsort(np.abs(array.strides), stable=True)[::-1])


def _mask(crop: np.ndarray, region: Sequence[int]) -> np.ndarray:
    """Return the mask of a region in a crop, in C order."""
    if len(region) == 1:
        mask: np.ndarray = crop == region[0]
        return np.ascontiguousarray(mask)
    table = np.zeros(int(max(crop.max(), *region)) + 1, bool)
    table[list(region)] = True
    return np.ascontiguousarray(table[crop])
