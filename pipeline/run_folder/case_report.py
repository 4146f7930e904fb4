"""What a run keeps of one case, and how it is measured; the content of ``cases/<case_id>.json``."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxtile.case import Case
from voxtile.errors import ManifestError, Notice
from voxtile.models.spec import Label
from voxtile.scoring.rows import LabelRow
from voxtile.scoring.score import Measures

from .facts import current_settings


@dataclass(frozen=True, slots=True)
class CaseReport:
    """Everything a run keeps of one case; the content of ``cases/<case_id>.json``.

    Parameters
    ----------
    case_id : str
    status : {"done", "failed"}
    reason : Notice or None
        Why it failed.
    warnings : tuple of Notice
    fingerprint : str
        Hash of all that decides the result; empty if inputs were unreadable.
    labels : tuple of LabelRow
        One for each label of the spec, also of a failed case.
    geometry : dict
        Grid of the scan, and how the written mask compares with it.
    mask : dict
        File (in the run folder; of an evaluation, in that of the predictions)
        and SHA-256; empty without a mask.
    timings_s : dict of str to float
        Seconds of each stage.
    seconds : float
        Of the whole case.
    peak_memory_mb : float or None
    split, group : str or None
    extras : dict of str to str
        Further columns of the manifest.
    qc : dict
        What `voxtile.report.qc` measured and flagged without a reference.
    """

    case_id: str
    status: Literal["done", "failed"]
    reason: Notice | None
    warnings: tuple[Notice, ...]
    fingerprint: str
    labels: tuple[LabelRow, ...]
    geometry: dict[str, Any]
    mask: dict[str, str]
    timings_s: dict[str, float]
    seconds: float
    peak_memory_mb: float | None
    split: str | None
    group: str | None
    extras: dict[str, str]
    qc: dict[str, Any] = field(default_factory=dict)
    settings_sha256: str = ""

    def dump(self) -> str:
        """Return the report as JSON text; numbers that are not finite become null."""
        return json.dumps(plain(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_case_report(path: Path) -> CaseReport:
    """Read ``cases/<case_id>.json``.

    Raises
    ------
    ValueError
        If it is not one.
    """
    try:
        parts = json.loads(path.read_bytes())
        reason = parts.pop("reason")
        return CaseReport(
            reason=None if reason is None else Notice(**reason),
            warnings=tuple(Notice(**notice) for notice in parts.pop("warnings")),
            labels=tuple(LabelRow(**label) for label in parts.pop("labels")),
            **parts,
        )
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not a case report: {error}") from error


def read_case_reports(out: Path) -> tuple[CaseReport, ...]:
    """Read every case of a run folder, in the order of its ``report.csv``, then by id.

    Cases that only an earlier run with another manifest or other settings has
    done are left out.

    Raises
    ------
    ManifestError
        If the folder has none, or one cannot be read.
    """
    try:
        reports = {
            report.case_id: report
            for report in map(read_case_report, sorted((out / "cases").glob("*.json")))
        }
    except (ValueError, OSError) as error:
        raise ManifestError([f"{out}: {error}; run the case again"]) from error
    if not reports:
        raise ManifestError([f"{out} is no run folder: it has no cases/*.json"])
    settings = current_settings(out)
    if settings is not None:
        reports = {
            case_id: report
            for case_id, report in reports.items()
            if report.settings_sha256 == settings
        }
        if not reports:
            raise ManifestError(
                [
                    f"{out} has no case of its last run, only those of an earlier one with "
                    "another model, manifest or settings; run it to the end"
                ]
            )
    known = [case_id for case_id in _written_order(out) if case_id in reports]
    return tuple(reports[case_id] for case_id in dict.fromkeys((*known, *reports)))


def _written_order(out: Path) -> list[str]:
    """Return the case ids of a written report, each once; none without one."""
    try:
        with (out / "report.csv").open(newline="", encoding="utf-8") as file:
            return list(dict.fromkeys(row["case_id"] for row in csv.DictReader(file)))
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return []  # it is about to be made again


def failed_report(
    case: Case,
    labels: Iterable[Label],
    reason: Notice,
    *,
    measures: Measures | None = None,
    warnings: Iterable[Notice] = (),
    fingerprint: str = "",
    settings_sha256: str = "",
    timings_s: dict[str, float] | None = None,
    seconds: float = 0.0,
    peak_memory_mb: float | None = None,
) -> CaseReport:
    """Return the report of a case that failed: it stays visible in every count."""
    # It has every column of the others, so that a report's columns do not depend on its cases.
    nsd = dict.fromkeys((measures or Measures()).columns)
    return CaseReport(
        case_id=case.case_id,
        status="failed",
        reason=reason,
        warnings=tuple(warnings),
        fingerprint=fingerprint,
        labels=tuple(
            LabelRow(label.value, label.name, "failed", nsd=dict(nsd)) for label in labels
        ),
        geometry={},
        mask={},
        timings_s=timings_s or {},
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
        settings_sha256=settings_sha256,
    )


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
