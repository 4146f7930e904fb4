"""Scores of the held-out cases -> the tables of a cross-validation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from voxtile.errors import counted
from voxtile.report.summary import EMPTY, summary_table
from voxtile.scoring.columns import column_named, metrics_of
from voxtile.training.bundle.selection_card import choices_of
from voxtile.training.recipe.warm_start import seen_words

from .finished_folds import FinishedFold
from .held_out import FUSED

# Metrics on the page; the table has all metrics.
SHOWN = ("dice", "iou", "hd95_mm")


def cross_validation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the rows of every ``held_out.csv``, each case once.

    The table has `view`, then the columns of ``summary.csv`` for the whole
    cohort: statistics over cases, not over folds. If there are several labels,
    their mean in each case follows as label 0, "mean of labels".
    """
    parts = []
    for view in dict.fromkeys(table["view"]):
        of_view = table[table["view"] == view].drop(columns=["view", "fold"])
        if of_view["label"].nunique() > 1:
            of_view = pd.concat([of_view, _means_of_labels(of_view)], ignore_index=True)
        summary = summary_table(of_view).drop(columns=["by", "by_value"])
        summary.insert(0, "view", view)
        parts.append(summary)
    return pd.concat(parts, ignore_index=True)


def cross_validation_page(
    summary: pd.DataFrame, table: pd.DataFrame, folds: Sequence[FinishedFold]
) -> str:
    """Return the tables for people, in Markdown."""
    facts = folds[0].bundle.spec.training
    cases = table["case_id"].nunique()
    failed = table[table["status"] == "failed"]["case_id"].nunique()
    headings = " | ".join(column_named(name).heading for name in SHOWN)
    lines = [
        "# Cross-validation",
        "",
        f"{len(folds)} folds of {counted(cases, 'case')} of `{facts['manifest']}`, by patient "
        f"group, seed {facts['fold']['seed']}. Every case was segmented once, by the fold "
        "that held it out and neither trained nor chose with it. Only the rules of the recipe used "
        "all cases (sizes, spacings, intensities)."
        + (f" {counted(failed, 'case')} failed." if failed else "")
        + _seen(folds, cases),
        "",
        "Mean ± SD over cases; in brackets the 95 % interval of the mean (percentile bootstrap "
        "over patient groups).",
        "",
        f"| view | label | n | {headings} | worst Dice |",
        "|---" * (len(SHOWN) + 4) + "|",
    ]
    for (view, _, name), rows in summary.groupby(["view", "label", "label_name"], sort=False):
        by_metric = {row["metric"]: row for row in rows.to_dict(orient="records")}
        dice = by_metric["dice"]
        cells = [
            view,
            name,
            f"{dice['n_used']} of {dice['n']}",
            *(summary_cell(by_metric[metric]) for metric in SHOWN),
            f"{number_cell('dice', dice['worst'])} ({dice['worst_case']})"
            if dice["n_used"]
            else "-",
        ]
        lines.append("| " + " | ".join(map(_escaped, cells)) + " |")
    lines += ["", *_fold_lines(table, folds)]
    return "\n".join(lines) + "\n"


def _seen(folds: Sequence[FinishedFold], cases: int) -> str:
    """Return how many held-out cases the bundle that the folds started with had seen."""
    inits = [fold.bundle.spec.training.get("init", {}) for fold in folds]
    seen = [case_id for init in inits for case_id in init.get("seen", ())]
    warning = seen_words({**inits[0], "seen": seen}, cases)
    return f" **{warning}.**" if warning else ""


def _fold_lines(table: pd.DataFrame, folds: Sequence[FinishedFold]) -> Iterator[str]:
    """Yield the table of the folds."""
    fused = table[table["view"] == FUSED]
    names = dict(zip(fused["label"], fused["label_name"], strict=True))
    yield (
        "| fold | cases | "
        + " | ".join(f"Dice {_escaped(name)}" for name in names.values())
        + " | time of fit | chosen without the fold |"
    )
    yield "|---" * (len(names) + 4) + "|"
    for fold in folds:
        of_fold = fused[fused["fold"] == fold.number]
        means = [of_fold[of_fold["label"] == label]["dice"].mean() for label in names]
        facts = fold.bundle.spec.training
        cells = [
            str(fold.number),
            str(of_fold["case_id"].nunique()),
            *(number_cell("dice", mean) for mean in means),
            f"{facts['fit_seconds'] / 60:.1f} min",
            choices_of(fold.bundle.spec),
        ]
        yield "| " + " | ".join(map(_escaped, cells)) + " |"


def _means_of_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each case with the mean of its labels that have a value."""
    metrics = metrics_of(table)
    grouped = table.groupby("case_id", sort=False)
    means = grouped[metrics].mean()
    means["group"] = grouped["group"].first()
    means["status"] = grouped["status"].agg(_status_of_labels)
    means["label"], means["label_name"] = 0, "mean of labels"
    return means.reset_index()


def _status_of_labels(found: pd.Series) -> str:
    """Return the status of a case with several labels: failed, empty in some way, or ok."""
    return next((status for status in ("failed", *EMPTY) if (found == status).any()), "ok")


def summary_cell(row: Mapping[str, Any]) -> str:
    """Return mean, SD and interval of a metric."""
    metric = row["metric"]
    if not row["n_used"]:
        return "-"
    mean, sd, low, high = (
        number_cell(metric, row[name]) for name in ("mean", "sd", "ci_low", "ci_high")
    )
    return f"{mean} ± {sd} [{low}, {high}]"


def number_cell(metric: str, value: float) -> str:
    """Return a number for people."""
    return "-" if np.isnan(value) else f"{value:.{column_named(metric).decimals or 0}f}"


def _escaped(cell: Any) -> str:
    """Return a cell of a Markdown table."""
    return str(cell).replace("|", "\\|").replace("\n", " ")
