"""Which cases are done: records compared with the inputs and the mask.

The record of a case is written after its mask, so a case that was interrupted
has no record and is done again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import remove, write_text
from voxtile.run.job import Job
from voxtile.run_folder.case_report import CaseReport, read_case_report
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.layout import RunFolder

# Hashing releases the interpreter, and a disk is faster with a few readers.
_READERS = 4


def record(folder: RunFolder, report: CaseReport) -> None:
    """Write the record of a case: from now on it counts as done, or as failed."""
    write_text(folder.record(report.case_id), report.dump())


def forget(job: Job, cases: Sequence[Case]) -> None:
    """Remove everything that earlier runs wrote of these cases."""
    for case in cases:
        remove(job.folder.record(case.case_id))
        job.forget(case.case_id)


def finished(job: Job, cases: Sequence[Case], *, retry_failed: bool) -> dict[str, CaseReport]:
    """Return the reports of the cases that need not be done again, by id.

    With `retry_failed`, a case that failed is done again.
    """
    candidates = [case for case in cases if job.folder.record(case.case_id).exists()]
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda case: _finished(job, case, retry_failed), candidates)
        return {report.case_id: report for report in found if report is not None}


def _finished(job: Job, case: Case, retry_failed: bool) -> CaseReport | None:
    """Return the report of a case if it is still valid, brought up to date."""
    try:
        report = read_case_report(job.folder.record(case.case_id))
        if report.case_id != case.case_id or not report.fingerprint:
            return None
        if report.status == "failed" and retry_failed:
            return None
        if report.fingerprint != job.fingerprint(case):
            return None
        if report.status == "done" and not _has_its_mask(job, report):
            return None
    except (OSError, ValueError, CaseError):
        return None  # the case is done again, and reports what is wrong
    # These may change in a manifest without changing the result.
    now = replace(
        report,
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
        settings_sha256=job.settings_sha256,
    )
    if now != report:
        record(job.folder, now)
    return now


def _has_its_mask(job: Job, report: CaseReport) -> bool:
    """Whether the mask has the hash that was recorded."""
    path = job.folder.mask(report.case_id)
    return path.is_file() and content_hash(path) == report.mask.get("sha256")
