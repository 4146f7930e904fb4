"""Compare runs: which cases improved, and whether the difference is more than chance.

Runs are compared with the first one, case by case and label by label. Groups
(patients) are independent, cases are not, so the differences of the cases of
one group are averaged before the test.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from voxtile.errors import ManifestError
from voxtile.machine.files import write_json, write_text
from voxtile.machine.json_objects import read_object
from voxtile.run_folder.case_report import CaseReport, Records, read_run
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import holders
from voxtile.run_folder.protection import ANOTHER_FOLDER, is_remainder
from voxtile.scoring.columns import column_named, metrics_of

from .bootstrap import mean_intervals
from .summary import records, units
from .tables import csv_text, report_table

COLUMNS = (
    "run_a", "run_b", "label", "label_name", "metric", "n", "n_units", "n_only_a", "n_only_b",
    "n_other_reference", "mean_a", "mean_b", "mean_difference", "ci_low", "ci_high",
    "median_difference", "wins", "ties", "losses", "p", "p_holm",
)  # fmt: skip
CASE_COLUMNS = (
    "run_a", "run_b", "case_id", "label", "label_name", "metric", "value_a", "value_b",
    "difference", "outcome",
)  # fmt: skip
_LABEL = ["label", "label_name"]
_NOWHERE = np.array([], int)
_DEFAULT = ("dice", "hd95_mm", "assd_mm")


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Runs compared with the first of them."""

    runs: tuple[str, ...]  # names of the runs; the first is the baseline
    summary: pd.DataFrame  # `COLUMNS`: a row for each other run, label and metric
    # `CASE_COLUMNS`: a row for each other run, case, label and metric, the largest changes of each
    # metric first.
    cases: pd.DataFrame
    found: tuple[Records, ...]  # the records of each run
    tables: tuple[pd.DataFrame, ...]  # the rows of its ``report.csv``
    incomplete: tuple[str, ...] = ()  # lines for people about runs that lack cases

    @property
    def reports(self) -> list[dict[str, CaseReport]]:
        """The reports of each run by case id."""
        return [{report.case_id: report for report in one.reports} for one in self.found]


