"""Collect the values that the page of a comparison shows.

The runs are called A, B, C and so on. Each metric has a column for each run, and one for the change
from A to each other run.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

import pandas as pd

from voxtile.models.spec import Label
from voxtile.report.comparison import COLUMNS, Comparison
from voxtile.report.summary import records
from voxtile.scoring.columns import Column, column_named, is_column

from .cohort import case_values, column_facts
from .explanations import FLAGS, explanation

_ROW = ["case_id", "label", "label_name"]
_VOLUME, _REFERENCE = "volume_ml_pred", "volume_ml_ref"


def letters(comparison: Comparison) -> list[str]:
    """Return the letters of the runs: A to Z, then A1 and so on."""
    return [
        ascii_uppercase[place % 26] + (str(place // 26) if place >= 26 else "")
        for place in range(len(comparison.runs))
    ]


def comparison_data(comparison: Comparison, labels: Sequence[Label]) -> dict[str, Any]:
    """Return the values that the page of a comparison shows, as JSON values.

    The cases that changed most in the first metric come first. `labels` have the colours.
    """
    named = letters(comparison)
    metrics = list(dict.fromkeys(comparison.summary["metric"]))
    of_label, table = _label_columns(comparison, metrics), _wide(comparison, metrics)
    of_case = _case_columns(comparison, table)
    for column in of_label:
        if column not in table:
            table[column] = math.nan  # no case can be compared
    first = [name for name in of_label if name.startswith(f"{metrics[0]}.change.")]
    size = table[first].abs().max(axis=1).groupby(table["case_id"]).max()
    order = size.sort_values(ascending=False, kind="stable", na_position="last").index
    rows: dict[str, list[dict[str, Any]]] = {case_id: [] for case_id in order}
    for row in table.to_dict(orient="records"):
        rows[row["case_id"]].append({**row, "status": "ok"})
    shown = [column for column, _ in of_label.values()]
    others = named[1:]
    return {
        "run": {"name": f"{', '.join(comparison.runs[1:])} against {comparison.runs[0]}"},
        "runs": [
            {"letter": letter, "name": name}
            for letter, name in zip(named, comparison.runs, strict=True)
        ],
        "metrics": {name: column_named(name).heading for name in metrics},
        "metric": first[0],
        "columns": {
            "case": list(map(column_facts, of_case)),
            "label": [{**column_facts(column), **facts} for column, facts in of_label.values()],
        },
        "cases": [
            {"id": case_id, **case_values(of_one, labels, of_case, shown)}
            for case_id, of_one in rows.items()
        ],
        "summary": {
            "header": list(COLUMNS),
            "rows": [list(row.values()) for row in records(comparison.summary)],
        },
        "flags": FLAGS,
        "own": ["id"],
        "usual": [f"{metrics[0]}.{letter}" for letter in named] + first,
        "scores": [f"{metrics[0]}.{letter}" for letter in named],
        "legend": [
            *([f"{metrics[0]}.{one}", f"{column_named(metrics[0]).title} {one}"] for one in named),
            *([f"{_VOLUME}.{one}", f"{one} (ml)"] for one in named),
            [_REFERENCE, "Ref. (ml)"],
        ],
        "volumes": [
            *(_difference(f"{_VOLUME}.{named[0]}", named[0], one) for one in others),
            *(_difference(_REFERENCE, "reference", one) for one in named),
        ],
        "gallery": f"Cases whose {column_named(metrics[0]).title} changed most",
    }


def _difference(x: str, name: str, letter: str) -> dict[str, Any]:
    """Return what the panel of volumes draws for a run and another run or the reference."""
    y = [f"{_VOLUME}.{letter}", letter]
    return {"id": f"{letter}-{name}", "x": [x, name], "y": y, "isDifference": True}


def _label_columns(
    comparison: Comparison, metrics: Sequence[str]
) -> dict[str, tuple[Column, dict[str, str]]]:
    """Return the columns of labels, with what the page needs to know about them besides."""
    named = letters(comparison)
    found: dict[str, tuple[Column, dict[str, str]]] = {}

    def add(name: str, metric: str, end: str, **facts: str) -> None:
        column = column_named(metric)
        titled = replace(column, name=name, title=f"{column.heading}{end}", unit="")
        found[name] = titled, {"about": explanation(metric), "metric": metric, **facts}

    for metric in metrics:
        for letter in named:
            add(f"{metric}.{letter}", metric, f", {letter}")
        for letter, run in zip(named[1:], comparison.runs[1:], strict=True):
            add(f"{metric}.change.{letter}", metric, f", {letter} - {named[0]}", change=run)
    for letter in named:
        add(f"{_VOLUME}.{letter}", _VOLUME, f", {letter}")
    add(_REFERENCE, _REFERENCE, "")
    return found


def _case_columns(comparison: Comparison, table: pd.DataFrame) -> list[Column]:
    """Return the filled columns of cases: the verdict of each run, and those of the manifest."""
    named = letters(comparison)
    verdicts = [Column(f"verdict.{letter}", f"verdict, {letter}") for letter in named]
    extras = [name for table in comparison.tables for name in table if _is_shown(name)]
    columns = [*verdicts, *map(column_named, dict.fromkeys(extras))]
    filled = (table.notna() & (table.astype(str) != "")).any()
    return [column for column in columns if filled[column.name]]


def _is_shown(name: str) -> bool:
    """Whether a column of a report comes from the manifest."""
    return name in ("split", "group") or not is_column(name)


def _wide(comparison: Comparison, metrics: Sequence[str]) -> pd.DataFrame:
    """Return a row for each case and label with the values of all runs."""
    named = letters(comparison)
    parts: list[pd.DataFrame] = []
    for letter, table in zip(named, comparison.tables, strict=True):
        own = [*metrics, _VOLUME, "verdict"]
        shared = [name for name in table if _is_shown(name)]
        part = table.set_index(_ROW)[[*own, _REFERENCE, *shared]]
        parts.append(part.rename(columns={name: f"{name}.{letter}" for name in own}))
    wide = parts[0]
    for part in parts[1:]:
        wide = wide.combine_first(part)
    for name, column in _changes(comparison):
        wide[name] = column
    return wide.reset_index()


def _changes(comparison: Comparison) -> Iterator[tuple[str, pd.Series]]:
    """Yield the change of each metric from the first run to each other, by case and label."""
    of_run: Mapping[str, str] = dict(zip(comparison.runs, letters(comparison), strict=True))
    for (run, metric), rows in comparison.cases.groupby(["run_b", "metric"], sort=False):
        yield f"{metric}.change.{of_run[run]}", rows.set_index(_ROW)["difference"]
