"""Collect the values that the page of a run shows: cases, columns, labels, summary, facts.

The columns and their titles are defined in `voxtile.scoring.columns`.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.errors import Notice
from voxtile.machine.spreadsheet import unescaped
from voxtile.models.spec import Label
from voxtile.report.methods import methods_text
from voxtile.report.qc import CaseFlags, flag_cases
from voxtile.report.summary import TEXT_COLUMNS
from voxtile.report.tables import report_table, run_verdict
from voxtile.report.verdict import judge
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.columns import Column, column_named

from .explanations import explanation

# What only this page has: its own columns, the labels of an open case, and the volumes to draw.
_PAGE = {
    "own": ["id", "status", "review", "lowest", "lowest-label", "flags", "warnings", "note"],
    "legend": [
        ["dice", "Dice"],
        ["volume_ml_pred", "Prediction (ml)"],
        ["volume_ml_ref", "Reference (ml)"],
    ],
    "usual": ["dice", "hd95_mm", "volume_ml_pred"],
    "scores": ["dice"],
    "volumes": [
        {
            "id": name,
            "x": ["volume_ml_ref", "reference"],
            "y": ["volume_ml_pred", "prediction"],
            "isDifference": bool(name),
        }
        for name in ("", "difference")
    ],
    "gallery": "Worst cases first",
    "how": "voxtile report DIR --manifest MANIFEST --cases all",
}
# Columns that identify a row of the report, and those that the page shows as sentences.
_NOT_SHOWN = (
    "case_id", "label", "label_name", "status", "reason", "warnings", "qc_flags", "verdict_reasons",
)  # fmt: skip


def worst_first(reports: Iterable[CaseReport], table: pd.DataFrame) -> list[CaseReport]:
    """Sort reports in the order in which a person should look at them.

    Failed cases come first; then cases by the lowest Dice of any label; then
    cases without a score, by the rank of their flags. Equal cases are sorted
    by id.
    """
    by_case = table.groupby("case_id", sort=False)
    lowest = by_case["dice"].min().fillna(math.inf).to_dict()
    ranks = by_case["qc_rank"].min().astype(float).fillna(math.inf).to_dict()

    def order(report: CaseReport) -> tuple[bool, float, float, str]:
        return (
            report.status != "failed",
            lowest.get(report.case_id, math.inf),
            ranks.get(report.case_id, math.inf),
            report.case_id,
        )

    return sorted(reports, key=order)


def cohort_data(
    out: Path, reports: Sequence[CaseReport], labels: Sequence[Label], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values that the page of a run shows, as JSON values.

    `out` is the run folder, for its ``summary.csv``; `labels` are those of the report, in order,
    with their colours; `facts` is the content of ``run.json``.
    """
    table = report_table(reports)
    # Columns in which no case has a value are left out.
    filled = table.columns[(table.notna() & (table.astype(str) != "")).any()]
    shown = [column_named(name) for name in filled if name not in _NOT_SHOWN]
    of_case = [column for column in shown if not column.of_label]
    of_label = [column for column in shown if column.of_label]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict(orient="records"):
        rows.setdefault(row["case_id"], []).append(row)
    flags = flag_cases(reports)
    return {
        **_PAGE,
        "run": {
            "name": out.resolve().name,
            "model": str(facts.get("model", {}).get("name", "")),
            "manifest": str(facts.get("manifest", {}).get("file", "")),
            "started": facts.get("started"),
            "finished": facts.get("finished"),
            "version": str(facts.get("voxtile", "")),
            "engine": _engine(facts.get("engine", {})),
            "methods": methods_text(facts, reports),
            "verdict": list(run_verdict(reports, _missing(reports, facts)).lines),
        },
        "labels": label_facts(labels),
        "columns": {
            "case": list(map(column_facts, of_case)),
            "label": list(map(column_facts, of_label)),
        },
        "cases": [
            {
                **_case(report, rows.get(report.case_id, []), labels, of_case, of_label),
                "look": list(map(_pair, _reasons(report, flags.get(report.case_id)))),
                "flags": _flags(flags.get(report.case_id), labels),
            }
            for report in worst_first(reports, table)
        ],
        "summary": _summary(RunFolder(out).summary()),
    }


