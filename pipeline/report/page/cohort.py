"""A run as the values its page shows: cases worst first, columns, labels, summary, facts.

Generic over columns: what `report.csv` and `summary.csv` gain, the page shows.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.models.spec import Label
from voxtile.report.qc import CaseFlags, flag_cases
from voxtile.report.summary import TEXT_COLUMNS
from voxtile.report.tables import report_table
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.layout import RunFolder

# Columns that identify a row of the report, and those of a case rather than of its label.
_ROW = ("case_id", "label", "label_name", "status")
_OF_CASE = ("seconds", "reason", "warnings", "split", "group", "qc_flags", "qc_rank")
# Shown in words, with their reasons, rather than as columns.
_IN_WORDS = ("reason", "warnings", "qc_flags")

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "voxels_pred": "Voxels, prediction",
    "voxels_ref": "Voxels, reference",
    "volume_ml_pred": "Volume, prediction (ml)",
    "volume_ml_ref": "Volume, reference (ml)",
    "volume_difference_ml": "Volume difference (ml)",
    "volume_difference_rel": "Volume difference (relative)",
    "hd_mm": "HD (mm)",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "components_pred": "Components, prediction",
    "components_ref": "Components, reference",
    "lesion_f1": "Lesion F1",
    "seconds": "Seconds",
    "qc_rank": "QC rank",
    "nsd_1mm": "NSD at 1 mm",
    "nsd_2mm": "NSD at 2 mm",
}
_LOW_IS_WORSE = ("dice", "iou", "precision", "sensitivity", "nsd_", "lesion_", "qc_rank")
_HIGH_IS_WORSE = ("hd", "assd", "fp", "fn", "lesions_missed", "lesions_false", "seconds")


def worst_first(reports: Iterable[CaseReport], table: pd.DataFrame) -> list[CaseReport]:
    """Return the reports as a person should look at them.

    Failed cases first; then by the lowest Dice of any label; then cases
    without a score, flagged ones by their rank. Of equals the first by id.
    """
    by_case = table.groupby("case_id", sort=False)
    lowest = by_case["dice"].min().to_dict()
    ranks = by_case["qc_rank"].min().to_dict()

    def place(report: CaseReport) -> tuple[bool, float, float, str]:
        rank = ranks.get(report.case_id)
        return (
            report.status != "failed",
            _or_infinite(lowest.get(report.case_id)),
            _or_infinite(rank),
            report.case_id,
        )

    return sorted(reports, key=place)


def cohort_data(
    out: Path,
    reports: Sequence[CaseReport],
    labels: Sequence[Label],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a page shows of a run, as JSON values.

    Parameters
    ----------
    out : Path
        The run folder, for its ``summary.csv`` and ``qc/``.
    reports : sequence of CaseReport
    labels : sequence of Label
        Those of the report, in order, with their colours.
    facts : mapping
        Content of ``run.json``.
    """
    table = report_table(reports)
    extras = list(dict.fromkeys(name for report in reports for name in report.extras))
    of_case = [name for name in table.columns if name in (*_OF_CASE, *extras)]
    of_label = [name for name in table.columns if name not in (*_ROW, *of_case)]
    # A column that no case has a value in says nothing.
    of_case = [n for n in of_case if n not in _IN_WORDS and _has_values(table[n])]
    of_label = [n for n in of_label if _has_values(table[n])]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict(orient="records"):
        rows.setdefault(row["case_id"], []).append(row)
    flags = flag_cases(reports)
    return {
        "run": {
            "name": out.resolve().name,
            "model": str(facts.get("model", {}).get("name", "")),
            "manifest": str(facts.get("manifest", {}).get("file", "")),
            "started": facts.get("started"),
            "finished": facts.get("finished"),
            "version": str(facts.get("voxtile", "")),
            "engine": _engine(facts.get("engine", {})),
        },
        "labels": [
            {"value": label.value, "name": label.name, "color": label.color} for label in labels
        ],
        "columns": {
            "case": [_column(name, table[name]) for name in of_case],
            "label": [_column(name, table[name]) for name in of_label],
        },
        "cases": [
            {
                **_case(report, rows.get(report.case_id, []), labels, of_case, of_label),
                "flags": _flags(flags.get(report.case_id), labels),
            }
            for report in worst_first(reports, table)
        ],
        "summary": _summary(RunFolder(out).summary()),
    }


