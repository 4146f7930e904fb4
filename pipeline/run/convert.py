"""The reader alone: any scan that can be read, as one NIfTI file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.machine.files import refuse_source
from voxtile.reading.channels import read_scan
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume, grid_difference, is_sheared
from voxtile.writing.nifti import write_volume


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What was read and written.

    Parameters
    ----------
    volume : Volume
        In the storage order of the source, as in the file.
    lowest, highest : float
        Of its voxels.
    notices : tuple of Notice
        What was noticed on reading.
    """

    volume: Volume
    lowest: float
    highest: float
    notices: tuple[Notice, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """Return what was found, for people."""
        i, j, k = self.volume.shape
        spacing = " x ".join(f"{value:.5g}" for value in self.volume.spacing_mm)
        return (
            f"shape: {i} x {j} x {k}",
            f"spacing: {spacing} mm",
            f"orientation: {self.volume.orientation}",
            f"type: {self.volume.array.dtype.name}",
            f"values: {self.lowest:.6g} to {self.highest:.6g}",
        )


def convert(source: Path, out: Path, policy: ReadPolicy | None = None) -> Converted:
    """Read a scan and write it as NIfTI, with nothing of the source but voxels and place.

    Parameters
    ----------
    source : Path
        NIfTI file, DICOM file, folder or DICOMDIR.
    out : Path
        ``.nii.gz`` or ``.nii``; replaced where it exists. Read back and compared.
    policy : ReadPolicy, optional

    Raises
    ------
    CaseError
        If the source is not exactly one volume, and nothing is written; or
        if what was written differs from what was read.
    ValueError
        If `out` is the source.
    EnvironmentFault
        If the disk refuses.
    """
    refuse_source(source, out)
    scan = read_scan(source, policy)
    volume = scan.volume
    write_volume(out, volume)
    written = read_nifti(out).volume
    difference = grid_difference(volume.shape, volume.affine, written.affine)
    same = written.shape == volume.shape and np.array_equal(written.array, volume.array)
    # float32, as the header has it, is no finer for a volume far from the origin.
    if not same or difference.position_mm > 0.01:
        raise CaseError(
            "volume_check",
            f"{out.name} differs from what was read ({difference.position_mm:.3g} mm apart); "
            "check the disk",
        )
    notices = scan.notices
    if is_sheared(volume.affine) and not any(note.code == "gantry_tilt" for note in notices):
        notices = (
            *notices,
            Notice("sheared", "the grid is sheared, which some programs ignore; its sform says so"),
        )
    return Converted(volume, float(volume.array.min()), float(volume.array.max()), notices)
