"""Read training cases once, and store them as arrays that are mapped into memory.

    image, label -> CaseFacts, cases/<id>.{image,label}.npy

Memory holds one case at a time, however many there are. A ``.json`` beside the
arrays of a case is written last, and says what they were made from. So a resumed
training run uses arrays that are complete and up to date, and makes all others
again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, ManifestError, Notice
from voxtile.label_values import MOST_LABELS, label_values
from voxtile.machine.files import replacing, write_json
from voxtile.manifest.label_list import LabelList
from voxtile.models.spec import Label
from voxtile.reading.channels import own_channels, read_channels
from voxtile.reading.reference import integral, on_grid_of, read_label_map, read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.fingerprint import case_fingerprint
from voxtile.volume import Volume

from .case_facts import CaseFacts, describe_case

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case whose arrays are on disk, in the storage order of its files."""

    case_id: str
    image: Path  # ``.npy`` of the source's type
    label: Path  # ``.npy`` of uint8 or uint16
    affine: tuple[tuple[float, ...], ...]  # rows of the image's affine
    codes: tuple[int, int]  # (sform, qform)
    facts: CaseFacts
    made_from: str  # hash of the case's files and of how its label was read
    notices: tuple[Notice, ...] = ()  # warnings about its files
    missing: tuple[int, ...] = ()  # indices of channels that the case does not have
    fill: float = 0.0  # value of the missing channels: it is scaled to 0

    @property
    def volume(self) -> Volume:
        """The image, mapped from disk."""
        array = np.load(self.image, mmap_mode="r")
        if self.missing and self.fill:
            array = array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
            array[..., list(self.missing)] = self.fill
        return Volume(array, np.array(self.affine), self.codes)

    @property
    def reference(self) -> Volume:
        """The label map on the image's grid, mapped from disk."""
        return self.volume.with_array(np.load(self.label, mmap_mode="r"))


def channel_names(cases: Sequence[Case], policy: ReadPolicy | None = None) -> tuple[str, ...]:
    """Return the names of the input channels, in order; colours if any picture has colours."""
    for case in cases:
        try:
            channels = own_channels(case, policy)
        except CaseError:  # it is reported with other errors when the case is read
            continue
        if channels != ("image",):
            return case.channels or channels
    return tuple(channel for channel, _ in cases[0].images)