def _engine(facts: Mapping[str, Any]) -> str:
    """Return what ran the networks, such as "openvino 2026.1.0 float32 on cpu"."""
    name = str(facts.get("engine", ""))
    package = {"onnx": "onnxruntime"}.get(name, name)
    words = [name, facts.get(package), facts.get("precision"), "on", facts.get("device")]
    return " ".join(str(word) for word in words if word) if facts.get("device") else name


def _case(
    report: CaseReport,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Label],
    of_case: Sequence[str],
    of_label: Sequence[str],
) -> dict[str, Any]:
    """Return one case; values stand in the order of the columns. Without labels it has no row."""
    by_label = {int(row["label"]): row for row in rows}
    return {
        "id": report.case_id,
        "status": report.status,
        "reason": None if report.reason is None else _pair(report.reason),
        "warnings": [_pair(notice) for notice in report.warnings],
        "timings": {name: _json(seconds) for name, seconds in report.timings_s.items()},
        "memory_mb": _json(report.peak_memory_mb),
        "shape": report.geometry.get("shape"),
        "spacing_mm": report.geometry.get("spacing_mm"),
        "values": [_json(rows[0][name]) if rows else None for name in of_case],
        "labels": [
            None
            if label.value not in by_label
            else [
                str(by_label[label.value]["status"]),
                *(_json(by_label[label.value][name]) for name in of_label),
            ]
            for label in labels
        ],
    }


def _flags(found: CaseFlags | None, labels: Sequence[Label]) -> list[list[str]]:
    """Return the flags of a case as code and sentence, the most severe first."""
    if found is None:
        return []
    names = {label.value: f"{label.name}: " for label in labels}
    return [
        [flag.code, f"{'' if flag.label is None else names.get(flag.label, '')}{flag.sentence}"]
        for flag in sorted(found.flags, key=lambda flag: -flag.severity)
    ]


def _column(name: str, values: "pd.Series[Any]") -> dict[str, Any]:
    """Return what the page must know of a column."""
    numeric = bool(pd.api.types.is_numeric_dtype(values))
    worse = None
    if numeric and name.startswith(_LOW_IS_WORSE) and not name.startswith("lesions_"):
        worse = "low"
    elif numeric and name.startswith(_HIGH_IS_WORSE):
        worse = "high"
    title = _TITLES.get(name) or name.replace("_", " ")
    return {
        "key": name,
        "title": title[:1].upper() + title[1:],
        "numeric": numeric,
        "worse": worse,
    }


def _pair(notice: Any) -> list[str]:
    """Return a notice as its code and its sentence."""
    return [notice.code, notice.sentence]


def _has_values(values: "pd.Series[Any]") -> bool:
    """Whether any cell says something."""
    return bool((values.notna() & (values.astype(str) != "")).any())


def _summary(path: Path) -> dict[str, Any]:
    """Return ``summary.csv`` as its header and its rows, cells of columns of numbers as numbers."""
    if not path.is_file():
        return {"header": [], "rows": []}
    rows = list(csv.reader(StringIO(path.read_text("utf-8"), newline="")))
    return {
        "header": rows[0],
        "rows": [
            [
                (cell or None) if name in TEXT_COLUMNS else _number_or_text(cell)
                for name, cell in zip(rows[0], row, strict=True)
            ]
            for row in rows[1:]
        ],
    }


def _number_or_text(cell: str) -> float | str | None:
    """Return a CSV cell as what it is; an empty one as None."""
    if not cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else None


def _json(value: Any) -> Any:
    """Return a cell of a table as a JSON value, numbers with six digits."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        return value
    number = float(value)
    return int(number) if number.is_integer() else float(f"{number:.6g}")


def _or_infinite(value: Any) -> float:
    """Return a number to sort by; what is missing comes last."""
    return math.inf if value is None or pd.isna(value) else float(value)
