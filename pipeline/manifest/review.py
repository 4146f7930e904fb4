"""Read what people decided about masks, and make a manifest of the cases with one decision.

The page of a run exports ``review.csv``. Masks that people corrected come back
as the references of such a manifest, so that a model can be trained with them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from voxtile.case import Case, Split
from voxtile.errors import CaseError, ManifestError, counted, first_few
from voxtile.machine.files import write_text
from voxtile.reading.formats import find_volume
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.protection import Input, inputs_of, protect

from .rows import examine_manifest, header_and_rows
from .table import table_of

Decision = Literal["accepted", "rejected", "open"]
# The columns of review.csv; `mask_sha256` says which mask was looked at.
COLUMNS = ("case_id", "review", "reviewer", "note", "mask_sha256", "reviewed")

_DECISIONS: dict[str, Decision] = {
    "accepted": "accepted", "rejected": "rejected", "open": "open", "": "open",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Review:
    """What a person decided about the mask of a case."""

    decision: Decision
    reviewer: str  # initials
    note: str
    mask_sha256: str  # hash of the mask; empty if it is unknown
    reviewed: str  # when, as ISO 8601


def read_review(path: Path) -> dict[str, Review]:
    """Return the reviews of ``review.csv`` by case id; ManifestError lists all problems."""
    header, rows, found_problems = header_and_rows(path)
    problems = list(found_problems)
    missing = [name for name in COLUMNS[:2] if name not in header]
    if missing:
        problems.append(
            f"{path} has no column {first_few(missing)}; export it with the button of report.html"
        )
    reviews: dict[str, Review] = {}
    for line, cells in [] if problems else rows:
        row = dict.fromkeys(COLUMNS, "") | dict(zip(header, map(str.strip, cells), strict=False))
        case_id, decision = row["case_id"], _DECISIONS.get(row["review"])
        if decision is None:
            problems.append(
                f"{path} line {line}: review {row['review']!r} must be accepted, rejected, or empty"
            )
        elif case_id in reviews or not case_id:
            problems.append(f"{path} line {line}: case_id {case_id!r} is missing or repeated")
        else:
            reviews[case_id] = Review(decision, *(row[name] for name in COLUMNS[2:]))
    if problems:
        raise ManifestError(problems)
    return reviews


def refuse_unknown(path: Path, reviews: Mapping[str, Review], known: Sequence[str]) -> None:
    """Refuse reviews of cases that a manifest or run does not have."""
    unknown = sorted({*reviews} - {*known})
    if unknown:
        raise ManifestError(
            [
                f"{path} has {counted(len(unknown), 'case')} that the run or manifest does not "
                f"have: {first_few(unknown)}; name the files that belong together"
            ]
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which reviewed cases become a manifest, and what is changed in their rows.

    Parameters
    ----------
    keep : {"accepted", "rejected", "open"}
        The decision; ``open`` are the cases without one.
    labels : Path or None
        Folder of masks ``<case_id>``, of any format, that become the references.
    split : str or None
        Split of these cases.
    """

    keep: Decision
    labels: Path | None = None
    split: Split | None = None


def write_reviewed(
    manifest: Path,
    review: Path,
    out: Path,
    chosen: Chosen,
    *,
    add_to: Path | None = None,
    root: Path | None = None,
) -> tuple[str, ...]:
    """Write the manifest of the cases with one decision; return lines about it.

    The cases follow those of the manifest `add_to`. Paths are relative to the new manifest if
    possible. `root` is where relative paths of `manifest` start from. ManifestError if a file has
    problems, no case is chosen, or a reference is missing or is the rejected mask itself.
    """
    if os.path.lexists(out):
        raise ManifestError([f"{out} exists; name another, or move it away"])
    cases = _read(manifest, root)
    earlier = () if add_to is None else _read(add_to, None)
    inputs = [Input("the manifest", path) for path in (manifest, add_to) if path is not None]
    inputs += [Input("the review", review), *inputs_of([*cases, *earlier])]
    if chosen.labels is not None:
        inputs.append(Input("the folder of references", chosen.labels, whole=False))
    protect(inputs, out, advice="name another file")
    reviews = read_review(review)
    refuse_unknown(review, reviews, [case.case_id for case in cases])
    found = [case for case in cases if _decision(reviews, case) == chosen.keep]
    if not found:
        raise ManifestError([f"{review}: the review of no case of {manifest} is {chosen.keep}"])
    if chosen.labels is not None:
        found = _with_labels(found, chosen.labels, reviews)
    if chosen.split is not None:
        found = [replace(case, split=chosen.split) for case in found]
    twice = {case.case_id for case in earlier} & {case.case_id for case in found}
    if twice:
        raise ManifestError(
            [f"{add_to} already has {first_few(sorted(twice))}; remove these rows from it first"]
        )
    write_text(out, table_of([*earlier, *found], out.parent).csv())
    return tuple(_lines(found, earlier, chosen))


def _read(manifest: Path, root: Path | None) -> tuple[Case, ...]:
    """Return the cases of a manifest; its files need not exist."""
    cases, problems = examine_manifest(manifest, root=root, need_images=False, need_labels=False)
    if problems:
        raise ManifestError(problems)
    return cases


def _decision(reviews: Mapping[str, Review], case: Case) -> Decision:
    """Return the decision about a case; ``open`` if there is none."""
    return reviews[case.case_id].decision if case.case_id in reviews else "open"


def _with_labels(cases: Sequence[Case], folder: Path, reviews: Mapping[str, Review]) -> list[Case]:
    """Return cases with the masks of a folder as references."""
    labelled, problems = [], []
    for case in cases:
        path = find_volume(folder, case.case_id)
        seen = reviews.get(case.case_id)
        if path is None:
            problems.append(
                f"{folder} has no mask {case.case_id}.nii.gz, nor one of another format; correct "
                "the case, or remove its row from the review"
            )
        elif seen and seen.decision == "rejected" and seen.mask_sha256 == _hash(path):
            problems.append(f"{path} is the mask that was rejected, without a change; correct it")
        else:
            labelled.append(replace(case, label=path))
    if problems:
        raise ManifestError(problems)
    return labelled


def _hash(path: Path) -> str:
    """Return the hash of a mask as its record has it; a file that cannot be read has another."""
    try:
        return content_hash(path)
    except CaseError:
        return "unreadable"


def _lines(found: Sequence[Case], earlier: Sequence[Case], chosen: Chosen) -> Iterator[str]:
    """Yield what was written."""
    labelled = sum(case.label is not None for case in found)
    yield f"{counted(len(found), 'case')} {chosen.keep}, {labelled} with a reference"
    if earlier:
        yield f"added to {counted(len(earlier), 'case')}"
