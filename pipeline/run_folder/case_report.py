"""The record of one case: the content of ``cases/<case_id>.json``."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from voxtile.case import Case
from voxtile.errors import ManifestError, Notice
from voxtile.machine.files import regular
from voxtile.machine.json_objects import parse_object
from voxtile.models.spec import Label
from voxtile.scoring.rows import LabelRow
from voxtile.scoring.score import Measures

from .facts import current_settings
from .layout import RunFolder


@dataclass(frozen=True, slots=True)
class CaseReport:
    """Everything a run records of one case.

    Parameters
    ----------
    reason : Notice or None
        Why it failed.
    fingerprint : str
        Hash of everything that decides the result; empty if an input could
        not be read.
    labels : tuple of LabelRow
        One for each label of the spec, also of a failed case.
    geometry : dict
        Grid of the scan, and how the written mask compares with it.
    mask : dict
        File (in the run folder; for an evaluation, in the folder of the
        predictions) and SHA-256; empty without a mask.
    timings_s : dict of str to float
        Seconds of each stage.
    seconds : float
        Of the whole case.
    peak_memory_mb : float or None
        In MB (10^6 bytes); None if the system does not report it.
    extras : dict of str to str
        Further columns of the manifest.
    qc : dict
        What `voxtile.report.qc` measured and flagged without a reference.
    settings_sha256 : str
        Hash that identifies the run.
    """

    # For pydantic, which checks a record as it is read.
    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    case_id: str
    status: Literal["done", "failed"]
    reason: Notice | None = None
    warnings: tuple[Notice, ...] = ()
    fingerprint: str = ""
    labels: tuple[LabelRow, ...] = ()
    geometry: dict[str, Any] = field(default_factory=dict)
    mask: dict[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float | None = None
    split: str | None = None
    group: str | None = None
    extras: dict[str, str] = field(default_factory=dict)
    qc: dict[str, Any] = field(default_factory=dict)
    settings_sha256: str = ""

    @classmethod
    def of(
        cls, case: Case, labels: tuple[LabelRow, ...], reason: Notice | None = None
    ) -> "CaseReport":
        """Return a report that has only its rows and what the manifest says of the case."""
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
        """Return the report as JSON text; numbers that are not finite become null."""
        return json.dumps(plain(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


_REPORTS = TypeAdapter(CaseReport)
# Every record has all keys; earlier versions did not have the last two.
_REQUIRED = tuple(CaseReport.__dataclass_fields__)[:-2]


def read_case_report(path: Path) -> CaseReport:
    """Read ``cases/<case_id>.json``.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not a case report.
    """
    text = regular(path).read_bytes()
    try:
        parse_object(text, {}, required=_REQUIRED)
        return _REPORTS.validate_json(text, strict=True)
    except ValidationError as error:
        # Only the key: the value may identify a patient.
        problem = f"{'.'.join(map(str, error.errors()[0]['loc']))} is not valid"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"{path.name} is not a case report: {problem}")


def read_case_reports(out: Path) -> tuple[CaseReport, ...]:
    """Read every case of a run folder, in the order of its ``report.csv``, then by id.

    Records of an earlier run with another manifest or other settings are left
    out unless the newest run has taken them over.

    Raises
    ------
    ManifestError
        If there is no record, or one cannot be read.
    """
    folder = RunFolder(out)
    try:
        found = [read_case_report(path) for path in folder.records()]
    except (ValueError, OSError) as error:
        raise ManifestError([f"{out}: {error}; run the case again"]) from error
    if not found:
        raise ManifestError([f"{out} is not a run folder: it has no cases/*.json"])
    settings = current_settings(folder)
    reports = {
        report.case_id: report
        for report in found
        if settings is None or report.settings_sha256 == settings
    }
    if not reports:
        raise ManifestError(
            [
                f"{out} has no case of its last run, only those of an earlier one with another "
                "model, manifest or settings; run it to the end"
            ]
        )
    known = [case_id for case_id in _written_order(folder) if case_id in reports]
    return tuple(reports[case_id] for case_id in dict.fromkeys((*known, *reports)))


def _written_order(folder: RunFolder) -> list[str]:
    """Return the case ids of ``report.csv``, each once; empty if it cannot be read."""
    try:
        with regular(folder.report_csv).open(newline="", encoding="utf-8") as file:
            return list(dict.fromkeys(row["case_id"] for row in csv.DictReader(file)))
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return []  # it is about to be made again


def failed_rows(labels: Iterable[Label], measures: Measures) -> tuple[LabelRow, ...]:
    """Return the rows of a failed case, with every column, so that it stays in every count."""
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
