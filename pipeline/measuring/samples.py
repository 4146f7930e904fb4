"""Planes to compare engines on: taken evenly from scans, and segmented as a run does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxtile.case import Case
from voxtile.engines import Model
from voxtile.inference.decision import decide
from voxtile.inference.infer import Member, view_probabilities
from voxtile.inference.seen import see
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec, View
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.preparation.plan import make_plan
from voxtile.preparation.planes import slice_axis
from voxtile.reading.channels import read_channels
from voxtile.reading.reference import read_reference
from voxtile.volume import Volume

_PHANTOM_PLANES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some planes of one case along one view."""

    case_id: str
    volume: Volume  # closest-canonical, shape (R, A, S, channels)
    label: np.ndarray | None  # ndarray or None: reference label map, as networks see it
    view: View
    indices: tuple[int, ...]  # of the planes


def samples_of(
    spec: ModelSpec, cases: Sequence[Case], planes: int, *, labelled: bool = True
) -> list[Sample]:
    """Return planes of cases, with their references if `labelled` and every case has one."""
    labelled = labelled and all(case.label is not None for case in cases)
    samples = []
    for case in cases:
        image = read_channels(case, spec.channels, absent=spec.absent).volume
        label = None
        if labelled and case.label is not None:
            label = read_reference(
                case.label, image, spec.labels, None, spec.ignore, spec.unlabelled
            )[0].array
        samples += [_sample(case.case_id, image, label, view, planes, spec) for view in spec.views]
    return samples


def phantom_samples(spec: ModelSpec, planes: int) -> list[Sample]:
    """Return planes of a phantom."""
    image = _phantom(spec)
    return [_sample("phantom", image, None, view, planes, spec) for view in spec.views]


def judge_samples(
    bundle: Bundle, models: Sequence[Model], samples: Sequence[Sample]
) -> list[np.ndarray]:
    """Return the label maps of each sample's planes; labels are chosen for each view alone.

    `models` has a model for each network. Label maps are uint8 or uint16, (planes, rows, columns).
    """
    spec = bundle.spec
    # Mirrored tiles would compare nothing new.
    member = Member(spec, tuple(models), replace(make_plan(bundle), flips=()))
    return [
        np.stack(
            [
                decide(plane, spec)
                for plane in view_probabilities(
                    sample.volume, sample.view, member, indices=sample.indices
                )
            ]
        )
        for sample in samples
    ]


def evenly(count: int, most: int) -> tuple[int, ...]:
    """Return at most `most` of `count` indices: the middles of equal parts.

    Examples
    --------
    >>> evenly(10, 3), evenly(2, 5)
    ((1, 5, 8), (0, 1))
    """
    parts = min(count, most)
    return tuple(int((part + 0.5) * count / parts) for part in range(parts))


def _sample(
    case_id: str,
    image: Volume,
    label: np.ndarray | None,
    view: View,
    planes: int,
    spec: ModelSpec,
) -> Sample:
    """Return planes of a view, chosen evenly, with the part of a reference in storage order."""
    seen = see(image, spec)
    shown = None if label is None else seen.of(label)
    chosen = evenly(seen.volume.shape[slice_axis(view)], planes)
    return Sample(case_id, seen.volume, shown, view, chosen)


def _phantom(spec: ModelSpec) -> Volume:
    """Return ellipsoids in noise; planes of the spec's first view have the size of a tile."""
    rows, columns = spec.tile
    through = slice_axis(spec.views[0])
    shape = [rows, columns]
    shape.insert(through, _PHANTOM_PLANES)
    sized = (shape[0], shape[1], shape[2])
    spacing = spec.spacing_mm or (1.0, 1.0, 1.0)
    half = tuple(size * step / 2 for size, step in zip(sized, spacing, strict=True))
    solids = [
        Ellipsoid((0.0, 0.0, 0.0), (0.8 * half[0], 0.8 * half[1], 3 * half[2]), 600),
        Ellipsoid((0.2 * half[0], 0.0, 0.0), (0.4 * half[0], 0.3 * half[1], 2 * half[2]), 1000),
        Ellipsoid((-0.4 * half[0], 0.2 * half[1], 0.0), (0.2 * half[0], 0.2 * half[1], 20.0), 300),
    ]
    image, _ = draw(sized, centred_affine(sized, spacing), solids, noise=40.0)
    array = image.array
    if spec.intensity.input_range is not None:  # drawn from 0 to 1000, then scaled to the range
        low, high = spec.intensity.input_range
        array = (low + array * ((high - low) / 1000)).astype(np.float32)
    if len(spec.channels) > 1:
        array = np.repeat(array[..., np.newaxis], len(spec.channels), axis=-1)
    return image.with_array(array)