def compare_runs(runs: Sequence[str | Path], metrics: Sequence[str] = ()) -> Comparison:
    """Compare two or more finished runs with the first of them.

    Differences are B - A, over cases that have a value in both runs, measured against the same
    reference (the same number of voxels). The test is Wilcoxon's signed-rank test, two-sided;
    `p_holm` is corrected for all tests of the comparison (Holm 1979). A win is a case in which B is
    better. ManifestError if a folder is not a run folder, the runs have no case in common or name a
    label differently, or a report lacks the metric.

    `metrics` are columns of the reports in which higher or lower values are better; by default
    Dice, HD95 and ASSD.
    """
    if len(runs) < 2:
        raise ManifestError(f"a comparison needs at least 2 runs, but got {len(runs)}")
    names = _names([Path(run) for run in runs])
    found = [read_run(Path(run)) for run in runs]
    tables = [report_table(one.reports) for one in found]
    chosen = _chosen(metrics, tables, names)
    rows: list[dict[str, Any]] = []
    cases: list[pd.DataFrame] = []
    for name, table in zip(names[1:], tables[1:], strict=True):
        paired = _paired(tables[0], table, (names[0], name))
        of_metrics = []
        for metric in chosen:
            where = {"run_a": names[0], "run_b": name, "metric": metric}
            changes = _changes(paired, metric).assign(**where)
            cases.append(changes)
            of_metrics.append([where | row for row in _statistics(paired, changes, metric)])
        rows += [row for of_label in zip(*of_metrics, strict=True) for row in of_label]
    summary = pd.DataFrame(rows)
    summary["p_holm"] = _holm(summary["p"].to_numpy(np.float64))
    every = pd.concat(cases).assign(size=lambda changes: changes["difference"].abs())
    every = every.sort_values(
        ["run_b", "metric", "size", "case_id", "label"],
        ascending=[True, True, False, True, True],
        kind="stable",
        ignore_index=True,
    )
    return Comparison(
        tuple(names),
        summary[list(COLUMNS)],
        every[list(CASE_COLUMNS)],
        tuple(found),
        tuple(tables),
        tuple(line for name, one in zip(names, found, strict=True) for line in _lacks(name, one)),
    )


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Write ``comparison.csv``, ``comparison_cases.csv`` and ``comparison.json`` into a folder."""
    write_text(out / "comparison.csv", csv_text(comparison.summary))
    write_text(out / "comparison_cases.csv", csv_text(comparison.cases))
    content = {
        "format": "voxtile-comparison",
        "format_version": 1,
        "runs": list(comparison.runs),
        "test": "Wilcoxon signed-rank, two-sided, Holm over all rows",
        "rows": records(comparison.summary),
        "cases": records(comparison.cases),
    }
    write_json(out / "comparison.json", content)


def refuse_foreign_comparison(out: Path) -> None:
    """Refuse a folder with files that no comparison wrote; ManifestError with the first file."""
    if not out.is_dir():
        return
    entries = sorted(path for path in out.iterdir() if not is_remainder(path))
    try:
        is_ours = read_object(out / "comparison.json", {}).get("format") == "voxtile-comparison"
    except (OSError, ValueError):
        is_ours = False
    if entries and not is_ours:
        raise ManifestError(
            f"{out} holds files (such as {entries[0].name}), but no comparison (no valid "
            f"comparison.json); {ANOTHER_FOLDER}"
        )


def most_changed(cases: pd.DataFrame, metric: str, count: int = 5) -> list[dict[str, Any]]:
    """Return the cases of a comparison that changed most in one metric, of any label and run."""
    changed = cases[(cases["metric"] == metric) & (cases["difference"] != 0)]
    order = changed["difference"].abs().sort_values(ascending=False, kind="stable").index[:count]
    return records(changed.loc[order])


def _chosen(
    metrics: Sequence[str], tables: Sequence[pd.DataFrame], names: Sequence[str]
) -> list[str]:
    """Return the metrics to compare; refuse those that a report lacks."""
    chosen = list(dict.fromkeys(metrics or _DEFAULT))
    problems = []
    for name, table in zip(names, tables, strict=True):
        known = [metric for metric in metrics_of(table) if column_named(metric).better]
        problems += [
            f"run {name} cannot be compared by {metric!r}; choose from {', '.join(known)}"
            for metric in chosen
            if metric not in known
        ]
    if problems:
        raise ManifestError(problems)
    return chosen


def _lacks(name: str, found: Records) -> Iterator[str]:
    """Yield lines about the missing cases of a run, and about the batch that processes them."""
    if not found.missing:
        return
    yield f"{name}: {found.counts}"
    yield from (f"  {line}" for line in found.lines())
    for holder in holders(RunFolder(found.facts.path.parent)):
        yield f"  {name} is being written by {holder}; its finished cases were compared"


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each run: that of its folder, or its path if two folders share a name."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ManifestError("a run was given twice; compare different runs")
    short = [folder.name for folder in resolved]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _paired(one: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Return the rows of two reports side by side; columns of the second end in ``_b``."""
    labels = [dict(zip(table["label"], table["label_name"], strict=True)) for table in (one, other)]
    differing = [
        f"label {value} is called {name!r} in {names[0]} but {labels[1][value]!r} in {names[1]}; "
        "give it the same name, for example with `voxtile evaluate --labels`"
        for value, name in labels[0].items()
        if value in labels[1] and labels[1][value] != name
    ]
    if differing:
        raise ManifestError(differing)
    paired = one.merge(
        other, on=["case_id", "label", "label_name"], how="outer", suffixes=("_a", "_b")
    )
    if not (paired["status_a"].notna() & paired["status_b"].notna()).any():
        both_names = f"{names[0]} and {names[1]}"
        raise ManifestError(
            f"{both_names} have no case and label in common; compare runs of the same cases"
        )
    same = (paired["voxels_ref_a"] == paired["voxels_ref_b"]).fillna(True).astype(bool)
    return paired.assign(comparable=same).sort_values(["case_id", "label"], ignore_index=True)


