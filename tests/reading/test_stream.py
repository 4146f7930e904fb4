"""Every compression is read to its end: a flipped bit, a cut and a bomb are refused."""

import bz2
import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
from backports import zstd

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.stream import Stream
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask

VOXELS = np.random.default_rng(0).integers(0, 200, (12, 10, 8), np.uint8)
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}
COMPRESS = {
    ".nii.gz": gzip.compress,
    ".nii.bz2": bz2.compress,
    ".nii.zst": lambda content: zstd.compress(content, options=CHECKED),
}


def plain(folder: Path) -> bytes:
    write_mask(folder / "plain.nii", Volume(VOXELS, np.diag([1.0, 2.0, 3.0, 1.0])))
    return (folder / "plain.nii").read_bytes()


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_scan(path)
    return caught.value.code


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_scan_is_read_and_damage_is_refused(tmp_path: Path, suffix: str) -> None:
    content = COMPRESS[suffix](plain(tmp_path))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_scan(path).volume.array, VOXELS)
    for place in np.linspace(10, len(content) - 1, 40).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 8
        assert refused(path, bytes(damaged)) in ("corrupt", "truncated", "too_long")
        assert refused(path, content[:place]) == "truncated"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_bomb_is_stopped_at_the_size_that_the_header_promises(tmp_path, suffix) -> None:
    bomb = COMPRESS[suffix](plain(tmp_path) + bytes(2**26))
    assert refused(tmp_path / f"a{suffix}", bomb) == "too_long"


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress])
def test_a_zlib_stream_may_have_the_header_of_gzip(tmp_path: Path, compress) -> None:
    path = tmp_path / "a.zraw"
    path.write_bytes(b"head" + compress(VOXELS.tobytes()))
    with Stream(path, "", "", start=4, compression="zlib") as file:
        assert file.read(VOXELS.size + 1) == VOXELS.tobytes()
    path.write_bytes(path.read_bytes()[:-1])
    with (
        Stream(path, "", "", start=4, compression="zlib") as file,
        pytest.raises(CaseError, match="the zlib stream ends too early"),
    ):
        file.read(VOXELS.size + 1)
