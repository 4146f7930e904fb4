"""Archives of a DICOM series are read as its folder is, and nothing leaves them."""

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from dicoms import voxels, write_series

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Volume]:
    """A folder with a series, and its volume."""
    folder = tmp_path_factory.mktemp("series") / "s"
    write_series(folder, voxels())
    return folder, read_scan(folder).volume


def tarred(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zipped(files: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


PACK = {
    ".zip": zipped,
    ".tar": tarred,
    ".tar.gz": lambda files: gzip.compress(tarred(files)),
    ".tgz": lambda files: gzip.compress(tarred(files)),
    ".tar.bz2": lambda files: bz2.compress(tarred(files)),
    ".tar.zst": lambda files: zstd.compress(
        tarred(files), options={zstd.CompressionParameter.checksum_flag: 1}
    ),
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {f"patient/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


def refused(path: Path, content: bytes) -> CaseError:
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_scan(path)
    return caught.value


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_is_read_as_its_folder(series, tmp_path: Path, suffix: str) -> None:
    folder, expected = series
    files = dict(reversed(files_of(folder).items()))
    files |= {"patient/": b"", "__MACOSX/._a.dcm": b"x", "patient/.hidden": b"x", "DICOMDIR": b"x"}
    files |= {"patient/readme.txt": b"text"}
    if suffix != ".zip":
        del files["patient/"]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](files))
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.volume.array, expected.array)
    np.testing.assert_array_equal(scan.volume.affine, expected.affine)
    assert "ignored_files" in [notice.code for notice in scan.notices]
    assert survey_scan(path, ReadPolicy()).volume.shape == expected.shape


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_names_are_never_paths(series, tmp_path: Path, suffix: str) -> None:
    folder, expected = series
    inside = tmp_path / "in"
    inside.mkdir()
    evil = ["../../evil.dcm", "/tmp/evil.dcm", "..\\evil.dcm", "a/../../b.dcm", "\0.dcm"]
    contents = list(files_of(folder).values())
    names = [*evil[: len(contents) - 1], *(f"{n}.dcm" for n in range(len(contents)))]
    path = inside / f"a{suffix}"
    path.write_bytes(PACK[suffix](dict(zip(names, contents, strict=False))))
    read = read_scan(path).volume
    assert read.shape == expected.shape
    assert sorted(one.name for one in tmp_path.rglob("*")) == [f"a{suffix}", "in"]
    assert not Path("/tmp/evil.dcm").exists()


@pytest.mark.parametrize("suffix", PACK)
def test_damage_is_refused(series, tmp_path: Path, suffix: str) -> None:
    content = PACK[suffix](files_of(series[0]))
    path = tmp_path / f"a{suffix}"
    most = len(content.rstrip(b"\0")) if suffix == ".tar" else len(content) - 1
    for place in np.linspace(0, most, 12).astype(int):
        assert refused(path, content[:place]).code in (
            "truncated",
            "corrupt",
            "not_an_archive",
            "not_dicom",
            "empty_file",
        )
    if suffix != ".tar":  # which has no checksum
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 4
        assert refused(path, bytes(damaged)).code in ("truncated", "corrupt", "not_an_archive")


def test_a_tar_without_its_end_may_lack_files(series, tmp_path: Path) -> None:
    one = tarred({"a.dcm": next(iter(files_of(series[0]).values()))})
    end = len(one.rstrip(b"\0")) + (-len(one.rstrip(b"\0"))) % 512
    assert refused(tmp_path / "a.tar", one[:end]).code == "truncated"


def test_links_and_encryption_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("a.dcm")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert "links" in refused(tmp_path / "a.tar", content.getvalue()).sentence
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipping:
        info = zipfile.ZipInfo("a.dcm")
        info.external_attr = 0o120777 << 16
        zipping.writestr(info, "/etc/passwd")
    assert "links" in refused(tmp_path / "a.zip", content.getvalue()).sentence
    secret = bytearray(zipped({"a.dcm": b"x" * 99}))
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        secret[secret.index(mark) + place] |= 1
    assert "encrypted" in refused(tmp_path / "b.zip", bytes(secret)).sentence


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bomb = bytearray(zipped({"a.dcm": bytes(2**20)}))
    central = bomb.index(b"PK\1\2")
    bomb[central + 24 : central + 28] = struct.pack("<I", 2**32 - 2)
    assert refused(tmp_path / "a.zip", bytes(bomb)).code in ("too_large", "corrupt")
    member = tarfile.TarInfo("a.dcm")
    member.size = 2**40
    assert refused(tmp_path / "a.tar", member.tobuf() + bytes(2**16)).code == "too_large"
    tail = gzip.compress(tarred({"a.dcm": b"x"}) + bytes(2**25))
    assert refused(tmp_path / "a.tar.gz", tail).code == "too_long"


def test_other_archives_and_files_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.zip", zipped({"scan.nii": b"x" * 400})).code == "not_dicom"
    assert refused(tmp_path / "a.zip", zipped({})).code == "not_dicom"
    assert refused(tmp_path / "a.tar", b"text" * 400).code == "not_an_archive"
