"""Find the cases that are done: compare their records with inputs and masks.

The record of a case is written after its mask, so a case that was interrupted
has no record and is processed again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import remove, write_text
from voxtile.run.job import Job
from voxtile.run_folder.case_report import CaseReport, read_case_report
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.layout import RunFolder

_EARLIER = "made by an earlier run with other settings"
# Hashing releases the interpreter lock, and a disk is faster with a few readers.
_READERS = 4


def record(folder: RunFolder, report: CaseReport) -> None:
    """Write the record of a case: from now on it counts as done, or as failed."""
    write_text(folder.record(report.case_id), report.dump())


def forget(job: Job, cases: Sequence[Case]) -> None:
    """Remove everything that earlier runs wrote of these cases."""
    for case in cases:
        remove(job.folder.record(case.case_id))
        job.forget(case.case_id)


@dataclass(frozen=True, slots=True)
class Finished:
    """The cases that earlier runs finished, and why other cases run again."""

    # Reports of the cases that need not be processed again, by id.
    reports: dict[str, CaseReport] = field(default_factory=dict)
    # Why each other case that has a record is processed again, by id.
    again: dict[str, str] = field(default_factory=dict)


def finished(
    job: Job, cases: Sequence[Case], *, retry_failed: bool, earlier: str = "", sealed: bool = True
) -> Finished:
    """Return the reports of the cases that are still valid, and why other cases run again.

    With `retry_failed`, failed cases run again. `earlier` is the settings hash of the folder's
    last run: if a record with this hash has another fingerprint, an input was changed.
    `sealed` says whether records must hold the digest of their content.
    """
    candidates = [case for case in cases if job.folder.record(case.case_id).exists()]
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(
            lambda case: _finished(job, case, retry_failed, earlier, sealed), candidates
        )
        pairs = list(zip(candidates, found, strict=True))
    return Finished(
        {case.case_id: one for case, one in pairs if isinstance(one, CaseReport)},
        {case.case_id: one for case, one in pairs if isinstance(one, str) and one},
    )


def _finished(
    job: Job, case: Case, retry_failed: bool, earlier: str, sealed: bool
) -> CaseReport | str:
    """Return the report of a case if it is still valid, else why not; "" if nothing is replaced."""
    try:
        report = read_case_report(job.folder.record(case.case_id), sealed=sealed)
    except (OSError, ValueError):
        return "its record is damaged"
    done = report.status == "done"
    if not report.fingerprint or (not done and retry_failed):
        return "its record is incomplete" if done else ""
    try:
        same = report.fingerprint == job.fingerprint(case)
    except CaseError:
        return "an input cannot be read" if done else ""
    if not same:
        known = report.settings_sha256 in (job.settings_sha256, earlier)
        return ("an input was changed" if known else _EARLIER) if done else ""
    if done and not _has_its_mask(job, report):
        return "its mask was changed or removed"
    # These values of the manifest may change without changing the result.
    now = replace(
        report,
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
        settings_sha256=job.settings_sha256,
    )
    if now != report or not sealed:
        record(job.folder, now)
    return now


def _has_its_mask(job: Job, report: CaseReport) -> bool:
    """Whether the mask has the hash that was recorded."""
    path = job.folder.mask(report.case_id)
    try:
        return path.is_file() and content_hash(path) == report.mask.get("sha256")
    except CaseError:
        return False
