"""Summarise a report by label and metric, with confidence intervals.

report.csv -> summary.csv   every number, one row per label and metric
           -> summary.json  the same, and how the intervals were computed
           -> summary.md    a table for people
           -> summary.tex   a table for a paper (booktabs)
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from voxtile.errors import UsageError
from voxtile.machine.files import json_text
from voxtile.scoring.columns import column_named, metrics_of

from .bootstrap import DRAWS, LEVEL, SEED, mean_intervals

COLUMNS = (
    "label", "label_name", "metric", "n", "n_used", "n_failed", "mean", "sd", "median", "q1", "q3",
    "worst", "worst_case", "n_empty", "ci_low", "ci_high", "by", "by_value",
)  # fmt: skip
# Columns of text. Their cells may look like numbers: a case can have the id 007.
TEXT_COLUMNS = ("label_name", "metric", "worst_case", "by", "by_value")
# Status of a row whose prediction, reference or both are empty.
EMPTY = ("both_empty", "pred_empty", "ref_empty")


def summary_table(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Summarise a report by label and metric.

    The columns are `COLUMNS`, see ``docs/metrics.md``. Cases without a value (both masks empty, no
    reference, failed) are left out of the statistics; there are ``n - n_used`` of them.

    `table` is from `voxtile.report.tables.report_table`. After the rows of the whole cohort there
    are rows for each value of each column in `by`.
    """
    for column in by:
        if column not in table.columns:
            raise UsageError(
                f"cannot summarise by {column!r}: it is not one of {', '.join(table.columns)}"
            )
    rows = _summarise(table, "", "")
    for column in by:
        values = table[column].astype("object").where(table[column].notna(), "").map(str)
        for value in sorted(set(values)):
            rows += _summarise(table[values == value], column, value)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def units(cases: Iterable[str], groups: Iterable[Any]) -> list[str]:
    """Return the unit that is drawn for each case: its group, or the case if it has no group."""
    # Prefixed, because a group may have the name of another case.
    return [
        f"case {case}" if pd.isna(group) or group == "" else f"group {group}"
        for case, group in zip(cases, groups, strict=True)
    ]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values."""
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]


def summary_json(summary: pd.DataFrame) -> str:
    """Return a summary as JSON text, with how its intervals were computed."""
    content = {
        "format": "voxtile-summary",
        "format_version": 1,
        "interval": {
            "of": "mean",
            "method": "percentile bootstrap",
            "level": LEVEL,
            "draws": DRAWS,
            "seed": SEED,
            "drawn": "groups of the manifest; a case without a group is its own group",
        },
        "rows": records(summary),
    }
    return json_text(content)


def summary_markdown(summary: pd.DataFrame) -> str:
    """Return a summary as Markdown tables: the whole cohort, then each value of each column."""
    parts = ["# Summary\n"]
    for heading, part in _parts(summary):
        if heading:
            parts.append(f"\n## {_markdown(heading)}\n")
        parts.append("| " + " | ".join(_HEAD) + " |")
        parts.append("|" + "---|" * len(_HEAD))
        parts += ["| " + " | ".join(map(_markdown, cells)) + " |" for cells in _cells(part)]
    parts.append(f"\n{_note(summary)}\n")
    return "\n".join(parts)


def summary_latex(summary: pd.DataFrame) -> str:
    """Return a summary as LaTeX tables, for the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    for heading, part in _parts(summary):
        caption = _latex((f"{heading}. " if heading else "") + _note(summary))
        parts += [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            "\\begin{tabular}{llrrrr}",
            "\\toprule",
            " & ".join(map(_latex, _HEAD)) + " \\\\",
            "\\midrule",
        ]
        parts += [" & ".join(map(_latex, cells)) + " \\\\" for cells in _cells(part)]
        parts += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(parts)


_HEAD = ("label", "metric", "n", "mean ± SD", "95 % CI", "median [quartiles]")


