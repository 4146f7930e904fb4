"""The state of a run folder, read from its files, while a batch runs and afterwards.

Nothing heavy is imported, so that the answer comes at once, also for thousands
of cases.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType

from voxtile.errors import ManifestError, counted, first_few
from voxtile.machine.clock import duration
from voxtile.machine.json_objects import ANY_KEY, read_object
from voxtile.run_folder.facts import KEY, newest_settings, readable_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import holders

# The parts that a status needs of a record and of a progress file.
_RECORD = {"status": str, "reason": (dict, NoneType), KEY: str}
_PROGRESS = {"running": {ANY_KEY: str}, "eta_s": (float, NoneType)}


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run folder.

    Parameters
    ----------
    total : int
        Cases of the manifest.
    reasons : dict of str to int
        Failed cases by reason.
    running : dict of str to str
        Stage of each case that is running.
    missing : tuple of str
        Cases without a report that are not running.
    eta_s : float or None
        Seconds until the end; None unless a batch runs that has finished a
        case.
    runs : tuple of str
        The batches that run in this folder, in words.
    """

    total: int
    done: int
    failed: int
    reasons: dict[str, int]
    running: dict[str, str]
    missing: tuple[str, ...]
    eta_s: float | None
    runs: tuple[str, ...]


def read_status(out: Path) -> Status:
    """Return the status of a run folder.

    Raises
    ------
    ManifestError
        If it is not a run folder.
    """
    folder = RunFolder(out)
    facts = list(readable_facts(folder))
    if not facts:
        raise ManifestError([f"{out} is not a run folder: it has no run.json that can be read"])
    settings = newest_settings(facts)
    current = [one for one in facts if settings in (None, one.settings_sha256)]
    case_ids = list(dict.fromkeys(case_id for one in current for case_id in one.case_ids))
    alive = holders(folder)
    running: dict[str, str] = {}
    etas = []
    for path in folder.all_progress() if alive else ():
        try:
            progress = read_object(path, _PROGRESS, required=_PROGRESS)
        except (OSError, ValueError):
            continue  # it disappears when its run ends
        running |= progress["running"]
        etas += [] if progress["eta_s"] is None else [progress["eta_s"]]
    # A case that is done again still has its earlier report.
    verdicts = {
        case_id: _verdict(folder.record(case_id), settings)
        for case_id in case_ids
        if case_id not in running
    }
    reasons = Counter(reason for status, reason in verdicts.values() if status == "failed")
    return Status(
        total=len(case_ids),
        done=sum(status == "done" for status, _ in verdicts.values()),
        failed=sum(status == "failed" for status, _ in verdicts.values()),
        reasons=dict(reasons.most_common()),
        running=running,
        missing=tuple(name for name, (status, _) in verdicts.items() if status == "missing"),
        eta_s=max(etas, default=None),
        runs=tuple(map(str, alive)),
    )


def status_lines(status: Status) -> Iterator[str]:
    """Yield a status for people."""
    yield (
        f"{counted(status.total, 'case')}: {status.done} done, {status.failed} failed, "
        f"{len(status.running)} running, {len(status.missing)} missing"
    )
    for code, count in status.reasons.items():
        yield f"  failed: {count} x {code}"
    for case_id, stage in status.running.items():
        yield f"  running: {case_id} ({stage})"
    if status.missing:
        yield f"  missing: {first_few(status.missing)}"
    if status.runs:
        yield from (f"batch: {run}" for run in status.runs)
        if status.eta_s is not None:
            yield f"ends in about {duration(status.eta_s)}"
    elif status.missing:
        yield "no batch is running; run the same command again to do the missing cases"


def _verdict(path: Path, settings: str | None) -> tuple[str, str]:
    """Return status and reason code of a case; a record of another run counts as missing."""
    try:
        record = read_object(path, _RECORD, required=("status",))
    except (OSError, ValueError):
        return "missing", ""
    if settings not in (None, record.get(KEY)) or record["status"] not in ("done", "failed"):
        return "missing", ""
    return record["status"], str((record.get("reason") or {}).get("code", ""))
