"""Facts about one training case: sizes, intensities and labels, but no voxels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from voxtile.label_values import label_values
from voxtile.preparation.position import relative
from voxtile.scoring.components import find_components
from voxtile.volume import Shape3D, Volume, canonical

Triple = tuple[float, float, float]

# Number of quantiles of a case's labelled voxels, at the middles of equal parts. So each case has
# the same weight in the cohort, whatever its size (nnU-Net draws 10,000 voxels of each case).
_QUANTILES = 200
# At most about this many labelled voxels, regularly spaced, are used for the quantiles.
_SAMPLE = 2**18
# For each of R, A, S, the axes of a plane across it.
_ACROSS = ((1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """Intensities of one channel of one case."""

    least: float  # extremes of all voxels, in units of the scan
    most: float
    zeros: float = 0.0  # fraction of voxels that are exactly 0
    # Quantiles of the labelled voxels in rising order; empty without labels.
    foreground: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """One label value of one case: its parts (26-neighbourhood), and where the largest is."""

    value: int
    voxels: int = 1
    component_ml: tuple[float, ...] = ()  # volumes, rising
    # (R, A, S): middle of the largest part, from -1 to 1 in the scan.
    place: Triple = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One training case."""

    shape: Shape3D  # (R, A, S): voxels of the canonical volume
    spacing_mm: Triple
    labels: tuple[LabelFacts, ...] = ()  # values other than 0, in rising order
    channels: tuple[ChannelFacts, ...] = ()
    # (R, A, S): size of the box around all labels; 0 without labels.
    box_mm: Triple = (0.0, 0.0, 0.0)
    # (R, A, S): fraction of the planes along each axis that show a label; planes that are ignored
    # completely do not count.
    labelled_planes: Triple = (0.0, 0.0, 0.0)
    modality: str = ""  # the manifest's column `modality`; empty without one
    ignored: int = 0  # voxels with the ignored value; everything else is measured without them
    missing: tuple[int, ...] = ()  # indices of channels that the case does not have

    @property
    def voxels(self) -> int:
        """Voxels that are not ignored."""
        return int(np.prod(self.shape)) - self.ignored

    @property
    def values(self) -> tuple[int, ...]:
        """Label values of the case, without 0."""
        return tuple(label.value for label in self.labels)


def describe_case(
    image: Volume,
    label: Volume,
    *,
    modality: str = "",
    ignore: int | None = None,
    missing: tuple[int, ...] = (),
) -> CaseFacts:
    """Describe one case: an image of shape (i, j, k) or (i, j, k, channels) and its label map.

    What image and planes show where the label map has the value `ignore` changes nothing.
    """
    ras, reference = canonical(image), canonical(label)
    array = ras.array if ras.array.ndim == 4 else ras.array[..., np.newaxis]
    known = None if ignore is None else reference.array != ignore
    marked = reference.array != 0 if known is None else known & (reference.array != 0)
    lines = [np.flatnonzero(marked.any(axis=axes)) for axes in _ACROSS]
    planes = ras.shape if known is None else [known.any(axis=axes).sum() for axes in _ACROSS]
    box = [float(line[-1] - line[0] + 1) if line.size else 0.0 for line in lines]
    voxel_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000
    return CaseFacts(
        shape=ras.shape,
        spacing_mm=ras.spacing_mm,
        labels=tuple(
            _describe_label(reference.array, value, voxel_ml)
            for value in label_values(reference.array)
            if value not in (0, ignore)
        ),
        channels=tuple(
            _describe_channel(array[..., channel], marked, known)
            for channel in range(array.shape[-1])
        ),
        box_mm=triple(size * mm for size, mm in zip(box, ras.spacing_mm, strict=True)),
        labelled_planes=triple(
            line.size / max(size, 1) for line, size in zip(lines, planes, strict=True)
        ),
        modality=modality,
        ignored=0 if known is None else known.size - int(np.count_nonzero(known)),
        missing=missing,
    )


def triple(values: Any) -> Triple:
    """Return three floats."""
    r, a, s = (float(value) for value in values)
    return r, a, s


def _describe_label(array: np.ndarray, value: int, voxel_ml: float) -> LabelFacts:
    """Describe one label value."""
    # Components are found as runs along the last axis, which should be contiguous in memory.
    found = find_components(np.ascontiguousarray(array == value))
    parts = found.voxels
    middle = found.middle(int(parts.argmax()))
    return LabelFacts(
        value,
        int(parts.sum()),
        tuple(sorted((parts * voxel_ml).round(6).tolist())),
        triple(round(float(relative(at, n)), 6) for at, n in zip(middle, array.shape, strict=True)),
    )


def _describe_channel(
    array: np.ndarray, marked: np.ndarray, known: np.ndarray | None
) -> ChannelFacts:
    """Describe the known voxels of one channel; all of them if `known` is None."""
    labelled = array[marked]
    labelled = labelled[:: max(1, labelled.size // _SAMPLE)]
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    array = array if known is None else array[known]
    return ChannelFacts(
        least=float(array.min()),
        most=float(array.max()),
        zeros=1 - np.count_nonzero(array) / array.size,
        foreground=tuple(np.quantile(labelled, middles).tolist()) if labelled.size else (),
    )