def _summarise(table: pd.DataFrame, by: str, value: str) -> list[dict[str, Any]]:
    """Return the rows of one part of a report."""
    metrics = metrics_of(table)
    rows = []
    for (label, name), of_label in table.groupby(["label", "label_name"], sort=False):
        numbers = of_label[metrics].to_numpy(np.float64, na_value=np.nan)
        cases, status = of_label["case_id"].tolist(), of_label["status"]
        intervals = mean_intervals(numbers, units(cases, of_label["group"]))
        failed, empty = (int(status.isin(some).sum()) for some in (("failed",), EMPTY))
        for metric, column, (low, high) in zip(metrics, numbers.T, intervals, strict=True):
            used = column[~np.isnan(column)]
            worst, worst_case = _worst(cases, column, metric)
            q1, middle, q3 = np.percentile(used, (25, 50, 75)) if used.size else (math.nan,) * 3
            rows.append(
                {
                    "label": label,
                    "label_name": name,
                    "metric": metric,
                    "n": len(of_label),
                    "n_used": used.size,
                    "n_failed": failed,
                    # fsum is exact, so the mean does not depend on the order of the cases.
                    "mean": math.fsum(used) / used.size if used.size else math.nan,
                    "sd": _deviation(used.tolist()),
                    "median": middle,
                    "q1": q1,
                    "q3": q3,
                    "worst": worst,
                    "worst_case": worst_case,
                    "n_empty": empty,
                    "ci_low": low,
                    "ci_high": high,
                    "by": by,
                    "by_value": value,
                }
            )
    return rows


def _worst(
    cases: Sequence[str], numbers: np.ndarray, metric: str
) -> tuple[float, str] | tuple[None, None]:
    """Return the worst value and its case; None if no value is better than another."""
    used = [
        (value, case) for value, case in zip(numbers.tolist(), cases, strict=True) if value == value
    ]
    better = column_named(metric).better
    if not used or better is None:
        return None, None
    sign = 1 if better == "higher" else -1
    # Of equal values, the one with the first id is used, so the order of rows does not matter.
    return min(used, key=lambda pair: (sign * pair[0], pair[1]))


def _deviation(numbers: Sequence[float]) -> float:
    """Return the sample standard deviation, independent of order; NaN for fewer than two."""
    if len(numbers) < 2:
        return math.nan
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _parts(summary: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the whole cohort and each subgroup, with a heading."""
    return [
        (f"{by}: {value or '(none)'}" if by else "", part)
        for (by, value), part in summary.groupby(["by", "by_value"], sort=False)
    ]


def _cells(part: pd.DataFrame) -> list[list[str]]:
    """Return the cells of a table for people; metrics that no case has are left out."""
    rows = []
    for row in part[part["n_used"] > 0].to_dict(orient="records"):
        column = column_named(row["metric"])
        shown = {
            name: "-" if math.isnan(row[name]) else f"{row[name]:.{column.decimals or 0}f}"
            for name in ("mean", "sd", "ci_low", "ci_high", "median", "q1", "q3")
        }
        rows.append(
            [
                str(row["label_name"]),
                column.heading,
                f"{row['n_used']} of {row['n']}",
                f"{shown['mean']} ± {shown['sd']}",
                f"{shown['ci_low']} to {shown['ci_high']}",
                f"{shown['median']} [{shown['q1']}, {shown['q3']}]",
            ]
        )
    return rows


def _note(summary: pd.DataFrame) -> str:
    """Return the note below a table, which explains its numbers."""
    whole = summary[summary["by"] == ""]
    failed = int(whole["n_failed"].max()) if len(whole) else 0
    return (
        "n: cases with a value, of all cases; "
        f"{failed} failed. SD: sample standard deviation. CI: percentile bootstrap of the mean, "
        f"{DRAWS} draws of groups (or cases without a group), seed {SEED}. "
        "Both masks empty: no Dice; one empty: Dice 0 and no distance."
    )


def _markdown(text: str) -> str:
    """Escape characters that would end a cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _latex(text: str) -> str:
    """Escape characters that TeX would interpret."""
    table = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
    return "".join(table.get(character, character) for character in text)


def _plain(value: Any) -> Any:
    """Return a cell as a JSON value."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
