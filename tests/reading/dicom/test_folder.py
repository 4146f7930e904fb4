"""Which files of a folder or DICOMDIR are read: nothing that should be a slice is passed over."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from dicoms import make_slice, save, voxels, write_dicomdir, write_series

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.dicom import catalogue, read_series


def refused(folder: Path) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder)
    return caught.value


def values(stored: np.ndarray) -> np.ndarray:
    """What the slices of `write_series` mean, in storage order."""
    return stored.astype(int).T - 1024


def renamed(folder: Path, suffix: str) -> None:
    """Give all slices another suffix."""
    for path in folder.iterdir():
        path.rename(path.with_suffix(suffix))


@pytest.mark.parametrize("suffix", [".img", ".dat", ".mr", ".IMG"])
@pytest.mark.parametrize("damage", ["headerless", "zeros", "text"])
def test_a_file_named_as_the_slices_is_never_passed_over(
    suffix: str, damage: str, tmp_path: Path
) -> None:
    write_series(tmp_path, voxels())
    renamed(tmp_path, suffix)
    last = tmp_path / f"004{suffix}"
    content = {"headerless": last.read_bytes()[132:], "zeros": bytes(900), "text": b"not found"}
    last.write_bytes(content[damage])
    error = refused(tmp_path)
    assert error.code == "not_dicom"
    assert error.sentence.startswith("file 5 of 5 is ")


@pytest.mark.parametrize(
    "name", ["004.dcm.part", "004.dcm.crdownload", "004.ima.bak", "004.DICOM~"]
)
def test_an_unfinished_download_of_a_slice_is_not_passed_over(name: str, tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    (tmp_path / "004.dcm").unlink()
    (tmp_path / name).write_bytes(b"")
    assert refused(tmp_path).code == "empty_file"


@pytest.mark.parametrize("big", [False, True])
def test_dicom_without_a_file_header_says_how_to_convert_it(big: bool, tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    path = tmp_path / "004.dcm"
    content = path.read_bytes()[132:]
    if big:
        content = b"\0\x08\0\x05\0\0\0\x0aISO_IR 100\0\x08\0\x08" + bytes(300)
    path.unlink()
    (tmp_path / "scan.xyz").write_bytes(content)
    error = refused(tmp_path)
    assert error.code == "not_dicom"
    assert "is DICOM without a file header" in error.sentence and "gdcmconv" in error.sentence


def test_what_is_clearly_something_else_is_passed_over(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "README").write_text("a")
    (tmp_path / "mask.nii.gz").write_bytes(gzip.compress(bytes(500)))
    (tmp_path / "thumbnail.png").write_bytes(bytes(200))
    (tmp_path / "labels.img").write_bytes(b"\2\0\2\0\2\0\0\0" * 500)
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert [str(notice) for notice in scan.notices] == ["ignored_files: 5 files not DICOM; ignored"]


# Gzipped files


def zipped(path: Path, name: str = "") -> Path:
    """Replace a file by its gzipped copy."""
    target = path.with_name(name or f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    if target != path:
        path.unlink()
    return target


def test_gzipped_slices_are_read_among_others(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    zipped(tmp_path / "001.dcm")
    zipped(tmp_path / "002.dcm", "002.gz")
    zipped(tmp_path / "003.dcm", "003.dcm")
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, values(stored))
    (entry,) = catalogue([tmp_path / "001.dcm.gz"])
    assert entry is not None and entry["kind"] == "image"


def test_one_gzipped_slice_is_read_by_its_name(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(1))
    assert read_scan(zipped(tmp_path / "000.dcm")).volume.shape == (6, 4, 1)


@pytest.mark.parametrize("damage", ["cut", "checksum", "header"])
def test_a_damaged_gzip_stream_is_refused(damage: str, tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    path = zipped(tmp_path / "002.dcm")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[-6 if damage == "checksum" else 12] ^= 0xFF
    path.write_bytes(content)
    error = refused(tmp_path)
    assert error.code == "corrupt"
    assert error.sentence.startswith("file 3 of 5 is gzipped but damaged")


# DICOMDIR


@pytest.mark.parametrize("change", [str.lower, lambda name: f"{name};1", lambda name: f"{name}."])
def test_a_dicomdir_finds_its_files_on_any_disc(change, tmp_path: Path) -> None:
    stored = voxels()
    for index, picture in enumerate(stored):
        save(make_slice(index, picture), tmp_path / change("IMAGES") / change(f"IM{index}"))
    path = write_dicomdir(tmp_path, [["IMAGES", f"IM{index}"] for index in range(5)])
    np.testing.assert_array_equal(read_series(path).volume.array, values(stored))


def test_a_dicomdir_does_not_choose_between_two_files(tmp_path: Path) -> None:
    for name in ("im0", "Im0"):
        save(make_slice(0, voxels(1)[0]), tmp_path / name)
    assert refused(write_dicomdir(tmp_path, [["IM0"]])).code == "missing_files"
