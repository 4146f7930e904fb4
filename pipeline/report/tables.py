"""From case reports to CSV: one row per case and label.

The JSON of each case is the truth; the tables are derived from them and can be
made again at any time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.machine.files import write_text
from voxtile.run_folder.case_report import CaseReport, plain
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.columns import COLUMNS, nsd_tolerance

from .qc import CaseFlags, flag_cases
from .summary import summary_json, summary_latex, summary_markdown, summary_table

_WHOLE = (
    "label",
    "tp",
    "fp",
    "fn",
    "voxels_pred",
    "voxels_ref",
    "components_pred",
    "components_ref",
    "lesions_detected",
    "lesions_missed",
    "lesions_false",
    "qc_rank",
)
_REAL = (
    "dice",
    "iou",
    "volume_ml_pred",
    "volume_ml_ref",
    "precision",
    "sensitivity",
    "volume_difference_ml",
    "volume_difference_rel",
    "hd_mm",
    "hd95_mm",
    "assd_mm",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
)


def report_table(reports: Sequence[CaseReport]) -> pd.DataFrame:
    """Return the rows of ``report.csv``, in the order of the reports."""
    flags = flag_cases(reports)
    rows = [row for report in reports for row in _rows(report, flags.get(report.case_id))]
    nsd = {name for report in reports for label in report.labels for name in label.nsd}
    columns = [*COLUMNS, *sorted(nsd, key=nsd_tolerance)]
    extras = dict.fromkeys(name for row in rows for name in row if name not in columns)
    table = pd.DataFrame(rows, columns=[*columns, *extras])
    for column in _WHOLE:
        table[column] = table[column].astype("Int64")
    for column in (*_REAL, *nsd):
        table[column] = table[column].astype("float64")
    return table


def _rows(report: CaseReport, flags: CaseFlags | None) -> list[dict[str, Any]]:
    """Return the rows of a case; flags come from its run."""
    common = {
        "seconds": round(report.seconds, 3),
        "reason": "" if report.reason is None else str(report.reason),
        "warnings": "; ".join(map(str, report.warnings)),
        "split": report.split,
        "group": report.group,
    }
    rows = []
    for label in report.labels:
        row = {"case_id": report.case_id, **plain(label)}
        nsd = row.pop("nsd")
        if flags is not None:
            row |= {"qc_flags": flags.of_label(label.label), "qc_rank": flags.rank}
        rows.append({**row, **common, **nsd, **report.extras})
    return rows


def write_reports(out: Path, reports: Sequence[CaseReport], by: Sequence[str] = ()) -> pd.DataFrame:
    """Write ``report.csv`` and the summaries into a run folder; return the summary.

    Parameters
    ----------
    out : Path
    reports : sequence of CaseReport
    by : sequence of str
        Columns of the report to summarise by, beside the whole cohort.
    """
    folder = RunFolder(out)
    table = report_table(reports)
    write_text(folder.report_csv, csv_text(table))
    summary = summary_table(table, by)
    write_text(folder.summary(), csv_text(summary))
    write_text(folder.summary("json"), summary_json(summary))
    write_text(folder.summary("md"), summary_markdown(summary))
    write_text(folder.summary("tex"), summary_latex(summary))
    return summary


def check_columns(by: Sequence[str], cases: Sequence[Case] | Sequence[CaseReport]) -> None:
    """Refuse to summarise by what is no column of the manifest, before anything runs.

    Raises
    ------
    ManifestError
        With the columns that it has.
    """
    extras = dict.fromkeys(name for case in cases for name in dict(case.extras))
    known = ["split", "group", *extras]
    for column in by:
        if column not in known:
            raise ManifestError(
                [f"cannot summarise by {column!r}; the manifest has {', '.join(known)}"]
            )


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV that a spreadsheet opens without running anything.

    A text cell that begins like a formula gets an apostrophe in front, as
    spreadsheets themselves do.
    """
    safe = table.copy()
    safe.columns = pd.Index([_defused(name) for name in safe.columns])
    for position, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            column = safe.columns[position]
            safe[column] = safe[column].map(_defused)
    text: str = safe.to_csv(index=False, lineterminator="\n")
    return text


def _defused(cell: Any) -> Any:
    """Return a cell that is no formula; plain numbers such as -5 stay."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell
