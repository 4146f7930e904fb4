"""Read a scan, and write it as one NIfTI file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.reading.channels import read_scan
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.protection import Input, protect
from voxtile.volume import Volume, grid_difference, is_sheared
from voxtile.writing.nifti import write_volume


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What was read and written: the volume in the storage order of the source, and warnings."""

    volume: Volume
    notices: tuple[Notice, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return a description for programs; `values` are the smallest and the largest."""
        array = self.volume.array
        return {
            "shape": self.volume.shape,
            "spacing_mm": self.volume.spacing_mm,
            "orientation": self.volume.orientation,
            "type": array.dtype.name,
            "values": (float(array.min()), float(array.max())),
        }

    def lines(self) -> tuple[str, ...]:
        """Return the same for people."""
        facts = self.facts()
        low, high = facts["values"]
        return (
            f"shape: {' x '.join(map(str, facts['shape']))}",
            f"spacing: {' x '.join(f'{value:.5g}' for value in facts['spacing_mm'])} mm",
            f"orientation: {facts['orientation']}",
            f"type: {facts['type']}",
            f"values: {low:.6g} to {high:.6g}",
        )


def convert(source: Path, out: Path, policy: ReadPolicy | None = None) -> Converted:
    """Read a scan and write its voxels and position, and nothing else, as NIfTI.

    `source` is a NIfTI file, DICOM file, folder or DICOMDIR. `out` ends in ``.nii.gz`` or ``.nii``
    and is replaced if it exists. The file is read back and compared. CaseError if the source is not
    exactly one volume (nothing is written), or the written file differs from what was read;
    ManifestError if `out` is the source, or inside its folder; EnvironmentFault if `out` cannot be
    written.
    """
    protect([Input("the scan", source)], out, advice="name another file")
    scan = read_scan(source, policy)
    volume = scan.volume
    if volume.array.ndim == 4:
        raise CaseError(
            "colour",
            f"the picture has channels {', '.join(scan.channels)}, but a NIfTI file has one; use "
            "the picture itself, or save it as grey",
        )
    write_volume(out, volume)
    written = read_nifti(out).volume
    difference = grid_difference(volume.shape, volume.affine, written.affine)
    same = written.shape == volume.shape and np.array_equal(written.array, volume.array)
    # The header stores float32, which is not more exact if a volume is far from the origin.
    if not same or difference.position_mm > 0.01:
        raise CaseError(
            "volume_check",
            f"{out.name} differs from what was read (positions by {difference.position_mm:.3g} "
            "mm); check the disk",
        )
    notices = scan.notices
    if is_sheared(volume.affine) and not any(note.code == "gantry_tilt" for note in notices):
        notices = (
            *notices,
            Notice(
                "sheared", "the grid is sheared; programs that ignore the sform show it wrongly"
            ),
        )
    return Converted(volume, notices)
