"""Which cases are done: what ``cases/<case_id>.json`` says, held against inputs and mask.

The JSON of a case is written after its mask, so a case that was interrupted
has none and is done again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.machine.files import remove, write_text
from voxtile.run.case import Job
from voxtile.run_folder.case_report import CaseReport, read_case_report
from voxtile.run_folder.fingerprint import content_hash

# Hashing releases the interpreter, and a disk is faster with a few readers.
_READERS = 4


def record_path(out: Path, case_id: str) -> Path:
    """Return where the report of a case goes."""
    return out / "cases" / f"{case_id}.json"


def record(out: Path, report: CaseReport) -> None:
    """Write the report of a case: it is done, or has failed, from now on."""
    write_text(record_path(out, report.case_id), report.dump())


def forget(job: Job, cases: Sequence[Case]) -> None:
    """Remove what earlier runs left of these cases."""
    for case in cases:
        remove(record_path(job.out, case.case_id))
        job.forget(case.case_id)


def finished(job: Job, cases: Sequence[Case], *, retry_failed: bool) -> dict[str, CaseReport]:
    """Return the reports of the cases that need not be done again, by id.

    Parameters
    ----------
    job : Job
    cases : sequence of Case
    retry_failed : bool
        Whether a case that failed counts as not done.
    """
    candidates = [case for case in cases if record_path(job.out, case.case_id).exists()]
    kept: dict[str, CaseReport] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for report in readers.map(lambda case: _kept(job, case, retry_failed), candidates):
            if report is not None:
                kept[report.case_id] = report
    return kept


def _kept(job: Job, case: Case, retry_failed: bool) -> CaseReport | None:
    """Return the report of a case if it still holds."""
    try:
        report = read_case_report(record_path(job.out, case.case_id))
        if report.case_id != case.case_id or not report.fingerprint:
            return None
        if report.status == "failed" and retry_failed:
            return None
        if report.fingerprint != job.fingerprint(case):
            return None
        if report.status == "done" and not _mask_is_there(job, report):
            return None
    except (OSError, ValueError, CaseError):
        return None  # whatever is wrong with it, doing the case again will tell
    # These may change in a manifest without changing the result.
    now = replace(
        report,
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
        settings_sha256=job.settings_sha256,
    )
    if now != report:
        record(job.out, now)
    return now


def _mask_is_there(job: Job, report: CaseReport) -> bool:
    """Whether the mask has the hash that was recorded."""
    path = job.mask_path(report.case_id)
    return path.is_file() and content_hash(path) == report.mask.get("sha256")
