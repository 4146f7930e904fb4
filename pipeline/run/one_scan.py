"""One scan, without a manifest."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxtile.engines import Wish, choose_engine
from voxtile.errors import CaseError, ManifestError, Notice
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.segmenter import load_segmenter, make_plans
from voxtile.models.bundle import load_bundle
from voxtile.models.quality import read_quality
from voxtile.models.thresholds import changed_thresholds, with_thresholds
from voxtile.preparation.plan import PlanWish
from voxtile.reading.channels import constant_channels, read_scan
from voxtile.reading.nifti import compare_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.report.qc import inspect_case
from voxtile.report.quality import NO_DICE, OTHER_THRESHOLDS, DicePrediction, predict_dice
from voxtile.report.verdict import Verdict, judge_record
from voxtile.run_folder.case_report import plain
from voxtile.run_folder.protection import Input, protect
from voxtile.scoring.rows import LabelRow, label_rows
from voxtile.scoring.score import Measures
from voxtile.volume import Volume, grid_difference
from voxtile.writing.nifti import write_mask, write_volume
from voxtile.writing.read_back import check_written


@dataclass(frozen=True, slots=True)
class Segmented:
    """The labels of a mask, warnings about its scan, and whether the mask can be used."""

    rows: tuple[LabelRow, ...]
    notices: tuple[Notice, ...]
    verdict: Verdict
    dice: tuple[DicePrediction, ...]  # empty if the model has no calibration
    no_dice: str = NO_DICE  # why `dice` is empty, for people


def segment_file(
    image: Path,
    model: str,
    out: Path,
    *,
    policy: ReadPolicy,
    plan: PlanWish | None = None,
    engine: Wish | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Segmented:
    """Segment one scan into one mask file.

    `image` is a NIfTI file or DICOM folder with one channel. `out` ends in ``.nii.gz`` or ``.nii``
    and is replaced if it exists. If no source file has the grid of the mask, the scan on this grid
    is written too, as ``<out>_image``. `thresholds` are those of `RunSettings`. CaseError if the
    scan is not exactly one volume; then nothing is written. ModelError if the bundle is refused.
    ManifestError if the mask or its image would replace the scan, or become a part of its folder
    or of the model, or if the image would replace another file.
    """
    own = load_bundle(model)
    bundle = with_thresholds(own, thresholds or {})
    changed = changed_thresholds(own, bundle)
    quality = None if changed else read_quality(bundle)
    stem, _, ending = out.name.lower().partition(".nii")
    image_path = out.with_name(f"{out.name[: len(stem)]}_image.nii{ending}")
    inputs = [Input("the scan", image)]
    inputs += [Input("the model", member.folder) for member in bundle.members]
    protect(inputs, out, advice="name another file")
    plans = make_plans(bundle, plan or PlanWish())
    # Read first, because choosing an engine may convert the networks, which takes a minute.
    scan = read_scan(image, policy)
    chosen = choose_engine(own, engine)
    if scan.regridded:
        protect(inputs, image_path, advice="name another file")
        _refuse_other(image_path, scan.volume)
    segmenter = load_segmenter(bundle, plans, chosen, scratch=out.parent)
    spec = bundle.spec
    entropy = EntropyWatch(spec.activation, spec.thresholds)
    mask = segmenter(scan.volume, entropy)
    write_mask(out, mask)
    constant = constant_channels(scan.volume, spec.channels)
    notices = (*scan.notices, *constant, *segmenter.notices())
    if scan.regridded:
        write_volume(image_path, scan.volume)
        sentence = f"the mask has a new grid; the image on this grid is {image_path.name}"
        notices = (*notices, Notice("image_written", sentence))
    check_written(out, mask)
    rows = label_rows(mask, None, spec.labels, Measures())
    dice = predict_dice(quality, spec.labels, entropy.expected_dice)
    qc = inspect_case(
        mask, spec.labels, rows, image=scan.volume, spec=spec, entropy=entropy.mean, dice=dice
    )
    record = {"status": "done", "labels": plain(rows), "warnings": plain(notices), "qc": qc}
    no_dice = OTHER_THRESHOLDS if changed else NO_DICE
    return Segmented(rows, notices, judge_record(record), dice, no_dice)


def _refuse_other(path: Path, image: Volume) -> None:
    """Refuse to replace a file that is not this image, written by an earlier call."""
    if not os.path.lexists(path):
        return
    try:
        written, same = compare_nifti(path, image.array)
    except CaseError:
        same = False
    if not same or grid_difference(image.shape, written.volume.affine, image.affine):
        raise ManifestError(
            [
                f"{path} would be replaced by the image on the grid of the mask, but is another "
                "file; move it away, or name another mask"
            ]
        )
