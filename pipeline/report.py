"""From case reports to CSV: one row per case and label, and a summary per label.

The JSON of each case is the truth; both CSVs are derived from them and can be
made again at any time.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from voxtile.models.spec import Label

from .case import Case
from .files import write_text
from .metrics import Overlap
from .scan import Notice

# Stable: columns are only ever added, after these; manifest extras come last.
COLUMNS = (
    "case_id",
    "label",
    "label_name",
    "status",
    "dice",
    "iou",
    "tp",
    "fp",
    "fn",
    "voxels_pred",
    "voxels_ref",
    "volume_ml_pred",
    "volume_ml_ref",
    "seconds",
    "reason",
    "warnings",
    "split",
    "group",
)
_WHOLE = ("label", "tp", "fp", "fn", "voxels_pred", "voxels_ref")
_SUMMARISED = ("dice", "iou", "volume_ml_pred", "volume_ml_ref")
# For these a larger value is no better, so there is no worst case.
_UNRANKED = ("volume_ml_pred", "volume_ml_ref")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What is known of one label of one case; None where there is nothing to know."""

    label: int
    label_name: str
    status: str
    dice: float | None = None
    iou: float | None = None
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None
    voxels_pred: int | None = None
    voxels_ref: int | None = None
    volume_ml_pred: float | None = None
    volume_ml_ref: float | None = None


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
        File and SHA-256; empty without a mask.
    timings_s : dict of str to float
        Seconds of each stage.
    seconds : float
        Of the whole case.
    peak_memory_mb : float or None
    split, group : str or None
    extras : dict of str to str
        Further columns of the manifest.
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

    def dump(self) -> str:
        """Return the report as JSON text; numbers that are not finite become null."""
        return json.dumps(_plain(self), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def rows(self) -> list[dict[str, Any]]:
        """Return the CSV rows of the case."""
        common = {
            "seconds": round(self.seconds, 3),
            "reason": "" if self.reason is None else str(self.reason),
            "warnings": "; ".join(map(str, self.warnings)),
            "split": self.split,
            "group": self.group,
            **self.extras,
        }
        return [{"case_id": self.case_id, **_plain(label), **common} for label in self.labels]


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


def scored_row(label: Label, overlap: Overlap, voxel_volume_ml: float) -> LabelRow:
    """Return the row of a label that has a reference."""
    return LabelRow(
        label=label.value,
        label_name=label.name,
        status=overlap.status,
        dice=overlap.dice,
        iou=overlap.iou,
        tp=overlap.tp,
        fp=overlap.fp,
        fn=overlap.fn,
        voxels_pred=overlap.voxels_pred,
        voxels_ref=overlap.voxels_ref,
        volume_ml_pred=overlap.voxels_pred * voxel_volume_ml,
        volume_ml_ref=overlap.voxels_ref * voxel_volume_ml,
    )


def unscored_row(label: Label, voxels: int, voxel_volume_ml: float) -> LabelRow:
    """Return the row of a label without a reference."""
    return LabelRow(
        label=label.value,
        label_name=label.name,
        status="no_reference",
        voxels_pred=voxels,
        volume_ml_pred=voxels * voxel_volume_ml,
    )


def failed_report(
    case: Case,
    labels: Iterable[Label],
    reason: Notice,
    *,
    warnings: Iterable[Notice] = (),
    fingerprint: str = "",
    timings_s: dict[str, float] | None = None,
    seconds: float = 0.0,
    peak_memory_mb: float | None = None,
) -> CaseReport:
    """Return the report of a case that failed: it stays visible in every count."""
    return CaseReport(
        case_id=case.case_id,
        status="failed",
        reason=reason,
        warnings=tuple(warnings),
        fingerprint=fingerprint,
        labels=tuple(LabelRow(label.value, label.name, "failed") for label in labels),
        geometry={},
        mask={},
        timings_s=timings_s or {},
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        split=case.split,
        group=case.group,
        extras=dict(case.extras),
    )


def report_table(reports: Iterable[CaseReport]) -> pd.DataFrame:
    """Return the rows of ``report.csv``, in the order of the reports."""
    rows = [row for report in reports for row in report.rows()]
    extras = list(dict.fromkeys(name for row in rows for name in row if name not in COLUMNS))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *extras])
    for column in _WHOLE:
        table[column] = table[column].astype("Int64")
    for column in ("dice", "iou", "volume_ml_pred", "volume_ml_ref"):
        table[column] = table[column].astype("float64")
    return table


def summary_table(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a report by label and metric.

    Parameters
    ----------
    table : DataFrame
        From `report_table`.

    Returns
    -------
    DataFrame
        Columns label, label_name, metric, n (cases), n_used (cases with a
        value), n_failed, mean, sd (n - 1), median, q1, q3, worst, worst_case.
        NaN (both masks empty, no reference, failed) is left out of the
        statistics and seen as ``n - n_used``.
    """
    rows = []
    for (value, name), of_label in table.groupby(["label", "label_name"], sort=False):
        for metric in _SUMMARISED:
            used = of_label.dropna(subset=[metric])
            numbers = used[metric]
            ranked = not used.empty and metric not in _UNRANKED
            # Of equally bad cases the first by id, so that the order of rows does not matter.
            worst = used.sort_values([metric, "case_id"]).iloc[0] if ranked else None
            rows.append(
                {
                    "label": value,
                    "label_name": name,
                    "metric": metric,
                    "n": len(of_label),
                    "n_used": len(used),
                    "n_failed": int((of_label["status"] == "failed").sum()),
                    # fsum is exact, so the mean does not depend on the order either.
                    "mean": math.fsum(numbers) / len(used) if len(used) else math.nan,
                    "sd": _deviation(numbers.tolist()),
                    "median": numbers.median(),
                    "q1": numbers.quantile(0.25),
                    "q3": numbers.quantile(0.75),
                    "worst": None if worst is None else worst[metric],
                    "worst_case": None if worst is None else worst["case_id"],
                }
            )
    return pd.DataFrame(rows, columns=list(_SUMMARY_COLUMNS))


_SUMMARY_COLUMNS = (
    "label",
    "label_name",
    "metric",
    "n",
    "n_used",
    "n_failed",
    "mean",
    "sd",
    "median",
    "q1",
    "q3",
    "worst",
    "worst_case",
)


def write_reports(out: Path, reports: Iterable[CaseReport]) -> pd.DataFrame:
    """Write ``report.csv`` and ``summary.csv`` into a run folder; return the summary."""
    table = report_table(reports)
    write_text(out / "report.csv", csv_text(table))
    summary = summary_table(table)
    write_text(out / "summary.csv", csv_text(summary))
    return summary


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


def _deviation(numbers: Sequence[float]) -> float:
    """Return the sample standard deviation, independent of order; NaN below two numbers."""
    if len(numbers) < 2:
        return math.nan
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1))


def _plain(value: Any) -> Any:
    """Return dataclasses as dicts, NaN as None, down to JSON values."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