def store_cases(
    cases: Sequence[Case],
    folder: Path,
    *,
    labels: Sequence[Label],
    ignore: int | None = None,
    unlabelled: Sequence[int] = (),
    policy: ReadPolicy | None = None,
    manifest: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[StoredCase]:
    """Read every case with its label and store its arrays, unless they are stored already.

    Label maps may have 0, `ignore`, `unlabelled` (which becomes 0) and the values of `labels`; if
    there are no labels, any value. ManifestError with every case that cannot be used, and why.
    """
    known = LabelList(tuple(labels), ignore, tuple(unlabelled))
    do = partial(_store, folder=folder, known=known, policy=policy or ReadPolicy())
    return _each(cases, manifest, advance, do, policy)


def describe_cases(
    cases: Sequence[Case],
    *,
    labels: Sequence[Label],
    ignore: int | None = None,
    unlabelled: Sequence[int] = (),
    policy: ReadPolicy | None = None,
    manifest: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[CaseFacts]:
    """Return the facts that `store_cases` would find, but store nothing."""
    known = LabelList(tuple(labels), ignore, tuple(unlabelled))

    def describe(case: Case, channels: Sequence[str]) -> CaseFacts:
        image, label, _ = _read(case, channels, known, policy)
        missing = _missing(case, channels)
        return describe_case(image, label, modality=_modality(case), ignore=ignore, missing=missing)

    return _each(cases, manifest, advance, describe, policy)


def notice_lines(cases: Sequence[StoredCase]) -> Iterator[str]:
    """Yield a sentence for each kind of warning about the files of the cases."""
    found: dict[str, list[tuple[str, Notice]]] = {}
    for case in cases:
        for notice in case.notices:
            found.setdefault(notice.code, []).append((case.case_id, notice))
    for code, noted in sorted(found.items()):
        case_id, notice = noted[0]
        count = len({name for name, _ in noted})
        yield f"{code}: {count} of {len(cases)} cases; in {case_id} {notice.sentence}"


def stored(
    kind: type[Result], record: Path, made_from: str, files: Mapping[str, Path], **known: Any
) -> Result | None:
    """Return a stored value whose arrays exist and were made from the same data; else None."""
    try:
        values = json.loads(record.read_bytes())
        if values["made_from"] != made_from or not all(path.exists() for path in files.values()):
            return None
        return TypeAdapter(kind).validate_python({**values, **files, **known})
    except (OSError, ValueError, KeyError, TypeError):  # missing, or of another version
        return None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy``, completely or not at all."""
    try:
        with replacing(path) as file:
            np.save(file, array)
    except EnvironmentFault as error:
        raise EnvironmentFault(
            f"{error}; a training run stores its cases beside the output until it ends"
        ) from error


def _each(
    cases: Sequence[Case],
    manifest: Path,
    advance: Callable[[], None],
    do: Callable[[Case, Sequence[str]], Result],
    policy: ReadPolicy | None,
) -> list[Result]:
    """Return the result of `do` for every case, or raise one error with all problems."""
    done = []
    problems = []
    channels = channel_names(cases, policy)
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
    case: Case, channels: Sequence[str], folder: Path, known: LabelList, policy: ReadPolicy
) -> StoredCase:
    """Read one case and store its arrays, unless they are stored already."""
    how = {
        "channels": list(channels),
        "labels": [label.model_dump(mode="json") for label in known.labels],
        "modality": _modality(case),
        **({} if policy == ReadPolicy() else {"policy": asdict(policy)}),
        **({} if known.ignore is None else {"ignore": known.ignore}),
        **({"unlabelled": list(known.unlabelled)} if known.unlabelled else {}),
    }
    made_from = case_fingerprint(case, how)
    stem = folder / "cases" / case.case_id
    files = {kind: Path(f"{stem}.{kind}.npy") for kind in ("image", "label")}
    record = Path(f"{stem}.json")
    found = stored(StoredCase, record, made_from, files, case_id=case.case_id)
    if found is not None:
        return found
    image, label, notices = _read(case, channels, known, policy)
    missing = _missing(case, channels)
    new = StoredCase(
        case_id=case.case_id,
        image=files["image"],
        label=files["label"],
        affine=tuple(tuple(row) for row in image.affine.tolist()),
        codes=image.codes,
        facts=describe_case(
            image, label, modality=_modality(case), ignore=known.ignore, missing=missing
        ),
        made_from=made_from,
        notices=notices,
        missing=missing,
    )
    save_array(new.image, image.array)
    save_array(new.label, label.array)
    named = ("affine", "codes", "facts", "made_from", "notices", "missing")
    write_json(record, {name: value for name, value in asdict(new).items() if name in named})
    return new


def _read(
    case: Case, channels: Sequence[str], known: LabelList, policy: ReadPolicy | None
) -> tuple[Volume, Volume, tuple[Notice, ...]]:
    """Read one case: image, label map on the same grid, and warnings."""
    if case.label is None:
        raise CaseError("no_label", "training needs a label")
    scan = read_channels(case, channels, policy, dict.fromkeys(case.missing, 0.0))
    try:
        array, notices = _read_label(case.label, scan.volume, known)
    except CaseError as error:  # training has no options for how labels are read
        raise CaseError(error.code, error.bare) from error
    if (array == known.ignore).all():
        raise CaseError(
            "label_ignored",
            f"every voxel of the reference has the ignored value {known.ignore}, so nothing can be "
            "learned from it; annotate some voxels, or leave the case out",
        )
    return scan.volume, scan.volume.with_array(array), (*scan.notices, *notices)


def _missing(case: Case, channels: Sequence[str]) -> tuple[int, ...]:
    """Return the indices of the channels that a case does not have."""
    return tuple(index for index, channel in enumerate(channels) if channel in case.missing)


def _modality(case: Case) -> str:
    """Return the manifest's column `modality`, or an empty string."""
    return dict(case.extras).get("modality", "").strip()


def _read_label(
    path: Path, image: Volume, known: LabelList
) -> tuple[np.ndarray, tuple[Notice, ...]]:
    """Return a label map on the image's grid and in its storage order, and warnings."""
    if known.labels:
        mask, notices = read_reference(
            path, image, known.labels, None, known.ignore, known.unlabelled
        )
        return mask.array, notices
    scan = read_label_map(path, "label")
    placed, moved = on_grid_of(scan.volume, image, "label")
    array, rounded = integral(placed.array, "label")
    if known.unlabelled:
        array = np.where(np.isin(array, known.unlabelled), 0, array).astype(array.dtype)
    if (count := len(label_values(array))) > MOST_LABELS + 1:
        raise CaseError(
            "label_values",
            f"the reference has {count} values, but a model has at most {MOST_LABELS} labels; "
            "check that it is a label map, not a scan, or name labels with --labels",
        )
    return array, (*scan.notices, *moved, *rounded)
