"""The metrics of a report: how people call them, and which way is better.

Their definitions are in ``docs/metrics.md``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Better = Literal["higher", "lower"]

# Stable: columns are only ever added, after these. The surface Dice follows, a column for each
# tolerance asked for, and manifest extras come last.
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
    "precision",
    "sensitivity",
    "volume_difference_ml",
    "volume_difference_rel",
    "hd_mm",
    "hd95_mm",
    "assd_mm",
    "components_pred",
    "components_ref",
    "lesions_detected",
    "lesions_missed",
    "lesions_false",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
    "qc_flags",
    "qc_rank",
)


@dataclass(frozen=True, slots=True)
class _Metric:
    """A column that is summarised."""

    title: str
    better: Better | None
    decimals: int


_METRICS = {
    "dice": _Metric("Dice", "higher", 3),
    "iou": _Metric("IoU", "higher", 3),
    "volume_ml_pred": _Metric("predicted volume (ml)", None, 2),
    "volume_ml_ref": _Metric("reference volume (ml)", None, 2),
    "precision": _Metric("precision", "higher", 3),
    "sensitivity": _Metric("sensitivity", "higher", 3),
    "volume_difference_ml": _Metric("volume difference (ml)", None, 2),
    "volume_difference_rel": _Metric("relative volume difference", None, 3),
    "hd_mm": _Metric("HD (mm)", "lower", 2),
    "hd95_mm": _Metric("HD95 (mm)", "lower", 2),
    "assd_mm": _Metric("ASSD (mm)", "lower", 2),
    "components_pred": _Metric("predicted components", None, 1),
    "components_ref": _Metric("reference components", None, 1),
    "lesion_sensitivity": _Metric("lesion sensitivity", "higher", 3),
    "lesion_precision": _Metric("lesion precision", "higher", 3),
    "lesion_f1": _Metric("lesion F1", "higher", 3),
}


def is_column(name: str) -> bool:
    """Whether a name is one of the report's: of `COLUMNS`, or the surface Dice at any tolerance.

    A manifest may not have it, whatever tolerances are asked for: the summary
    would take what it says for a metric.
    """
    return name in COLUMNS or is_nsd_column(name)


def metrics_of(table: "pd.DataFrame") -> list[str]:
    """Return the metrics that a report has; those of lesions only where they were asked for."""
    asked = [name for name in table.columns if name in _METRICS or is_nsd_column(name)]
    order = {name: place for place, name in enumerate(_METRICS)}
    present = [
        name for name in asked if not name.startswith("lesion_") or table[name].notna().any()
    ]
    return sorted(present, key=lambda name: order.get(name, len(order)))


def title(metric: str) -> str:
    """Return the name of a metric for people.

    Examples
    --------
    >>> title("hd95_mm"), title("nsd_2mm")
    ('HD95 (mm)', 'NSD at 2 mm')
    """
    tolerance = _tolerance(metric)
    return _METRICS[metric].title if tolerance is None else f"NSD at {tolerance:g} mm"


def better(metric: str) -> Better | None:
    """Return whether more or less is better; None where neither is."""
    return "higher" if is_nsd_column(metric) else _METRICS[metric].better


def decimals(metric: str) -> int:
    """Return how many decimals a table for people shows."""
    return 3 if is_nsd_column(metric) else _METRICS[metric].decimals


def nsd_column(tolerance_mm: float) -> str:
    """Return the column of the surface Dice at a tolerance.

    Examples
    --------
    >>> nsd_column(2.0), nsd_column(0.5)
    ('nsd_2mm', 'nsd_0.5mm')
    """
    return f"nsd_{tolerance_mm:g}mm"


def is_nsd_column(name: str) -> bool:
    """Whether a name is that of the surface Dice at some tolerance."""
    return _tolerance(name) is not None


def nsd_tolerance(column: str) -> float:
    """Return the tolerance, in mm, of a column of the surface Dice.

    Raises
    ------
    ValueError
        If it is another column.
    """
    tolerance = _tolerance(column)
    if tolerance is None:
        raise ValueError(f"{column!r} is not a column of the surface Dice")
    return tolerance


def _tolerance(column: str) -> float | None:
    """Return the tolerance of a column of the surface Dice, None for any other."""
    if not (column.startswith("nsd_") and column.endswith("mm")):
        return None
    try:
        return float(column[4:-2])
    except ValueError:
        return None
