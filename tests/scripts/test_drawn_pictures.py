"""The drawn pictures are reproducible, and their masks are exact."""

from pathlib import Path

import numpy as np
import pytest
from cohorts.drawn_pictures import draw_picture, write_pictures

from voxtile.errors import EnvironmentFault
from voxtile.manifest.check import CheckSettings, check_manifest
from voxtile.reading.channels import read_mask, read_scan


def test_a_picture_is_drawn_the_same_again_and_no_two_are_alike() -> None:
    picture, mask = draw_picture(1)
    np.testing.assert_array_equal(draw_picture(1)[0], picture)
    assert (draw_picture(2)[0] != picture).mean() > 0.5
    assert (draw_picture(1, seed=1)[0] != picture).mean() > 0.5
    assert (picture.shape, picture.dtype) == ((128, 128, 3), np.uint8)
    assert np.unique(mask).tolist() == [0, 255]


def test_targets_are_a_small_part_of_each_picture() -> None:
    shares = [(draw_picture(number)[1] > 0).mean() for number in range(1, 13)]
    assert min(shares) > 0.005
    assert max(shares) < 0.4


def test_the_written_set_is_read_back_without_findings(tmp_path: Path) -> None:
    manifest = write_pictures(tmp_path / "set", splits=(("train", 2), ("test", 1)))
    result = check_manifest(manifest, settings=CheckSettings(deep=True))
    assert [case.split for case in result.cases] == ["train", "train", "test"]
    assert not result.findings
    picture, mask = draw_picture(3)
    array = read_scan(tmp_path / "set/images/picture_003.png").volume.array
    np.testing.assert_array_equal(array[:, :, 0].swapaxes(0, 1), picture)
    array = read_mask(tmp_path / "set/labels/picture_003.png").volume.array
    np.testing.assert_array_equal(array[:, :, 0].T, mask)
    with pytest.raises(EnvironmentFault, match="not an empty folder"):
        write_pictures(tmp_path / "set")
