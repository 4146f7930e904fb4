"""Cut stored cases into normalised planes, and store these too.

stored case -> canonical -> normalised -> planes/<id>_<view>_{image,label}.npy
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from voxtile.machine.files import write_json
from voxtile.models.spec import Intensity, View
from voxtile.preparation.intensity import measure
from voxtile.preparation.planes import in_plane, to_planes
from voxtile.preparation.resampling import Resampler, resamplers
from voxtile.training.recipe.recipe import Recipe, settled
from voxtile.volume import canonical

from .stored_cases import StoredCase, save_array, stored


@dataclass(frozen=True, slots=True)
class PlaneStack:
    """The planes of one case along one view, on disk."""

    view: View
    image: Path  # ``.npy`` of float32, shape (planes, rows, columns, channels), normalised
    label: Path  # ``.npy`` of uint8 or uint16, shape (planes, rows, columns)
    shape: tuple[int, int, int]  # (planes, rows, columns)
    spacing_mm: tuple[float, float]  # (rows, columns)
    # Each label value, with the planes on which it occurs.
    label_planes: tuple[tuple[int, tuple[int, ...]], ...]
    # Planes with a pixel that is not ignored; empty if no pixel of the case is ignored.
    known_planes: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()  # indices of channels that the case does not have: zeros

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        """Return image and label, mapped from disk."""
        return np.load(self.image, mmap_mode="r"), np.load(self.label, mmap_mode="r")


def store_planes(case: StoredCase, recipe: Recipe, folder: Path) -> list[PlaneStack]:
    """Normalise a stored case and store its planes along each view of a settled recipe.

    Stored planes of the same case, spacing and intensities are used again.
    """
    intensity = recipe.scaling
    described = [case.made_from, recipe.pixel_mm, intensity.model_dump(mode="json")]
    made_from = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    views = settled(recipe.views)
    stem = f"{folder / 'planes' / case.case_id}_"
    kinds = ("image", "label")
    files = {view: {kind: Path(f"{stem}{view}_{kind}.npy") for kind in kinds} for view in views}
    records = {view: Path(f"{stem}{view}.json") for view in views}
    found = [stored(PlaneStack, records[view], made_from, files[view]) for view in views]
    stacks = [stack for stack in found if stack is not None]
    if len(stacks) == len(views):
        return stacks
    image, label = canonical(case.volume), canonical(case.reference)
    array = image.array if image.array.ndim == 4 else image.array[..., np.newaxis]
    normalised = _normalised(array, intensity)
    stacks = []
    for view in views:
        new = None if recipe.pixel_mm is None else in_plane(view, recipe.pixel_mm)
        old = in_plane(view, image.spacing_mm)
        planes = to_planes(normalised, view)
        labels = to_planes(label.array, view)
        if new is not None:
            resampler, _ = resamplers(labels.shape[1:], old, new)
            planes = np.stack([resampler.apply(plane) for plane in planes])
            labels = _resampled_labels(labels, resampler)
        stack = PlaneStack(
            view=view,
            **files[view],
            shape=labels.shape,
            spacing_mm=new or old,
            label_planes=tuple(_label_planes(labels, recipe.ignore)),
            known_planes=_known_planes(labels, recipe.ignore),
            missing=case.missing,
        )
        save_array(stack.image, np.ascontiguousarray(planes))
        save_array(stack.label, np.ascontiguousarray(labels))
        facts = {name: v for name, v in asdict(stack).items() if name not in files[view]}
        write_json(records[view], {"made_from": made_from, **facts})
        stacks.append(stack)
    return stacks


def _normalised(array: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return every channel on the network's scale, float32."""
    normalised = np.empty(array.shape, np.float32)
    for channel in range(array.shape[-1]):
        part = array[..., channel]
        normalised[..., channel] = measure(part, intensity).apply(part)
    return normalised


def _resampled_labels(labels: np.ndarray, resampler: Resampler) -> np.ndarray:
    """Return label planes at another spacing: each pixel gets the value with the largest weight."""
    resampled = np.zeros((len(labels), *resampler.shape), labels.dtype)
    for target, plane in zip(resampled, labels, strict=True):
        values = np.unique(plane)
        if len(values) == 1:
            target[...] = values[0]
            continue
        shares = resampler.apply((plane[..., np.newaxis] == values).astype(np.float32))
        target[...] = values[shares.argmax(axis=-1)]
    return resampled


def _known_planes(labels: np.ndarray, ignore: int | None) -> tuple[int, ...]:
    """Return the planes with a pixel that is not ignored; no plane if no pixel is ignored."""
    if ignore is None or not (ignored := labels == ignore).any():
        return ()
    return tuple(np.flatnonzero(~ignored.all(axis=(1, 2))).tolist())


def _label_planes(labels: np.ndarray, ignore: int | None) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield each value other than 0 and `ignore` with the planes on which it occurs."""
    found = [set(np.unique(plane).tolist()) for plane in labels]
    for value in sorted(set().union(*found) - {0, ignore}):
        yield value, tuple(index for index, values in enumerate(found) if value in values)
