"""Events that report what happens in a batch: for ``events.jsonl``, ``status`` and people."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voxtile.machine.clock import now
from voxtile.machine.files import append_line, remove, write_json
from voxtile.report.verdict import judge

if TYPE_CHECKING:  # `status` does not import pandas
    from voxtile.run_folder.case_report import CaseReport

Kind = Literal[
    "run_started", "done_again", "case_started", "stage", "case_lost", "case_finished",
    "interrupted", "run_finished",
]  # fmt: skip
# How often the progress file is written, in seconds.
_WRITE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    kind: Kind
    case_id: str | None = None  # None for the run as a whole
    # JSON values: counts, the stage, the reason.
    facts: Mapping[str, Any] = field(default_factory=dict)
    report: "CaseReport | None" = None  # of a finished case


Listener = Callable[[Event], None]


def log_event(path: Path, event: Event) -> None:
    """Append an event as a line of JSON; stages are left out, as the finished case has their times.

    The file keeps the lines of earlier runs.
    """
    if event.kind == "stage":
        return
    line: dict[str, Any] = {"time": now(), "event": event.kind}
    if event.case_id is not None:
        line["case_id"] = event.case_id
    line.update(event.facts)
    report = event.report
    if report is not None:
        verdict = judge(report)
        line["status"] = report.status
        line["reason"] = None if report.reason is None else report.reason.code
        line["verdict"], line["look_for"] = verdict.word, [one.code for one in verdict.reasons]
        line["seconds"] = round(report.seconds, 3)
        line["timings_s"] = {name: round(value, 4) for name, value in report.timings_s.items()}
    append_line(path, json.dumps(line, ensure_ascii=False))


class ProgressFile:
    """Writes a small file with the progress of a run, for ``voxtile status``.

    The file is removed when the run ends. Earlier runs had finished `kept` of the `total` cases.
    """

    def __init__(self, path: Path, total: int, kept: int) -> None:
        self._path = path
        self._total, self._kept = total, kept
        self._finished = 0
        self._running: dict[str, str] = {}
        self._begin = time.monotonic()
        self._next = self._begin

    def __call__(self, event: Event) -> None:
        """Count an event; write the file at most every two seconds."""
        case_id = event.case_id
        if case_id is not None and event.kind in ("case_started", "stage"):
            self._running[case_id] = str(event.facts.get("stage", "start"))
        elif case_id is not None:
            self._running.pop(case_id, None)
            self._finished += event.kind == "case_finished"
        elif event.kind in ("interrupted", "run_finished"):
            remove(self._path)
            return
        if time.monotonic() >= self._next:
            write_json(self._path, self._state())
            self._next = time.monotonic() + _WRITE_EVERY_S

    def _state(self) -> dict[str, Any]:
        """Return the progress as JSON values."""
        return {
            "updated": now(),
            "total": self._total,
            "kept": self._kept,
            "finished": self._finished,
            "running": dict(self._running),
            "eta_s": self._eta_s(),
        }

    def _eta_s(self) -> float | None:
        """Return the seconds until the end at the speed so far; None before the first case."""
        if not self._finished:
            return None
        left = self._total - self._kept - self._finished
        return round((time.monotonic() - self._begin) / self._finished * left, 1)
