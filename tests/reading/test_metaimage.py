"""MetaImage is read as SimpleITK reads it, and refused with the reason."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from grids import KINDS, LPS, VOXELS, affines, assert_same, by_simpleitk, to_simpleitk

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.formats import files_of
from voxtile.reading.scan import ReadPolicy

HEADER = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\n"
    "CenterOfRotation = 0 0 0\nElementSpacing = 1 2 3\nDimSize = 5 4 3\n"
    "AnatomicalOrientation = RAI\nElementType = MET_SHORT\n"
)
AFFINE = LPS @ [[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]]
RAW = VOXELS.tobytes(order="F")


def written(path: Path, header: str = HEADER, content: bytes = RAW) -> Path:
    path.write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + content)
    return path


def refused(path: Path, **policy) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read_scan(path, ReadPolicy(**policy))
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_every_orientation_is_where_simpleitk_has_it(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    for number, affine in enumerate(affines(kind)):
        image = to_simpleitk(VOXELS, affine)
        SimpleITK.WriteImage(image, str(path), useCompression=number % 2 == 0)
        scan = read_scan(path)
        assert_same(scan.volume, VOXELS, affine)
        assert_same(scan.volume, *by_simpleitk(path))
        assert not scan.notices
        np.testing.assert_array_equal(survey_scan(path).volume.affine, scan.volume.affine)


def test_a_volume_of_channels_or_times_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    image = SimpleITK.Compose(
        to_simpleitk(VOXELS, AFFINE), to_simpleitk((VOXELS + 1).astype(np.int16), AFFINE)
    )
    SimpleITK.WriteImage(image, str(path))
    assert refused(path).code == "several_volumes"
    assert_same(read_scan(path, ReadPolicy(volume=1)).volume, VOXELS + 1, AFFINE)
    header = HEADER.replace("NDims = 3", "NDims = 4").replace("5 4 3", "5 4 3 2")
    header = header.replace("1 0 0 0 1 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")
    header = header.replace("Offset = 1 2 3", "Offset = 1 2 3 0").replace(
        "= 1 2 3\n", "= 1 2 3 1\n"
    )
    written(path, header, RAW + (VOXELS + 1).astype(np.int16).tobytes(order="F"))
    assert_same(read_scan(path, ReadPolicy(volume=1)).volume, VOXELS + 1, AFFINE)


@pytest.mark.parametrize("kind", ["UCHAR", "CHAR", "USHORT", "INT", "UINT", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("big", [False, True])
def test_every_type_and_both_byte_orders_are_as_simpleitk_has_them(tmp_path, kind, big) -> None:
    header = HEADER.replace("MET_SHORT", f"MET_{kind}").replace("MSB = False", f"MSB = {big}")
    names = {"UCHAR": "u1", "CHAR": "i1", "USHORT": "u2", "INT": "i4", "UINT": "u4", "FLOAT": "f4"}
    stored = np.abs(VOXELS // 8).astype({**names, "DOUBLE": "f8"}[kind])
    stored = stored.astype(stored.dtype.newbyteorder(">" if big else "<"))
    path = written(tmp_path / "a.mha", header, stored.tobytes(order="F"))
    assert_same(read_scan(path).volume, *by_simpleitk(path))
    assert_same(read_scan(path).volume, stored, AFFINE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ElementSpacing = 1 2 3\n", ""),
        ("ElementSpacing = 1 2 3\n", "ElementSize = 2 3 4\n"),
        ("ElementSpacing", "ElementSize = 2 3 4\nElementSpacing"),
        ("Offset", "Position"),
        ("Offset", "Origin"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "Rotation = 0 1 0 -1 0 0 0 0 1"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "Orientation = 0 1 0 -1 0 0 0 0 1"),
        ("AnatomicalOrientation = RAI\n", "AnatomicalOrientation = LPS\n"),
        ("CenterOfRotation = 0 0 0", "CenterOfRotation = 9 8 7"),
    ],
)
def test_keys_mean_what_they_mean_to_simpleitk(tmp_path: Path, before, after) -> None:
    path = written(tmp_path / "a.mha", HEADER.replace(before, after))
    assert_same(read_scan(path).volume, *by_simpleitk(path))


def test_a_header_without_directions_is_said(tmp_path: Path) -> None:
    header = HEADER.replace("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "")
    scan = read_scan(written(tmp_path / "a.mha", header))
    assert [notice.code for notice in scan.notices] == ["no_orientation"]
    assert_same(scan.volume, *by_simpleitk(tmp_path / "a.mha"))


def test_a_header_and_its_data_are_one_input(tmp_path: Path) -> None:
    header = tmp_path / "a.mhd"
    header.write_text(f"{HEADER}ElementDataFile = b.raw\n")
    assert refused(header).code == "missing_pair"
    (tmp_path / "b.raw").write_bytes(RAW)
    assert_same(read_scan(header).volume, VOXELS, AFFINE)
    assert files_of(header) == [header, tmp_path / "b.raw"]
    for size in (4, -1):
        (tmp_path / "b.raw").write_bytes(b"skip" + RAW)
        header.write_text(f"{HEADER}HeaderSize = {size}\nElementDataFile = b.raw\n")
        assert_same(read_scan(header).volume, VOXELS, AFFINE)


@pytest.mark.parametrize(
    "named", ["../b.raw", "/etc/passwd", "sub/b.raw", "LIST", "LIST 2", "s%02d.raw 1 3 1", ""]
)
def test_voxels_are_never_read_from_elsewhere(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        (place / "b.raw").write_bytes(RAW)
    (folder / "a.mhd").write_text(f"{HEADER}ElementDataFile = {named}\n")
    assert "in its own folder" in refused(folder / "a.mhd").sentence


def test_damage_to_compressed_voxels_is_refused(tmp_path: Path) -> None:
    header, content = (
        HEADER.replace("CompressedData = False", "CompressedData = True"),
        zlib.compress(RAW),
    )
    path = written(tmp_path / "a.mha", header, content)
    assert_same(read_scan(path).volume, VOXELS, AFFINE)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        assert refused(written(path, header, bytes(damaged))).code in (
            "corrupt",
            "truncated",
            "too_long",
        )
        assert refused(written(path, header, content[:place])).code == "truncated"
    assert refused(written(path, header, zlib.compress(RAW + bytes(2**20)))).code == "too_long"


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("ObjectType = Image", "Object", "not_metaimage", "convert it again"),
        ("ElementType = MET_SHORT\n", "junk\n", "bad_header", "ElementDataFile"),
        ("DimSize = 5 4 3", "DimSize = 5 4", "bad_header", "positive size"),
        ("DimSize = 5 4 3", "DimSize = 5 4 0", "bad_header", "positive size"),
        ("DimSize = 5 4 3", "DimSize = 5 4 x", "bad_header", "text instead of numbers"),
        ("DimSize = 5 4 3", "DimSize = 5 4 4", "truncated", "160 bytes"),
        ("NDims = 3", "NDims = 9", "bad_header", "2 to 4 dimensions"),
        ("MET_SHORT", "MET_STRING", "not_scalar", "one real number"),
        ("BinaryData = True", "BinaryData = False", "bad_header", "text"),
        ("Spacing = 1 2 3", "Spacing = 1 2", "bad_header", "for each dimension"),
        ("Spacing = 1 2 3", "Spacing = 1 0 3", "bad_affine", "singular"),
        ("Spacing = 1 2 3", "Spacing = 1 nan 3", "bad_affine", "finite"),
        ("ElementType", "ElementNumberOfChannels = 0\nElementType", "bad_header", "channels"),
        (
            "ElementType",
            "ElementToIntensityFunctionSlope = 2\nElementType",
            "bad_header",
            "scales its voxels",
        ),
    ],
)
def test_bad_headers_are_refused_with_the_reason(tmp_path, before, after, code, words) -> None:
    error = refused(written(tmp_path / "a.mha", HEADER.replace(before, after, 1)))
    assert error.code == code
    assert words in error.sentence


def test_a_slice_has_two_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS[..., 0].T), str(path))
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.volume.array, VOXELS[..., :1])
    assert [notice.code for notice in scan.notices] == ["no_thickness"]
