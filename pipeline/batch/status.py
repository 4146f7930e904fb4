"""The state of a run folder, read from its files, while a batch runs and afterwards.

No large package is imported, so that the command answers at once, also for
thousands of cases.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from voxtile.errors import ManifestError, counted, first_few
from voxtile.machine.clock import duration
from voxtile.machine.json_objects import ANY_KEY, read_object
from voxtile.report.verdict import Verdict, count_verdicts, judge_record
from voxtile.run_folder.facts import newest, strict_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import holders
from voxtile.run_folder.record import read_records

# Maximum number of damaged records that are listed.
_MOST_NAMED = 10
# A longer remaining time is not plausible, and is ignored.
_LONGEST_S = 1e9
# The keys of a progress file that a status needs.
_PROGRESS = {"running": {ANY_KEY: str}, "eta_s": (float, NoneType)}


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run folder."""

    total: int  # cases of the manifest
    done: int
    failed: int
    reasons: dict[str, int]  # failed cases by reason
    running: dict[str, str]  # stage of each case that is running
    missing: tuple[str, ...]  # cases without a report that are not running
    damaged: dict[str, str]  # why the report of a missing case is not valid, if it has one
    eta_s: float | None  # seconds until the end; None if no running batch has finished a case
    runs: tuple[str, ...]  # the batches that run in this folder, in words
    # Cases that are usable, and cases to look at by their weightiest reason; until the run ends
    # without the flags that compare its cases.
    usable: int
    look: dict[str, int]
    verdict: str  # the same in one line, for people


def read_status(out: Path) -> Status:
    """Return the status of a run folder; ManifestError if it is not a run folder."""
    folder = RunFolder(out)
    known = strict_facts(folder)
    facts = newest(known)
    if facts is None:
        raise ManifestError(f"{out} is not a run folder: it has no run.json")
    case_ids = facts.case_ids
    alive = holders(folder)
    running: dict[str, str] = {}
    etas = []
    for path in folder.all_progress() if alive else ():
        try:
            progress = read_object(path, _PROGRESS, required=_PROGRESS)
        except (OSError, ValueError):
            continue  # the file disappears when its run ends
        running |= progress["running"]
        if progress["eta_s"] is not None and 0 <= progress["eta_s"] <= _LONGEST_S:
            etas.append(progress["eta_s"])
    # A case that is processed again still has its earlier report.
    records, missing = read_records(
        folder,
        tuple(case_id for case_id in case_ids if case_id not in running),
        facts.settings_sha256,
        _judged,
        sealed=facts.seals_records,
        whole=False,
    )
    codes = [code for code, _ in records.values() if code is not None]
    verdicts = [verdict for _, verdict in records.values()]
    judged = count_verdicts(verdicts, len(case_ids) - len(records))
    usable, look, line = judged.usable, dict(judged.look), judged.line
    final = facts.content.get("verdict")
    counts = (final["usable"], final["failed"], *final["look"].values()) if final else ()
    if final and len(records) == len(case_ids) == sum(counts):
        usable, look, line = final["usable"], final["look"], final["line"]
    return Status(
        total=len(case_ids),
        done=len(records) - len(codes),
        failed=len(codes),
        reasons=dict(Counter(codes).most_common()),
        running=running,
        missing=tuple(missing),
        damaged={case_id: why for case_id, why in missing.items() if why},
        eta_s=max(etas, default=None),
        runs=tuple(map(str, alive)),
        usable=usable,
        look=look,
        verdict=line,
    )


def _judged(record: dict[str, Any]) -> tuple[str | None, Verdict]:
    """Return why a case failed, None if it did not, and its verdict; the rest need not be kept."""
    reason = str((record.get("reason") or {}).get("code", ""))
    return reason if record["status"] == "failed" else None, judge_record(record)


def status_lines(status: Status) -> Iterator[str]:
    """Yield the lines of a status for people."""
    yield (
        f"{counted(status.total, 'case')}: {status.done} done, {status.failed} failed, "
        f"{len(status.running)} running, {len(status.missing)} missing"
    )
    if status.done:
        yield f"  verdict: {status.verdict}"
    for code, count in status.reasons.items():
        yield f"  failed: {count} x {code}"
    for case_id, stage in status.running.items():
        yield f"  running: {case_id} ({stage})"
    if status.missing:
        yield f"  missing: {first_few(status.missing, 5)}"
    for case_id, why in list(status.damaged.items())[:_MOST_NAMED]:
        yield f"  {case_id}: {why}"
    if status.runs:
        yield from (f"batch: {run}" for run in status.runs)
        if status.eta_s is not None:
            yield f"ends in about {duration(status.eta_s)}"
    elif status.missing:
        yield "no batch is running; run the same command again to process the missing cases"
