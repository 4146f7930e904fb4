"""One scan, without a manifest."""

from pathlib import Path

from voxtile.models.bundle import load_bundle

from .engine import load_models
from .inference import infer
from .nifti import write_mask, write_volume
from .plan import make_plan
from .reading import read_scan
from .report import LabelRow, label_rows
from .scan import Notice, ReadPolicy
from .scoring import Measures
from .verification import check_written


def segment_file(
    image: Path,
    model: str,
    out: Path,
    *,
    policy: ReadPolicy,
    tile: tuple[int, int] | None = None,
    overlap: float | None = None,
    batch: int | None = None,
) -> tuple[tuple[LabelRow, ...], tuple[Notice, ...]]:
    """Segment one scan into one mask file.

    Parameters
    ----------
    image : Path
        NIfTI file or DICOM folder, one channel.
    model : str
        Name of a shipped bundle, or a folder.
    out : Path
        ``.nii.gz`` or ``.nii``.
    policy : ReadPolicy
    tile, overlap, batch
        As in `voxtile.plan.make_plan`.

    Returns
    -------
    rows : tuple of LabelRow
        Voxels and volume of each label.
    notices : tuple of Notice

    Raises
    ------
    CaseError
        If the scan is not exactly one volume; nothing is written.
    ModelError
        If the bundle is refused.
    """
    bundle = load_bundle(model)
    plan = make_plan(bundle.spec, tile=tile, overlap=overlap, batch=batch)
    scan = read_scan(image, policy)
    mask = infer(scan.volume, bundle.spec, load_models(bundle, plan), plan)
    write_mask(out, mask)
    notices = scan.notices
    if scan.regridded:
        stem, _, ending = out.name.lower().partition(".nii")
        image_path = out.with_name(f"{out.name[: len(stem)]}_image.nii{ending}")
        write_volume(image_path, scan.volume)
        notices = (
            *notices,
            Notice("image_written", f"the mask lies on a new grid; its image is {image_path.name}"),
        )
    check_written(out, mask)
    return label_rows(mask, None, bundle.spec.labels, Measures()), notices
