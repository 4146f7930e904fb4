"""The channels of a case become one scan, if they are on one grid."""

from pathlib import Path

import numpy as np
import pytest
from phantoms import ball

from voxtile.case import Case
from voxtile.errors import CaseError
from voxtile.reading.channels import read_channels, survey_channels
from voxtile.volume import Volume
from voxtile.writing.nifti import write_volume

IMAGE, _ = ball()


def pair(folder: Path, voxels: float) -> Case:
    """A case of two channels; the last corner of the second is some voxels off along k."""
    step = np.diag([1, 1, 1 + voxels / (IMAGE.shape[2] - 1), 1])
    write_volume(folder / "a.nii.gz", IMAGE)
    write_volume(folder / "b.nii.gz", Volume(IMAGE.array, IMAGE.affine @ step))
    return Case("x", (("t1", folder / "a.nii.gz"), ("t2", folder / "b.nii.gz")))


@pytest.mark.parametrize("read", [read_channels, survey_channels])
def test_a_channel_may_be_a_tenth_of_a_voxel_off(tmp_path: Path, read) -> None:
    scan = read(pair(tmp_path, 0.05), ("t1", "t2"))
    np.testing.assert_allclose(scan.volume.affine, IMAGE.affine, atol=1e-5)
    assert [str(notice).split(" voxels")[0] for notice in scan.notices] == [
        "channel_off_grid: channel t2 is up to 0.05"
    ]
    assert not read(pair(tmp_path, 0), ("t1", "t2")).notices
    with pytest.raises(CaseError, match=r"channel t2 has shape .* resample one to the other"):
        read(pair(tmp_path, 0.11), ("t1", "t2"))