def _missing(reports: Sequence[CaseReport], facts: Mapping[str, Any]) -> int:
    """Return how many cases of a run have no report."""
    return len({*facts.get("case_ids", ())} - {report.case_id for report in reports})


def _engine(facts: Mapping[str, Any]) -> str:
    """Return the engine of a run in words, such as "openvino 2026.1.0 float32 on cpu"."""
    name = str(facts.get("engine", ""))
    package = {"onnx": "onnxruntime"}.get(name, name)
    words = [name, facts.get(package), facts.get("precision"), "on", facts.get("device")]
    return " ".join(str(word) for word in words if word) if facts.get("device") else name


def _case(
    report: CaseReport,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Label],
    of_case: Sequence[Column],
    of_label: Sequence[Column],
) -> dict[str, Any]:
    """Return one case, its values in the order of the columns; without labels it has no rows."""
    return {
        "id": report.case_id,
        "status": report.status,
        "reason": None if report.reason is None else _pair(report.reason),
        "warnings": [_pair(notice) for notice in report.warnings],
        "timings": {name: _json(seconds) for name, seconds in report.timings_s.items()},
        "memory_mb": _json(report.peak_memory_mb),
        "shape": report.geometry.get("shape"),
        "spacing_mm": report.geometry.get("spacing_mm"),
        **case_values(rows, labels, of_case, of_label),
    }


def label_facts(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Return the facts about labels that a page needs."""
    return [{"value": label.value, "name": label.name, "color": label.color} for label in labels]


def case_values(
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[Label],
    of_case: Sequence[Column],
    of_label: Sequence[Column],
) -> dict[str, Any]:
    """Return the values of a case, from its rows of a table, in the order of the columns."""
    by_label = {int(row["label"]): row for row in rows}
    return {
        "values": [_json(rows[0][column.name]) if rows else None for column in of_case],
        "labels": [
            None
            if label.value not in by_label
            else [
                str(by_label[label.value]["status"]),
                *(_json(by_label[label.value][column.name]) for column in of_label),
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


def _reasons(report: CaseReport, found: CaseFlags | None) -> tuple[Notice, ...]:
    """Return why a person should look at a mask; a failed case has none."""
    return () if found is None else judge(report, found.flags).reasons


def column_facts(column: Column) -> dict[str, Any]:
    """Return the facts about a column that the page needs."""
    return {
        "key": column.name,
        "title": column.heading[:1].upper() + column.heading[1:],
        "numeric": column.kind != "text",
        "whole": column.kind == "whole",
        "better": column.better,
        "about": explanation(column.name),
    }


def _pair(notice: Any) -> list[str]:
    """Return a notice as its code and its sentence."""
    return [notice.code, notice.sentence]


def _summary(path: Path) -> dict[str, Any]:
    """Return the values of ``summary.csv``; empty without the file."""
    if not path.is_file():
        return {"header": [], "rows": []}
    return summary_values(StringIO(path.read_text("utf-8"), newline=""))


def summary_values(lines: Iterable[str]) -> dict[str, Any]:
    """Return header and rows of a summary in CSV; cells are numbers except in text columns."""
    rows = list(csv.reader(lines))
    return {
        "header": rows[0],
        "rows": [
            [
                (unescaped(cell) or None) if name in TEXT_COLUMNS else _number_or_text(cell)
                for name, cell in zip(rows[0], row, strict=True)
            ]
            for row in rows[1:]
        ],
    }


def _number_or_text(cell: str) -> float | str | None:
    """Return a CSV cell as a number if it is one; an empty cell as None."""
    if not cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else None


def _json(value: Any) -> Any:
    """Return a cell of a table as a JSON value; numbers have six digits."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str):
        return value
    number = float(value)
    return int(number) if number.is_integer() else float(f"{number:.6g}")
