"""The columns of a report, in one table.

The records of cases, the CSV files, the summaries, the pages and
``docs/metrics.md`` follow this table. To add a metric, compute it in a module of this
folder, add its column at the end of `COLUMNS` and a row to ``docs/metrics.md``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "whole", "real"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``report.csv``.

    Parameters
    ----------
    name : str
        Name in CSV and JSON files.
    title : str
        Name for people, without the unit.
    better : {"higher", "lower"} or None
        Which values are better; None if neither.
    decimals : int or None
        Decimals of a mean in tables for people; None if the column is not
        summarised.
    source : str
        Attribute of `voxtile.scoring.score.Score` that holds the value, such
        as ``surface.hd_mm``; empty if the column is not a metric.
    """

    name: str
    title: str
    kind: Kind = "text"
    unit: str = ""
    better: Better | None = None
    decimals: int | None = None
    source: str = ""

    @property
    def heading(self) -> str:
        """The title with its unit, for tables and pages."""
        return f"{self.title} ({self.unit})" if self.unit in ("ml", "mm", "s") else self.title

    @property
    def of_label(self) -> bool:
        """Whether each label of a case has its own value."""
        return bool(self.source) or self.unit == "0 to 1"

    def allows(self, value: float) -> bool:
        """Whether this metric can have a value; only a difference can be negative."""
        if self.unit == "0 to 1":
            return -_ROUNDING <= value <= 1 + _ROUNDING
        return abs(value) <= _MOST and (value >= 0 or "difference" in self.name)


# Kind, unit, which values are better, decimals.
_SHARE: tuple[Kind, str, Better, int] = ("real", "0 to 1", "higher", 3)
_DISTANCE: tuple[Kind, str, Better, int] = ("real", "mm", "lower", 2)
_VOLUME: tuple[Kind, str, None, int] = ("real", "ml", None, 2)
_RATIO: tuple[Kind, str, None, int] = ("real", "share", None, 3)

# The largest number that any mask can give, in any unit; and the tolerance for rounding.
_MOST = 1e15
_ROUNDING = 1e-9
# The order is that of report.csv and is stable: columns are only ever added, at the end. The
# surface Dice follows, a column for each tolerance, and then the extra columns of the manifest.
COLUMNS = (
    Column("case_id", "case"),
    Column("label", "label", "whole"),
    Column("label_name", "label name"),
    Column("status", "status"),
    Column("dice", "Dice", *_SHARE, "overlap.dice"),
    Column("iou", "IoU", *_SHARE, "overlap.iou"),
    Column("tp", "TP", "whole", "voxels", source="overlap.tp"),
    Column("fp", "FP", "whole", "voxels", "lower", source="overlap.fp"),
    Column("fn", "FN", "whole", "voxels", "lower", source="overlap.fn"),
    Column("voxels_pred", "predicted voxels", "whole", "voxels", source="overlap.voxels_pred"),
    Column("voxels_ref", "reference voxels", "whole", "voxels", source="overlap.voxels_ref"),
    Column("volume_ml_pred", "predicted volume", *_VOLUME, "volume_ml_pred"),
    Column("volume_ml_ref", "reference volume", *_VOLUME, "volume_ml_ref"),
    Column("seconds", "duration", "real", "s", "lower"),
    Column("reason", "reason"),
    Column("warnings", "warnings"),
    Column("split", "split"),
    Column("group", "group"),
    Column("precision", "precision", *_SHARE, "overlap.precision"),
    Column("sensitivity", "sensitivity", *_SHARE, "overlap.sensitivity"),
    Column("volume_difference_ml", "volume difference", *_VOLUME, "volume_difference_ml"),
    Column("volume_difference_rel", "relative volume difference", *_RATIO, "volume_difference_rel"),
    Column("hd_mm", "HD", *_DISTANCE, "surface.hd_mm"),
    Column("hd95_mm", "HD95", *_DISTANCE, "surface.hd95_mm"),
    Column("assd_mm", "ASSD", *_DISTANCE, "surface.assd_mm"),
    Column("components_pred", "predicted components", "whole", "count", None, 1, "components_pred"),
    Column("components_ref", "reference components", "whole", "count", None, 1, "components_ref"),
    Column("lesions_detected", "lesions detected", "whole", "count", source="lesions.detected"),
    Column("lesions_missed", "lesions missed", "whole", "count", "lower", source="lesions.missed"),
    Column("lesions_false", "false lesions", "whole", "count", "lower", source="lesions.false"),
    Column("lesion_sensitivity", "lesion sensitivity", *_SHARE, "lesions.sensitivity"),
    Column("lesion_precision", "lesion precision", *_SHARE, "lesions.precision"),
    Column("lesion_f1", "lesion F1", *_SHARE, "lesions.f1"),
    Column("qc_flags", "QC flags"),
    Column("qc_rank", "QC rank", "whole", better="higher"),
    Column("dice_predicted", "predicted Dice", "real", "0 to 1", "higher"),
    Column("dice_lower", "lower bound of Dice", "real", "0 to 1", "higher"),
    Column("verdict", "verdict"),
    Column("verdict_reasons", "reasons to look"),
    Column("lesions_matched", "matched lesions", "whole", "count", source="matched.matched"),
    Column("lesions_unmatched", "unmatched", "whole", "count", "lower", source="matched.missed"),
    Column("lesions_extra", "extra lesions", "whole", "count", "lower", source="matched.false"),
    Column("lesion_dice", "Dice of matched lesions", *_SHARE, "matched.dice"),
    Column("lesion_hd95_mm", "HD95 of matched lesions", *_DISTANCE, "matched.hd95_mm"),
    Column("lesionwise_dice", "lesion-wise Dice", *_SHARE, "matched.lesionwise_dice"),
)
# Parts of a `Score` that are measured on request.
_REQUESTED = ("lesions", "matched", "area")
_AREA = "nsd_area_"
METRICS = tuple(column for column in COLUMNS if column.source)
_BY_NAME = {column.name: column for column in COLUMNS}


