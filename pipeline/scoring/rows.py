"""The metrics of one label of one case: a row of ``report.csv`` and of the case's record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from voxtile.models.spec import Label
from voxtile.volume import Volume

from .columns import nsd_column
from .score import Measures, Score, count_components, score


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What is known of one label of one case; None where there is nothing to know.

    `nsd` holds the surface Dice by the name of its column. What the columns
    mean is in ``docs/metrics.md``.
    """

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
    precision: float | None = None
    sensitivity: float | None = None
    volume_difference_ml: float | None = None
    volume_difference_rel: float | None = None
    hd_mm: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    components_pred: int | None = None
    components_ref: int | None = None
    lesions_detected: int | None = None
    lesions_missed: int | None = None
    lesions_false: int | None = None
    lesion_sensitivity: float | None = None
    lesion_precision: float | None = None
    lesion_f1: float | None = None
    nsd: dict[str, float | None] = field(default_factory=dict)


def scored_row(measured: Score, measures: Measures) -> LabelRow:
    """Return the row of a label that has a reference."""
    overlap, surface, lesions = measured.overlap, measured.surface, measured.lesions
    return LabelRow(
        label=measured.label,
        label_name=measured.label_name,
        status=overlap.status,
        dice=overlap.dice,
        iou=overlap.iou,
        tp=overlap.tp,
        fp=overlap.fp,
        fn=overlap.fn,
        voxels_pred=overlap.voxels_pred,
        voxels_ref=overlap.voxels_ref,
        volume_ml_pred=overlap.voxels_pred * measured.voxel_volume_ml,
        volume_ml_ref=overlap.voxels_ref * measured.voxel_volume_ml,
        precision=overlap.precision,
        sensitivity=overlap.sensitivity,
        volume_difference_ml=measured.volume_difference_ml,
        volume_difference_rel=measured.volume_difference_rel,
        hd_mm=surface.hd_mm,
        hd95_mm=surface.hd95_mm,
        assd_mm=surface.assd_mm,
        components_pred=measured.components_pred,
        components_ref=measured.components_ref,
        lesions_detected=None if lesions is None else lesions.detected,
        lesions_missed=None if lesions is None else lesions.missed,
        lesions_false=None if lesions is None else lesions.false,
        lesion_sensitivity=None if lesions is None else lesions.sensitivity,
        lesion_precision=None if lesions is None else lesions.precision,
        lesion_f1=None if lesions is None else lesions.f1,
        nsd={nsd_column(tolerance): surface.nsd(tolerance) for tolerance in measures.nsd_mm},
    )


def label_rows(
    mask: Volume, reference: Volume | None, labels: Sequence[Label], measures: Measures
) -> tuple[LabelRow, ...]:
    """Measure a mask, against a reference where there is one; return the row of each label."""
    if reference is not None:
        scores = score(mask, reference, labels, measures=measures)
        return tuple(scored_row(one, measures) for one in scores)
    counted = count_components(mask, labels)
    return tuple(
        LabelRow(
            label=label.value,
            label_name=label.name,
            status="no_reference",
            voxels_pred=voxels,
            volume_ml_pred=voxels * mask.voxel_volume_ml,
            components_pred=components,
            nsd=dict.fromkeys(measures.columns),
        )
        for label, (voxels, components) in zip(labels, counted, strict=True)
    )