def _changes(paired: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the cases and labels that have the metric in both runs, with their difference."""
    names = [f"{metric}_a", f"{metric}_b"]
    used = paired["comparable"] & paired[names].notna().all(axis=1)
    usable = paired.loc[used, ["case_id", *_LABEL, "group_a", "group_b", *names]]
    # Rounded, so that equal changes are ties: in binary 0.8 - 0.7 is not 0.9 - 0.8.
    difference = (usable[f"{metric}_b"] - usable[f"{metric}_a"]).round(12)
    gain = difference if column_named(metric).better == "higher" else -difference
    groups = usable["group_a"].where(usable["group_a"].notna(), usable["group_b"])
    return usable[["case_id", *_LABEL]].assign(
        unit=units(usable["case_id"], groups),
        value_a=usable[f"{metric}_a"],
        value_b=usable[f"{metric}_b"],
        difference=difference,
        outcome=np.select([gain > 0, gain < 0], ["win", "loss"], "tie"),
    )


def _statistics(
    paired: pd.DataFrame, changes: pd.DataFrame, metric: str
) -> Iterator[dict[str, Any]]:
    """Yield the statistics of each label in a metric, sorted by label."""
    has_a, has_b = paired[f"{metric}_a"].notna(), paired[f"{metric}_b"].notna()
    counted = paired[_LABEL].assign(
        n_only_a=has_a & ~has_b,
        n_only_b=has_b & ~has_a,
        n_other_reference=has_a & has_b & ~paired["comparable"],
    )
    places = changes.groupby(_LABEL).indices
    # Arrays, because a data frame for each of many labels is slow.
    values = {name: changes[name].to_numpy() for name in changes}
    for row in counted.groupby(_LABEL, as_index=False).sum().to_dict("records"):
        at = places.get((row["label"], row["label_name"]), _NOWHERE)
        yield row | _of_label({name: column[at] for name, column in values.items()})


def _of_label(changes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the statistics of the changes of one label in one metric."""
    differences = changes["difference"]
    names, unit = np.unique(changes["unit"].astype(str), return_inverse=True)
    low, high = mean_intervals(differences[:, np.newaxis], changes["unit"].tolist())[0]
    of_unit = np.bincount(unit, differences) / np.bincount(unit)
    return {
        "n": len(differences),
        "n_units": len(names),
        "mean_a": _mean(changes["value_a"]),
        "mean_b": _mean(changes["value_b"]),
        "mean_difference": _mean(differences),
        "ci_low": low,
        "ci_high": high,
        "median_difference": float(np.median(differences)) if len(differences) else math.nan,
        "wins": int((changes["outcome"] == "win").sum()),
        "ties": int((changes["outcome"] == "tie").sum()),
        "losses": int((changes["outcome"] == "loss").sum()),
        # Rounded like the changes: if they cancel, their mean may be 1e-17, which gets a rank.
        "p": _signed_rank(of_unit.round(12)),
    }


def _mean(values: np.ndarray) -> float:
    """Return the mean, NaN if there are no values."""
    return float(values.mean()) if values.size else math.nan


def _signed_rank(differences: np.ndarray) -> float:
    """Return the p value of Wilcoxon's signed-rank test; 1 if all are 0, NaN if empty."""
    if not differences.size:
        return float("nan")
    differing = differences[differences != 0]
    return float(wilcoxon(differing).pvalue) if differing.size else 1.0


def _holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected by Holm's step-down method; NaN stays NaN and is not counted."""
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    rising = tested[np.argsort(p[tested], kind="stable")]
    steps = p[rising] * np.arange(len(rising), 0, -1)
    corrected[rising] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
