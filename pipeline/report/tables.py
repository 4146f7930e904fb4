"""Turn the records of cases into CSV tables: one row per case and label.

The record of each case (JSON) is the original; the tables are derived from the
records and can be made again at any time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.machine.files import remove, write_text
from voxtile.machine.spreadsheet import csv_lines, escaped
from voxtile.run_folder.case_report import CaseReport, plain
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.columns import COLUMNS, column_named, nsd_order

from .qc import CaseFlags, flag_cases
from .summary import summary_json, summary_latex, summary_markdown, summary_table
from .verdict import RunVerdict, count_verdicts, judge

_CENTRE = ("r_mm", "a_mm", "s_mm")


def report_table(reports: Sequence[CaseReport]) -> pd.DataFrame:
    """Return the rows of ``report.csv``, in the order of the reports."""
    flags = flag_cases(reports)
    rows = [row for report in reports for row in _rows(report, flags.get(report.case_id))]
    nsd = {name for report in reports for label in report.labels for name in label.nsd}
    columns = [*COLUMNS, *map(column_named, sorted(nsd, key=nsd_order))]
    names = [column.name for column in columns]
    extras = dict.fromkeys(name for row in rows for name in row if name not in names)
    table = pd.DataFrame(rows, columns=[*names, *extras])
    types = {"whole": "Int64", "real": "float64"}
    return table.astype(
        {column.name: types[column.kind] for column in columns if column.kind in types}
    )


def run_verdict(reports: Sequence[CaseReport], missing: int = 0) -> RunVerdict:
    """Return the verdicts of a run, counted, with the flags that compare its cases."""
    flags = flag_cases(reports)
    found = {case_id: of_case.flags for case_id, of_case in flags.items()}
    return count_verdicts((judge(report, found.get(report.case_id)) for report in reports), missing)


def _rows(report: CaseReport, flags: CaseFlags | None) -> list[dict[str, Any]]:
    """Return the rows of a case, with its flags and its verdict."""
    verdict = judge(report, None if flags is None else flags.flags)
    common = {
        "seconds": round(report.seconds, 3),
        "reason": "" if report.reason is None else str(report.reason),
        "warnings": "; ".join(map(str, report.warnings)),
        "split": report.split,
        "group": report.group,
        "verdict": verdict.word,
        "verdict_reasons": "; ".join(map(str, verdict.reasons)),
    }
    dice = {one["label"]: one for one in report.qc.get("dice", ())}
    rows = []
    for label in report.labels:
        row = {"case_id": report.case_id, **plain(label)}
        nsd = row.pop("nsd")
        del row["lesions"]  # in a table of their own
        if flags is not None:
            row |= {"qc_flags": flags.of_label(label.label), "qc_rank": flags.rank}
        if label.label in dice:
            row |= {f"dice_{name}": dice[label.label][name] for name in ("predicted", "lower")}
        rows.append({**row, **common, **nsd, **report.extras})
    return rows


def write_reports(out: Path, reports: Sequence[CaseReport], by: Sequence[str] = ()) -> pd.DataFrame:
    """Write ``report.csv`` and the summaries into a run folder; return the summary.

    The whole cohort is summarised, and each value of the columns `by`.
    """
    folder = RunFolder(out)
    table = report_table(reports)
    write_text(folder.report_csv, csv_text(table))
    lesions = lesion_table(reports)
    if lesions.empty:
        remove(folder.lesions_csv)  # of an earlier evaluation
    else:
        write_text(folder.lesions_csv, csv_text(lesions))
    summary = summary_table(table, by)
    write_text(folder.summary(), csv_text(summary))
    write_text(folder.summary("json"), summary_json(summary))
    write_text(folder.summary("md"), summary_markdown(summary))
    write_text(folder.summary("tex"), summary_latex(summary))
    return summary


def lesion_table(reports: Sequence[CaseReport]) -> pd.DataFrame:
    """Return the rows of ``lesions.csv``: each lesion of each label, if they were matched."""
    rows = []
    for report in reports:
        for label in report.labels:
            for number, lesion in enumerate(label.lesions, start=1):
                values = plain(lesion)
                centre = dict(zip(_CENTRE, values.pop("centre_mm"), strict=True))
                named = {"label": label.label, "label_name": label.label_name, "lesion": number}
                rows.append({"case_id": report.case_id, **named, **values, **centre})
    return pd.DataFrame(rows)


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV that a spreadsheet can open without running a formula."""
    cells = table.astype("object").where(table.notna(), None)
    return csv_lines([map(str, table.columns), *cells.itertuples(index=False, name=None)])


def tsv_text(table: pd.DataFrame) -> str:
    """Return a table as BIDS writes tables: with tabs, and ``n/a`` where there is no value."""
    cells = table.astype("object").where(table.notna(), None)
    rows = [map(str, table.columns), *cells.itertuples(index=False, name=None)]
    return "".join("\t".join(map(_tsv_cell, row)) + "\n" for row in rows)


def _tsv_cell(value: object) -> str:
    """Return the text of a cell, on one line."""
    text = " ".join(str(value).split())
    return "n/a" if value is None or not text else escaped(text) if isinstance(value, str) else text
