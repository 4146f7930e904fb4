"""What a run folder holds, told from its files alone, while a batch runs and after.

Nothing heavy is imported: the answer comes at once, for thousands of cases.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.errors import ManifestError
from voxtile.machine.clock import duration
from voxtile.run_folder.facts import KEY, current_settings
from voxtile.run_folder.lock import holders

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Status:
    """What is in a run folder.

    Parameters
    ----------
    total : int
        Cases of the manifest.
    done, failed : int
    reasons : dict of str to int
        Failed cases by reason.
    running : dict of str to str
        Stage of each case that is being done.
    missing : tuple of str
        Cases with no report that are not being done.
    eta_s : float or None
        Seconds until the end; None unless a batch runs that has finished a
        case.
    runs : tuple of str
        The batches that run here, in words.
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
        If it is none.
    """
    facts = [*_jsons(out.glob("run.json")), *_jsons(out.glob("run-*-of-*.json"))]
    if not facts:
        raise ManifestError([f"{out} is no run folder: it has no run.json"])
    settings = current_settings(out)
    current = [fact for fact in facts if settings in (None, fact.get(KEY))]
    case_ids = list(dict.fromkeys(name for fact in current for name in fact.get("case_ids", ())))
    verdicts = {name: _verdict(out / "cases" / f"{name}.json", settings) for name in case_ids}
    alive = holders(out)
    news = list(_jsons(out.glob("running*.json"))) if alive else []
    running = {name: stage for item in news for name, stage in item["running"].items()}
    # A case that is done again still has its old report.
    counted = {name: verdict for name, verdict in verdicts.items() if name not in running}
    etas = [item["eta_s"] for item in news if item["eta_s"] is not None]
    reasons = Counter(reason for status, reason in counted.values() if status == "failed")
    return Status(
        total=len(case_ids),
        done=sum(status == "done" for status, _ in counted.values()),
        failed=sum(status == "failed" for status, _ in counted.values()),
        reasons=dict(reasons.most_common()),
        running=running,
        missing=tuple(name for name, (status, _) in counted.items() if status == "missing"),
        eta_s=max(etas, default=None),
        runs=tuple(
            f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
            for holder in alive
        ),
    )


def status_lines(status: Status) -> Iterator[str]:
    """Yield a status for people."""
    yield (
        f"{status.total} cases: {status.done} done, {status.failed} failed, "
        f"{len(status.running)} running, {len(status.missing)} missing"
    )
    for code, count in status.reasons.items():
        yield f"  failed: {count} x {code}"
    for case_id, stage in status.running.items():
        yield f"  running: {case_id} ({stage})"
    if status.missing:
        yield f"  missing: {_named(status.missing)}"
    if status.runs:
        yield from (f"batch: {run}" for run in status.runs)
        if status.eta_s is not None:
            yield f"ends in about {duration(status.eta_s)}"
    elif status.missing:
        yield "no batch runs here; the same command again does what is missing"


def _verdict(path: Path, settings: str | None) -> tuple[str, str]:
    """Return status and reason of a case; of another run than that of these it is missing."""
    try:
        report = json.loads(path.read_bytes())
        if settings is not None and report.get(KEY) != settings:
            return "missing", "other_settings"
        reason = report.get("reason") or {}
        return str(report["status"]), str(reason.get("code", ""))
    except FileNotFoundError:
        return "missing", ""
    except (OSError, ValueError, KeyError, AttributeError):
        return "missing", "unreadable"


def _jsons(paths: Iterator[Path]) -> Iterator[Mapping[str, Any]]:
    """Yield what can be read; a file may vanish while a batch runs."""
    for path in sorted(paths):
        try:
            yield json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue


def _named(case_ids: Sequence[str]) -> str:
    """Return the first few ids."""
    more = f", and {len(case_ids) - _MOST_NAMED} more" if len(case_ids) > _MOST_NAMED else ""
    return ", ".join(case_ids[:_MOST_NAMED]) + more
