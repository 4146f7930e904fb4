"""Read training cases once, and keep them as files that can be mapped into memory.

    scan, label -> CaseFacts, cases/<id>.{image,label}.npy            as read
                -> canonical -> normalised -> planes of each view
                -> planes/<id>_<view>_{image,label}.npy

Whatever the number of cases, memory holds one of them at a time; what is read
again and again afterwards is left to the system's page cache.

A ``.json`` beside the arrays is written last and says what they were made
from: a training that goes on takes what is whole and still the same, and makes
the rest anew.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, ManifestError
from voxtile.files import replacing, write_json
from voxtile.fingerprint import case_fingerprint
from voxtile.intensity import measure
from voxtile.models.spec import Intensity, Label, View
from voxtile.planes import in_plane, to_planes
from voxtile.reading import read_channels, read_scan
from voxtile.reference import integral, on_grid_of, read_reference
from voxtile.resampling import resamplers
from voxtile.volume import Volume, canonical

from .case_facts import CaseFacts, describe_case
from .recipe import Recipe, settled

Result = TypeVar("Result")


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
    facts : CaseFacts
    made_from : str
        Hash of the case's files and of how its label was read.
    """

    case_id: str
    image: Path
    label: Path
    affine: tuple[tuple[float, ...], ...]
    codes: tuple[int, int]
    facts: CaseFacts
    made_from: str

    @property
    def volume(self) -> Volume:
        """The image; its voxels are mapped, not loaded."""
        return Volume(np.load(self.image, mmap_mode="r"), np.array(self.affine), self.codes)

    @property
    def reference(self) -> Volume:
        """The label map, on the image's grid."""
        return self.volume.with_array(np.load(self.label, mmap_mode="r"))


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
    """Read every case with its label and keep its arrays; what is kept already is not read again.

    Parameters
    ----------
    cases : sequence of Case
        Each with a label.
    folder : Path
        Gets a folder ``cases``.
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
    return _each(
        cases, manifest, advance, lambda case, channels: _store(case, channels, folder, labels)
    )


def describe_cases(
    cases: Sequence[Case],
    *,
    labels: Sequence[Label],
    manifest: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[CaseFacts]:
    """Return what `store_cases` would find, and keep nothing."""

    def describe(case: Case, channels: Sequence[str]) -> CaseFacts:
        image, label = _read(case, channels, labels)
        return describe_case(image, label, modality=_modality(case))

    return _each(cases, manifest, advance, describe)


def store_planes(case: StoredCase, recipe: Recipe, folder: Path) -> list[PlaneStack]:
    """Normalise a stored case and keep its planes along each view of a settled recipe.

    Planes that lie in ``folder/planes`` already, of the same case at the same
    spacing and intensities, are taken as they are.
    """
    intensity = recipe.scaling
    described = [case.made_from, recipe.pixel_mm, intensity.model_dump(mode="json")]
    made_from = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    views = settled(recipe.views)
    kept = {view: _kept_planes(folder, case.case_id, view, made_from) for view in views}
    stacks = [stack for stack in kept.values() if stack is not None]
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
            planes = _resampled(planes, old, new)
            labels = _resampled_labels(labels, old, new)
        stack = PlaneStack(
            view=view,
            **_plane_files(folder, case.case_id, view),
            shape=labels.shape,
            spacing_mm=new or old,
            label_planes=tuple(_label_planes(labels)),
        )
        _save(stack.image, np.ascontiguousarray(planes))
        _save(stack.label, np.ascontiguousarray(labels))
        record = {
            name: value for name, value in asdict(stack).items() if name not in ("image", "label")
        }
        write_json(_plane_record(folder, case.case_id, view), {"made_from": made_from, **record})
        stacks.append(stack)
    return stacks


def _each(
    cases: Sequence[Case],
    manifest: Path,
    advance: Callable[[], None],
    do: Callable[[Case, Sequence[str]], Result],
) -> list[Result]:
    """Return what `do` makes of every case, or all that is wrong with them."""
    done = []
    problems = []
    channels = [channel for channel, _ in cases[0].images]
    for case in cases:
        try:
            done.append(do(case, channels))
        except CaseError as error:
            problems.append(f"{manifest} line {case.line}: case {case.case_id}: {error.sentence}")
        advance()
    if problems:
        raise ManifestError(problems)
    return done


def _store(
    case: Case, channels: Sequence[str], folder: Path, labels: Sequence[Label]
) -> StoredCase:
    """Read one case and keep its arrays, unless they are there."""
    how = {
        "channels": list(channels),
        "labels": [label.model_dump(mode="json") for label in labels],
        "modality": _modality(case),
    }
    made_from = case_fingerprint(case, how)
    stem = folder / "cases" / case.case_id
    paths = Path(f"{stem}.image.npy"), Path(f"{stem}.label.npy")
    record = Path(f"{stem}.json")
    kept = _kept_record(record, made_from, paths)
    if kept is not None:
        try:
            return TypeAdapter(StoredCase).validate_python(
                {**kept, "case_id": case.case_id, "image": paths[0], "label": paths[1]}
            )
        except ValidationError:
            pass  # of another version: made anew
    image, label = _read(case, channels, labels)
    stored = StoredCase(
        case_id=case.case_id,
        image=paths[0],
        label=paths[1],
        affine=tuple(tuple(row) for row in image.affine.tolist()),
        codes=image.codes,
        facts=describe_case(image, label, modality=_modality(case)),
        made_from=made_from,
    )
    _save(paths[0], image.array)
    _save(paths[1], label.array)
    named = ("affine", "codes", "facts", "made_from")
    write_json(record, {name: value for name, value in asdict(stored).items() if name in named})
    return stored


def _read(case: Case, channels: Sequence[str], labels: Sequence[Label]) -> tuple[Volume, Volume]:
    """Read one case: image, and label map on the same grid."""
    if case.label is None:
        raise CaseError("no_label", "training needs a label")
    image = read_channels(case, channels).volume
    return image, image.with_array(_read_label(case.label, image, labels))


def _modality(case: Case) -> str:
    """Return what the manifest's column `modality` says."""
    return dict(case.extras).get("modality", "").strip()


def _kept_planes(folder: Path, case_id: str, view: View, made_from: str) -> PlaneStack | None:
    """Return planes that an earlier start of this training has made."""
    files = _plane_files(folder, case_id, view)
    kept = _kept_record(_plane_record(folder, case_id, view), made_from, tuple(files.values()))
    if kept is None:
        return None
    try:
        return TypeAdapter(PlaneStack).validate_python({**kept, **files})
    except ValidationError:
        return None


def _kept_record(path: Path, made_from: str, arrays: Sequence[Path]) -> Mapping[str, Any] | None:
    """Return a record whose arrays are there and were made from the same things."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        same = record.get("made_from") == made_from
    except (OSError, ValueError, AttributeError):
        return None
    return record if same and all(array.exists() for array in arrays) else None


def _plane_files(folder: Path, case_id: str, view: View) -> dict[str, Path]:
    """Return where the planes of a case lie."""
    return {kind: folder / "planes" / f"{case_id}_{view}_{kind}.npy" for kind in ("image", "label")}


def _plane_record(folder: Path, case_id: str, view: View) -> Path:
    """Return where it is written that planes are whole, and what they were made from."""
    return folder / "planes" / f"{case_id}_{view}.json"


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
    """Write an array, whole or not at all."""
    try:
        with replacing(path) as file:
            np.save(file, array)
    except EnvironmentFault as error:
        raise EnvironmentFault(
            f"{error}; training keeps its cases beside the output until it ends"
        ) from error
