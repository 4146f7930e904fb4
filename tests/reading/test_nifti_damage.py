"""A damaged .nii.gz is refused: every flipped bit, every cut."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from voxtile.errors import CaseError
from voxtile.reading.nifti import read_nifti
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A compressed file whose voxels would not betray a change."""
    path = tmp_path_factory.mktemp("nifti") / "sound.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 200, (40, 30, 20), np.uint8)
    write_mask(path, Volume(voxels, np.diag([1.0, 2.0, 3.0, 1.0])))
    return path.read_bytes()


def refused(content: bytes, folder: Path) -> CaseError:
    """The error that a file is refused with."""
    path = folder / "damaged.nii.gz"
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_nifti(path)
    return caught.value


@pytest.mark.parametrize("seed", range(64))
def test_a_flipped_bit_is_refused(seed: int, sound: bytes, tmp_path: Path) -> None:
    damaged = bytearray(sound)
    # Spread over the file, the last one in the checksum. The gzip header holds bytes without
    # meaning (its time, its operating system), so the stream after it is what is damaged.
    position = 10 + (len(sound) - 11) * seed // 63
    damaged[position] ^= 1 << int(np.random.default_rng(seed).integers(8))
    assert refused(bytes(damaged), tmp_path).code in ("corrupt", "truncated", "too_long")


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_refused(seed: int, sound: bytes, tmp_path: Path) -> None:
    length = int(np.random.default_rng(seed).integers(20, len(sound)))
    assert refused(sound[:length], tmp_path).code == "truncated"


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5, 8, 9])
def test_a_cut_within_the_checksum_is_refused(missing: int, sound: bytes, tmp_path: Path) -> None:
    assert refused(sound[:-missing], tmp_path).code == "truncated"


def test_a_bomb_is_stopped_at_the_size_that_the_header_promises(
    sound: bytes, tmp_path: Path
) -> None:
    plain = gzip.decompress(sound)
    bomb = gzip.compress(plain + bytes(2**28), 9)
    assert refused(bomb, tmp_path).code == "too_long"
