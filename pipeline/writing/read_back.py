"""Read a written mask back and compare it, because only a checked file can be trusted."""

from pathlib import Path
from typing import Any

from voxtile.errors import CaseError
from voxtile.reading.nifti import compare_nifti
from voxtile.volume import Volume, grid_difference, is_sheared


def check_written(path: Path, mask: Volume) -> dict[str, Any]:
    """Return the grid of a written mask, with a "check": how it differs from the mask in memory.

    CaseError if grid or voxels differ: the file cannot be trusted.
    """
    scan, same_voxels = compare_nifti(path, mask.array)
    written = scan.volume
    difference = grid_difference(mask.shape, written.affine, mask.affine)
    consistent = not any(notice.code == "form_conflict" for notice in scan.notices)
    if difference or not same_voxels or not consistent:
        raise CaseError(
            "mask_check",
            f"the written mask differs from the computed one (shape {written.shape} instead of "
            f"{mask.shape}, {difference.position_mm:.3g} mm apart); check the disk",
        )
    return {
        "shape": list(mask.shape),
        "spacing_mm": list(mask.spacing_mm),
        "orientation": mask.orientation,
        "affine": mask.affine.tolist(),
        "sheared": is_sheared(mask.affine),
        "codes": {"sform": mask.codes[0], "qform": mask.codes[1]},
        "check": {
            "position_mm": difference.position_mm,
            "direction": difference.direction,
            "voxels_equal": same_voxels,
        },
    }
