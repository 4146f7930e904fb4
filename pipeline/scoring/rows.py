"""The metrics of one label of one case: a row of ``report.csv``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxtile.models.spec import Label
from voxtile.volume import Volume

from .columns import METRICS, nsd_column
from .score import Measures, Score, count_components, score

_NAMES = frozenset(metric.name for metric in METRICS)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """The metrics of one label of one case.

    Every metric of `voxtile.scoring.columns` is also an attribute, such as
    ``row.dice``; it is None if it was not measured.

    Parameters
    ----------
    status : str
        "ok", "both_empty", "pred_empty", "ref_empty", "no_reference" or "failed".
    metrics : mapping of str to number
        By the name of the column.
    nsd : mapping of str to number
        The surface Dice by the name of its column; None if it was not measured.
    """

    label: int
    label_name: str
    status: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    nsd: Mapping[str, float | None] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"a row of a label has no metric {name!r}")
        return self.metrics.get(name)

    def record(self) -> dict[str, Any]:
        """Return the row as ``cases/<case_id>.json`` has it."""
        return {
            "label": self.label,
            "label_name": self.label_name,
            "status": self.status,
            **{metric.name: self.metrics.get(metric.name) for metric in METRICS},
            "nsd": dict(self.nsd),
        }


def row_of_record(record: Mapping[str, Any]) -> LabelRow:
    """Return the row that a record was made from.

    Raises
    ------
    TypeError
        If the record has an unknown key, or lacks the label or its status.
    """
    others = {name: value for name, value in record.items() if name not in _NAMES}
    return LabelRow(metrics={name: record[name] for name in record if name in _NAMES}, **others)


def scored_row(measured: Score, measures: Measures) -> LabelRow:
    """Return the row of a label that has a reference."""
    return LabelRow(
        measured.label,
        measured.label_name,
        measured.overlap.status,
        {metric.name: _value(measured, metric.source) for metric in METRICS},
        {nsd_column(limit): measured.surface.nsd(limit) for limit in measures.nsd_mm},
    )


def _value(measured: Any, source: str) -> Any:
    """Return the value at a dotted name; None if a part of it was not measured."""
    for name in source.split("."):
        if measured is None:
            return None
        measured = getattr(measured, name)
    return measured


def label_rows(
    mask: Volume, reference: Volume | None, labels: Sequence[Label], measures: Measures
) -> tuple[LabelRow, ...]:
    """Measure a mask, against a reference if there is one; return the row of each label."""
    if reference is not None:
        scores = score(mask, reference, labels, measures=measures)
        return tuple(scored_row(measured, measures) for measured in scores)
    return tuple(
        LabelRow(
            label.value,
            label.name,
            "no_reference",
            {
                "voxels_pred": voxels,
                "volume_ml_pred": voxels * mask.voxel_volume_ml,
                "components_pred": components,
            },
            dict.fromkeys(measures.columns),
        )
        for label, (voxels, components) in zip(labels, count_components(mask, labels), strict=True)
    )
