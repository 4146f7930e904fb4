"""MGH files are read as nibabel reads them, and to their end."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from grids import KINDS, VOXELS, affines, assert_same

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.scan import ReadPolicy


def saved(path: Path, array=VOXELS, affine=None) -> Path:
    affine = next(affines("oblique")) if affine is None else affine
    nibabel.save(nibabel.MGHImage(array, affine), path)
    return path


def by_nibabel(path: Path) -> np.ndarray:
    """The affine as nibabel reads it; its `load` leaves files open."""
    content = path.read_bytes()
    plain = gzip.decompress(content) if path.suffix == ".mgz" else content
    return nibabel.MGHImage.from_bytes(plain).affine


def refused(path: Path, **policy) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read_scan(path, ReadPolicy(**policy))
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_every_orientation_is_where_nibabel_has_it(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for affine in affines(kind):
        saved(path, affine=affine)
        scan = read_scan(path)
        assert_same(scan.volume, VOXELS, affine)
        assert_same(scan.volume, VOXELS, by_nibabel(path), within=1e-4)
        np.testing.assert_array_equal(survey_scan(path).volume.affine, scan.volume.affine)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4"])
def test_every_type(tmp_path: Path, kind: str) -> None:
    array = np.abs(VOXELS // 8).astype(kind)
    got = read_scan(saved(tmp_path / "a.mgz", array)).volume.array
    np.testing.assert_array_equal(got, array)
    assert got.dtype == np.dtype(kind)


def test_one_of_several_frames_is_chosen(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mgz", np.stack([VOXELS, VOXELS + 1], axis=-1))
    assert refused(path).code == "several_volumes"
    np.testing.assert_array_equal(read_scan(path, ReadPolicy(volume=1)).volume.array, VOXELS + 1)


def test_a_file_without_orientation_is_said(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.mgh").read_bytes())
    content[28:30] = bytes(2)
    (tmp_path / "a.mgh").write_bytes(content)
    scan = read_scan(tmp_path / "a.mgh")
    assert [notice.code for notice in scan.notices] == ["no_orientation"]
    np.testing.assert_allclose(scan.volume.affine, by_nibabel(tmp_path / "a.mgh"))


def test_damage_is_refused_and_what_freesurfer_appends_is_not(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mgz")
    content = path.read_bytes()
    for place in range(12, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert refused(path).code in ("corrupt", "truncated", "too_long", "not_mgh")
        path.write_bytes(content[:place])
        assert refused(path).code == "truncated"
    path.write_bytes(gzip.compress(gzip.decompress(content) + bytes(10**6)))
    np.testing.assert_array_equal(read_scan(path).volume.array, VOXELS)
    path.write_bytes(gzip.compress(gzip.decompress(content) + bytes(2**25)))
    assert refused(path).code == "too_long"


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0, 2, "not_mgh"),
        (4, 0, "bad_header"),
        (4, 2**30, "truncated"),
        (20, 2, "not_scalar"),
        (30, 0, "bad_affine"),
    ],
)
def test_bad_headers_are_refused(tmp_path: Path, offset: int, value: int, code: str) -> None:
    content = bytearray(saved(tmp_path / "a.mgh").read_bytes())
    content[offset : offset + 4] = value.to_bytes(4, "big")
    (tmp_path / "a.mgh").write_bytes(content)
    assert refused(tmp_path / "a.mgh").code == code
