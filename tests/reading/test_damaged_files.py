"""Files of every format, damaged at random, are read or refused; nothing else is raised."""

import random
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from grids import VOXELS, next_affine, to_simpleitk
from pictures import COLOURS, GREY, saved
from SimpleITK import WriteImage

from voxtile.errors import CaseError
from voxtile.export.finished import Finished
from voxtile.export.slicer import write_seg_nrrd
from voxtile.models.spec import Label
from voxtile.reading.channels import read_mask, read_scan, survey_scan
from voxtile.volume import Volume

TEXT = (b"-", b"9", b"nan", b"\n", b"e9", b"", b" ", b"0")


def write_slicer(path: Path) -> None:
    labels = (Label(value=1, name="a", color="#e6194b"), Label(value=2, name="b", color="#e6194b"))
    mask = Volume((VOXELS % 3).astype(np.uint8), next_affine())
    write_seg_nrrd(Finished("c", path.parent, labels, "model"), mask)
    (path.parent / "exports/seg.nrrd/c.seg.nrrd").rename(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    ".nrrd": lambda path: WriteImage(to_simpleitk(VOXELS, next_affine()), str(path)),
    ".mha": lambda path: WriteImage(to_simpleitk(VOXELS, next_affine()), str(path)),
    ".mgh": lambda path: nibabel.save(nibabel.MGHImage(VOXELS, next_affine()), path),
    ".seg.nrrd": write_slicer,
    ".png": lambda path: saved(path, COLOURS),
    ".bmp": lambda path: saved(path, GREY),
    ".jpg": lambda path: saved(path, COLOURS),
    ".tif": lambda path: tifffile.imwrite(path, COLOURS.astype(np.uint16), photometric="rgb"),
    ".tiff": lambda path: tifffile.imwrite(path, GREY),
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A content with some bytes changed, left out or repeated."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(min(len(changed), 1500))
        length = rng.randrange(1, 20)
        match rng.randrange(4):
            case 0:
                changed[place] ^= 1 << rng.randrange(8)
            case 1:
                changed[place : place + 1] = rng.choice(TEXT)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length]
    return bytes(changed)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    WRITERS[suffix](path)
    content = path.read_bytes()
    read_scan(path)
    rng = random.Random(suffix)
    refused = set()
    for _ in range(25):
        path.write_bytes(damaged(content, rng))
        for read in (read_scan, read_mask, survey_scan):
            try:
                read(path)
            except CaseError as error:
                refused.add(error.code)
    assert refused
    assert not refused & {"decoder_failed", "decoder_crashed", "decoder_hung"}
