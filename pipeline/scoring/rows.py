"""The metrics of one label of one case: a row of ``report.csv``."""

from collections.abc import Sequence
from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Any

from voxtile.models.spec import Label
from voxtile.volume import Volume

from .columns import METRICS, area_column, nsd_column
from .lesions import Lesion
from .score import Measures, Score, count_components, score

if TYPE_CHECKING:

    class LabelRow:
        """The metrics of one label; a metric that was not measured is None.

        Every metric of `voxtile.scoring.columns` is an attribute, such as
        ``row.dice``. `nsd` holds the surface Dice by the name of its column, and `lesions`
        each lesion, if they were matched one by one.
        `status` is "ok", "both_empty", "pred_empty", "ref_empty",
        "no_reference" or "failed".
        """

        label: int
        label_name: str
        status: str
        nsd: dict[str, float | None]
        lesions: tuple[Lesion, ...]

        def __init__(self, label: int, label_name: str, status: str, **metrics: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

else:
    # A dataclass with a field for each metric of the table, in its order.
    LabelRow = make_dataclass(
        "LabelRow",
        [
            ("label", int),
            ("label_name", str),
            ("status", str),
            *(
                (metric.name, (int if metric.kind == "whole" else float) | None, None)
                for metric in METRICS
            ),
            ("nsd", dict[str, float | None], field(default_factory=dict)),
            ("lesions", tuple[Lesion, ...], ()),
        ],
        namespace={"__module__": __name__},
        frozen=True,
        slots=True,
    )


def scored_row(measured: Score, measures: Measures) -> LabelRow:
    """Return the row of a label that has a reference."""
    nsd = {nsd_column(limit): measured.surface.nsd(limit) for limit in measures.nsd_mm}
    if measured.area is not None:
        nsd |= {area_column(limit): measured.area.nsd(limit) for limit in measures.nsd_mm}
    return LabelRow(
        measured.label,
        measured.label_name,
        measured.overlap.status,
        **{metric.name: _value(measured, metric.source) for metric in METRICS},
        nsd=nsd,
        lesions=measured.matched.each if measured.matched else (),
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
            voxels_pred=voxels,
            volume_ml_pred=voxels * mask.voxel_volume_ml,
            components_pred=components,
            nsd=dict.fromkeys(measures.columns),
        )
        for label, (voxels, components) in zip(labels, count_components(mask, labels), strict=True)
    )
