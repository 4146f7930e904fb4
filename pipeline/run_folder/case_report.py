"""The record of one case: the content of ``cases/<case_id>.json``."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from voxtile.case import Case
from voxtile.errors import ManifestError, Notice, counted, first_few
from voxtile.machine.files import json_text, regular
from voxtile.machine.json_objects import sealed_text, unsealed
from voxtile.machine.spreadsheet import unescaped
from voxtile.models.spec import Label
from voxtile.scoring.rows import LabelRow
from voxtile.scoring.score import Measures

from .facts import RunFacts, newest, strict_facts
from .layout import RunFolder
from .record import read_record, read_records


@dataclass(frozen=True, slots=True)
class CaseReport:
    """Everything that a run records about one case."""

    # For pydantic, which checks a record when it is read.
    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    case_id: str
    status: Literal["done", "failed"]
    reason: Notice | None = None  # why it failed
    warnings: tuple[Notice, ...] = ()
    # Hash of everything that decides the result; empty if an input could not be read.
    fingerprint: str = ""
    labels: tuple[LabelRow, ...] = ()  # one for each label of the spec, also of a failed case
    # Grid of the scan, and how the written mask compares with it.
    geometry: dict[str, Any] = field(default_factory=dict)
    # File (in the run folder; for an evaluation, in the folder of the predictions) and SHA-256;
    # empty without a mask.
    mask: dict[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)  # seconds of each stage
    seconds: float = 0.0  # of the whole case
    peak_memory_mb: float | None = None  # in MB (10^6 bytes); None if the system does not report it
    split: str | None = None
    group: str | None = None
    extras: dict[str, str] = field(default_factory=dict)  # further columns of the manifest
    # What `voxtile.report.qc` measured and flagged without a reference.
    qc: dict[str, Any] = field(default_factory=dict)
    settings_sha256: str = ""  # hash that identifies the run
    thresholds: dict[str, float] = field(default_factory=dict)  # those that are not the model's

    @classmethod
    def of(
        cls, case: Case, labels: tuple[LabelRow, ...], reason: Notice | None = None
    ) -> "CaseReport":
        """Return a report that has only its rows and what the manifest says about the case."""
        return cls(
            case.case_id,
            "done" if reason is None else "failed",
            reason,
            labels=labels,
            split=case.split,
            group=case.group,
            extras=dict(case.extras),
        )

    def dump(self) -> str:
        """Return the report as JSON text, sealed; numbers that are not finite become null."""
        return sealed_text(plain(self))


_REPORTS = TypeAdapter(CaseReport)
# Every record has all keys; earlier versions did not have the last three.
_REQUIRED = tuple(CaseReport.__dataclass_fields__)[:-3]


@dataclass(frozen=True, slots=True)
class Records:
    """The records of the newest run of a folder."""

    facts: RunFacts  # what that run was
    reports: tuple[CaseReport, ...]  # in the manifest's order
    # Each other case of the run, and why its record is not used; empty if it has no record.
    missing: Mapping[str, str]

    @property
    def failed(self) -> int:
        """How many cases failed."""
        return sum(report.status == "failed" for report in self.reports)

    @property
    def counts(self) -> str:
        """How many cases are done, failed and missing, for people."""
        return count_line(len(self.reports) - self.failed, self.failed, len(self.missing))

    def lines(self) -> tuple[str, ...]:
        """Return the missing cases with reasons, and what to do, for people."""
        return missing_lines(self.missing)


def count_line(done: int, failed: int, missing: int) -> str:
    """Return how many cases are done, failed and missing, for people."""
    line = f"{done} done, {failed} failed"
    return f"{line}, {missing} missing of {done + failed + missing}" if missing else line


def missing_lines(
    missing: Mapping[str, str],
    *,
    advice: str = "run the same manifest again to process the missing cases",
) -> tuple[str, ...]:
    """Return for each reason a line with the cases that are missing; then say what to do."""
    reasons: dict[str, list[str]] = {}
    for case_id, reason in missing.items():
        reasons.setdefault(reason or "not done yet, or its record was removed", []).append(case_id)
    lines = [f"missing: {first_few(ids)}: {reason}" for reason, ids in reasons.items()]
    return (*lines, advice) if lines else ()


def read_case_report(path: Path, *, sealed: bool = True) -> CaseReport:
    """Read ``cases/<case_id>.json``.

    With `sealed` a record without the digest of its content is refused; `RunFacts.seals_records`
    is this value for a folder. OSError if the record cannot be read; ValueError if it is not a
    case report, or was changed after it was written.
    """
    try:
        return _parsed(read_record(path, sealed=sealed, required=_REQUIRED))
    except ValueError as error:
        raise ValueError(f"{path.name} is not a case report: {error}") from error


def _parsed(record: dict[str, Any]) -> CaseReport:
    """Return the report of a record; ValueError if the record is not valid."""
    lacking = [key for key in _REQUIRED if key not in record]
    if lacking:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    try:
        return _REPORTS.validate_json(json_text(unsealed(record)), strict=True)
    except ValidationError as error:
        # Only the key: the value may identify a patient.
        problem = f"{'.'.join(map(str, error.errors()[0]['loc']))} is not valid"
    raise ValueError(problem)


def read_run(out: Path) -> Records:
    """Read the cases of the newest run of a folder.

    Records of an earlier run with another manifest or other settings do not count, unless the
    newest run reuses them. Damaged records do not count either. ManifestError if
    `out` is not a run folder, or has no valid record.
    """
    folder = RunFolder(out)
    known = strict_facts(folder)
    facts = newest(known)
    if facts is None:
        raise ManifestError(
            f"{out} is not a run folder: it has no run.json; name the folder of a run"
        )
    found = collect(folder, facts)
    reports, missing = found.reports, found.missing
    if not reports:
        damaged = [f"{case_id}: {why}" for case_id, why in missing.items() if "damaged" in why]
        raise ManifestError(
            f"{out}: {damaged[0]}; run the case again"
            if damaged
            else f"{out} has no case of its last run, only those of an earlier one with "
            "another model, manifest or settings; run it to the end"
            if folder.records()
            else f"{out} has no finished case of {counted(len(missing), 'case')}; run the "
            "manifest first"
        )
    if newest(strict_facts(folder)) != facts:
        raise ManifestError(f"{out} was changed by a run while it was read; try again")
    return found


def collect(folder: RunFolder, facts: RunFacts) -> Records:
    """Return the records of a run; there may be no record."""
    case_ids = facts.case_ids or tuple(
        dict.fromkeys([*_written_order(folder), *(path.stem for path in folder.records())])
    )
    reports, missing = read_records(
        folder, case_ids, facts.settings_sha256, _parsed, sealed=facts.seals_records
    )
    if not facts.case_ids:  # an evaluation of version 0.1.0; the folder may hold earlier ones too
        missing = {case_id: why for case_id, why in missing.items() if "another run" not in why}
    return Records(facts, tuple(reports.values()), missing)


def _written_order(folder: RunFolder) -> list[str]:
    """Return the case ids of ``report.csv``, each once; empty if it cannot be read."""
    try:
        with regular(folder.report_csv).open(newline="", encoding="utf-8") as file:
            return list(dict.fromkeys(unescaped(row["case_id"]) for row in csv.DictReader(file)))
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return []  # the table will be written again


def failed_rows(labels: Iterable[Label], measures: Measures) -> tuple[LabelRow, ...]:
    """Return the rows of a failed case, with all columns, so that every count includes the case."""
    nsd = dict.fromkeys(measures.columns)
    return tuple(LabelRow(label.value, label.name, "failed", nsd=dict(nsd)) for label in labels)


def failed_report(
    case: Case, labels: Iterable[Label], reason: Notice, measures: Measures | None = None
) -> CaseReport:
    """Return the report of a case that failed before anything was measured."""
    return CaseReport.of(case, failed_rows(labels, measures or Measures()), reason)


def plain(value: Any) -> Any:
    """Return dataclasses as dicts, NaN as None, down to JSON values."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
