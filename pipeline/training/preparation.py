"""Read training cases once, and keep them as files that can be mapped into memory.

    scan, label -> canonical -> normalised -> planes of each view -> <n>_<view>_{image,label}.npy

Whatever the number of cases, memory holds one of them at a time; what is read
again and again afterwards is left to the system's page cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, ManifestError
from voxtile.intensity import measure
from voxtile.models.spec import Intensity, Label, View
from voxtile.planes import in_plane, to_planes
from voxtile.reading import read_channels, read_scan
from voxtile.reference import integral, on_grid_of, read_reference
from voxtile.resampling import resamplers
from voxtile.volume import Volume, canonical

from .recipe import Extent, Recipe


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case as it was read: its arrays on disk, in storage order.

    Parameters
    ----------
    case_id : str
    image, label : Path
        ``.npy`` files: voxels of the source's type, and uint8 or uint16.
    affine : tuple of tuple of float
        Of the image, rows.
    codes : (sform, qform)
    extent : Extent
    """

    case_id: str
    image: Path
    label: Path
    affine: tuple[tuple[float, ...], ...]
    codes: tuple[int, int]
    extent: Extent

    @property
    def volume(self) -> Volume:
        """The image; its voxels are mapped, not loaded."""
        return Volume(np.load(self.image, mmap_mode="r"), np.array(self.affine), self.codes)

    @property
    def reference(self) -> Volume:
        """The label map, on the image's grid."""
        return self.volume.with_array(np.load(self.label, mmap_mode="r"))

    def remove(self) -> None:
        """Delete the files."""
        self.image.unlink(missing_ok=True)
        self.label.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class PlaneStack:
    """The planes of one case along one view, on disk.

    Parameters
    ----------
    view : View
    image : Path
        ``.npy`` of float32, shape (planes, rows, columns, channels), normalised.
    label : Path
        ``.npy`` of uint8 or uint16, shape (planes, rows, columns).
    shape : (planes, rows, columns)
    spacing_mm : (rows, columns)
    label_planes : tuple of (value, tuple of int)
        The planes on which each label value occurs.
    """

    view: View
    image: Path
    label: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float]
    label_planes: tuple[tuple[int, tuple[int, ...]], ...]

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        """Return image and label, mapped, not loaded."""
        return np.load(self.image, mmap_mode="r"), np.load(self.label, mmap_mode="r")


def store_cases(
    cases: Sequence[Case],
    folder: Path,
    *,
    labels: Sequence[Label],
    manifest: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[StoredCase]:
    """Read every case with its label and keep its arrays.

    Parameters
    ----------
    cases : sequence of Case
        Each with a label.
    folder : Path
    labels : sequence of Label
        Values that a mask may have beside 0; empty allows any.
    manifest : Path
        For messages.
    advance : callable
        Called after each case.

    Raises
    ------
    ManifestError
        With every case that cannot be used, and why.
    """
    stored = []
    problems = []
    channels = [channel for channel, _ in cases[0].images]
    for number, case in enumerate(cases):
        try:
            stored.append(_store(case, channels, folder, number, labels))
        except CaseError as error:
            problems.append(f"{manifest} line {case.line}: case {case.case_id}: {error.sentence}")
        advance()
    if problems:
        raise ManifestError(problems)
    return stored


def store_planes(case: StoredCase, recipe: Recipe, folder: Path) -> list[PlaneStack]:
    """Normalise a stored case and keep its planes along each view of a settled recipe."""
    image, label = canonical(case.volume), canonical(case.reference)
    array = image.array if image.array.ndim == 4 else image.array[..., np.newaxis]
    normalised = _normalised(array, recipe.intensity)
    stacks = []
    for view in recipe.views or ():
        new = None if recipe.spacing_mm is None else in_plane(view, recipe.spacing_mm)
        old = in_plane(view, image.spacing_mm)
        planes = to_planes(normalised, view)
        labels = to_planes(label.array, view)
        if new is not None:
            planes = _resampled(planes, old, new)
            labels = _resampled_labels(labels, old, new)
        stem = f"{case.image.name.split('.')[0]}_{view}"
        paths = folder / f"{stem}_image.npy", folder / f"{stem}_label.npy"
        _save(paths[0], np.ascontiguousarray(planes))
        _save(paths[1], np.ascontiguousarray(labels))
        stacks.append(
            PlaneStack(
                view=view,
                image=paths[0],
                label=paths[1],
                shape=labels.shape,
                spacing_mm=new or old,
                label_planes=tuple(_label_planes(labels)),
            )
        )
    return stacks


def _store(
    case: Case, channels: Sequence[str], folder: Path, number: int, labels: Sequence[Label]
) -> StoredCase:
    """Read one case and keep its arrays."""
    if case.label is None:
        raise CaseError("no_label", "training needs a label")
    image = read_channels(case, channels).volume
    label = _read_label(case.label, image, labels)
    values = tuple(int(value) for value in np.unique(label) if value)
    paths = folder / f"{number:05d}.image.npy", folder / f"{number:05d}.label.npy"
    _save(paths[0], image.array)
    _save(paths[1], label)
    oriented = canonical(image)
    return StoredCase(
        case_id=case.case_id,
        image=paths[0],
        label=paths[1],
        affine=tuple(tuple(row) for row in image.affine.tolist()),
        codes=image.codes,
        extent=Extent(oriented.shape, oriented.spacing_mm, values),
    )


def _read_label(path: Path, image: Volume, labels: Sequence[Label]) -> np.ndarray:
    """Return a label map on the image's grid and in its storage order."""
    if labels:
        return read_reference(path, image, labels)[0].array
    placed, _ = on_grid_of(read_scan(path).volume, image, "label")
    return integral(placed.array, "label")[0]


def _normalised(array: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return every channel on the network's scale, float32."""
    normalised = np.empty(array.shape, np.float32)
    for channel in range(array.shape[-1]):
        part = array[..., channel]
        normalised[..., channel] = measure(part, intensity).apply(part)
    return normalised


def _resampled(
    planes: np.ndarray, spacing_mm: tuple[float, float], new_spacing_mm: tuple[float, float]
) -> np.ndarray:
    """Return all planes, shape (planes, rows, columns, channels), at another spacing."""
    rows, columns = planes.shape[1:3]
    there, _ = resamplers((rows, columns), spacing_mm, new_spacing_mm)
    return np.stack([there.apply(plane) for plane in planes])


def _resampled_labels(
    labels: np.ndarray, spacing_mm: tuple[float, float], new_spacing_mm: tuple[float, float]
) -> np.ndarray:
    """Return all label planes at another spacing: each pixel takes the value with most weight."""
    rows, columns = labels.shape[1:3]
    there, _ = resamplers((rows, columns), spacing_mm, new_spacing_mm)
    resampled = np.zeros((len(labels), *there.shape), labels.dtype)
    for target, plane in zip(resampled, labels, strict=True):
        values = np.unique(plane)
        if len(values) == 1:
            target[...] = values[0]
            continue
        shares = there.apply((plane[..., np.newaxis] == values).astype(np.float32))
        target[...] = values[shares.argmax(axis=-1)]
    return resampled


def _label_planes(labels: np.ndarray) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield each value other than 0 with the planes on which it occurs."""
    places: dict[int, list[int]] = {}
    for index, plane in enumerate(labels):
        for value in np.unique(plane).tolist():
            if value:
                places.setdefault(value, []).append(index)
    for value in sorted(places):
        yield value, tuple(places[value])


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array to a new file."""
    try:
        np.save(path, array)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written ({error.strerror or error}); training keeps its cases "
            "beside the output until it ends: free space there, or choose another place"
        ) from error
