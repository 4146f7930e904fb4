"""Read training cases once, and keep them as files.

    scan, label -> CaseFacts, cases/<id>.{image,label}.npy

Whatever the number of cases, memory holds one of them at a time; what is read
again and again afterwards is left to the system's page cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from voxtile.case import Case
from voxtile.errors import CaseError, ManifestError, Notice
from voxtile.machine.files import write_json
from voxtile.models.spec import Label
from voxtile.reading.channels import read_channels
from voxtile.reading.reference import integral, on_grid_of, read_label_map, read_reference
from voxtile.run_folder.fingerprint import case_fingerprint
from voxtile.volume import Volume

from .case_facts import CaseFacts, describe_case
from .kept_arrays import kept_record, save_array

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
    notices : tuple of Notice
        What was odd about its files.
    """

    case_id: str
    image: Path
    label: Path
    affine: tuple[tuple[float, ...], ...]
    codes: tuple[int, int]
    facts: CaseFacts
    made_from: str
    notices: tuple[Notice, ...] = ()

    @property
    def volume(self) -> Volume:
        """The image; its voxels are mapped, not loaded."""
        return Volume(np.load(self.image, mmap_mode="r"), np.array(self.affine), self.codes)

    @property
    def reference(self) -> Volume:
        """The label map, on the image's grid."""
        return self.volume.with_array(np.load(self.label, mmap_mode="r"))


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
        image, label, _ = _read(case, channels, labels)
        return describe_case(image, label, modality=_modality(case))

    return _each(cases, manifest, advance, describe)


def notice_lines(cases: Sequence[StoredCase]) -> Iterator[str]:
    """Yield what was odd about the files of cases, each kind once."""
    found: dict[str, list[tuple[str, Notice]]] = {}
    for case in cases:
        for notice in case.notices:
            found.setdefault(notice.code, []).append((case.case_id, notice))
    for code, told in sorted(found.items()):
        case_id, notice = told[0]
        count = len({name for name, _ in told})
        yield f"{code}: {count} of {len(cases)} cases; in {case_id} {notice.sentence}"


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
            # How scans and labels are read cannot be chosen here: no option is advised.
            problems.append(f"{manifest} line {case.line}: case {case.case_id}: {error.bare}")
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
    kept = kept_record(record, made_from, paths)
    if kept is not None:
        try:
            return TypeAdapter(StoredCase).validate_python(
                {**kept, "case_id": case.case_id, "image": paths[0], "label": paths[1]}
            )
        except ValidationError:
            pass  # of another version: made anew
    image, label, notices = _read(case, channels, labels)
    stored = StoredCase(
        case_id=case.case_id,
        image=paths[0],
        label=paths[1],
        affine=tuple(tuple(row) for row in image.affine.tolist()),
        codes=image.codes,
        facts=describe_case(image, label, modality=_modality(case)),
        made_from=made_from,
        notices=notices,
    )
    save_array(paths[0], image.array)
    save_array(paths[1], label.array)
    named = ("affine", "codes", "facts", "made_from", "notices")
    write_json(record, {name: value for name, value in asdict(stored).items() if name in named})
    return stored


def _read(
    case: Case, channels: Sequence[str], labels: Sequence[Label]
) -> tuple[Volume, Volume, tuple[Notice, ...]]:
    """Read one case: image, label map on the same grid, and what was odd about them."""
    if case.label is None:
        raise CaseError("no_label", "training needs a label")
    scan = read_channels(case, channels)
    array, notices = _read_label(case.label, scan.volume, labels)
    return scan.volume, scan.volume.with_array(array), (*scan.notices, *notices)


def _modality(case: Case) -> str:
    """Return what the manifest's column `modality` says."""
    return dict(case.extras).get("modality", "").strip()


def _read_label(
    path: Path, image: Volume, labels: Sequence[Label]
) -> tuple[np.ndarray, tuple[Notice, ...]]:
    """Return a label map on the image's grid and in its storage order, and what was odd."""
    if labels:
        mask, notices = read_reference(path, image, labels)
        return mask.array, notices
    scan = read_label_map(path, "label")
    placed, moved = on_grid_of(scan.volume, image, "label")
    array, rounded = integral(placed.array, "label")
    return array, (*scan.notices, *moved, *rounded)