def is_column(name: str) -> bool:
    """Whether a report has a column of this name, or the surface Dice at any tolerance.

    A manifest may not have such a column, whichever tolerances are measured,
    because the summary would treat its values as a metric.
    """
    return name in _BY_NAME or nsd_tolerance(name) is not None


def column_named(name: str) -> Column:
    """Return the column of a name; an unknown name is an extra text column of the manifest.

    Examples
    --------
    >>> column_named("hd95_mm").heading, column_named("nsd_0.5mm").heading
    ('HD95 (mm)', 'NSD at 0.5 mm')
    """
    tolerance = nsd_tolerance(name)
    if tolerance is not None:
        heading = f"NSD at {tolerance:g} mm"
        if name.startswith(_AREA):
            return Column(name, f"area-weighted {heading}", *_SHARE, "area.nsd")
        return Column(name, heading, *_SHARE, "surface.nsd")
    return _BY_NAME.get(name) or Column(name, name.replace("_", " "))


def metrics_of(table: "pd.DataFrame") -> list[str]:
    """Return the metrics that a report summarises; lesion metrics only if they were measured."""
    return [
        column.name
        for column in map(column_named, table.columns)
        if column.decimals is not None
        and (column.source.partition(".")[0] not in _REQUESTED or table[column.name].notna().any())
    ]


def nsd_column(tolerance_mm: float) -> str:
    """Return the name of the column of the surface Dice at a tolerance.

    Examples
    --------
    >>> nsd_column(2.0), nsd_column(0.5)
    ('nsd_2mm', 'nsd_0.5mm')
    """
    return f"nsd_{tolerance_mm:g}mm"


def area_column(tolerance_mm: float) -> str:
    """Return the name of the column of the area-weighted surface Dice at a tolerance."""
    return f"{_AREA}{tolerance_mm:g}mm"


def nsd_order(name: str) -> tuple[bool, float]:
    """Return where a column of the surface Dice stands among them."""
    return name.startswith(_AREA), nsd_tolerance(name) or 0.0


def nsd_tolerance(name: str) -> float | None:
    """Return the tolerance, in mm, of a column of the surface Dice; None for any other column."""
    start = _AREA if name.startswith(_AREA) else "nsd_"
    if not (name.startswith(start) and name.endswith("mm")):
        return None
    try:
        return float(name[len(start) : -2])
    except ValueError:
        return None
