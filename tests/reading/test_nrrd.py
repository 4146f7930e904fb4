"""NRRD is read exactly, wherever its axes point, and refused with the reason."""

import bz2
import gzip
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK
from grids import KINDS, LPS, VOXELS, affines, assert_same, by_simpleitk, to_simpleitk

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan, survey_scan
from voxtile.reading.formats import files_of
from voxtile.reading.scan import ReadPolicy

HEADER = (
    "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n"
    "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    "space origin: (1,2,3)\n"
)
AFFINE = LPS @ [[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]]
RAW = VOXELS.tobytes(order="F")


def written(path: Path, header: str = HEADER, content: bytes = RAW) -> Path:
    path.write_bytes(header.encode() + b"\n" + content)
    return path


def refused(path: Path, **policy) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read_scan(path, ReadPolicy(**policy))
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_is_where_simpleitk_has_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nrrd"
    for affine in affines(kind):
        SimpleITK.WriteImage(to_simpleitk(VOXELS, affine), str(path), useCompression=True)
        scan = read_scan(path)
        assert_same(scan.volume, VOXELS, affine)
        assert not scan.notices
        surveyed = survey_scan(path).volume
        np.testing.assert_array_equal(surveyed.affine, scan.volume.affine)
        assert surveyed.shape == scan.volume.shape


@pytest.mark.parametrize(
    ("space", "to_ras"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
def test_every_space_is_where_simpleitk_has_it(tmp_path: Path, space: str, to_ras) -> None:
    path = tmp_path / "a.nrrd"
    for affine in list(affines("anisotropic"))[::5]:
        own = np.diag([*to_ras, 1.0]) @ affine
        fields = {"space": space, "space directions": own[:3, :3].T, "space origin": own[:3, 3]}
        nrrd.write(str(path), VOXELS, fields)
        assert_same(read_scan(path).volume, VOXELS, affine)
        assert_same(read_scan(path).volume, *by_simpleitk(path))


@pytest.mark.parametrize("header", ["space: scanner-xyz\n", "space dimension: 3\n"])
def test_a_space_without_directions_of_the_body_is_said(tmp_path: Path, header: str) -> None:
    named = HEADER.replace("space: left-posterior-superior\n", header)
    scan = read_scan(written(tmp_path / "a.nrrd", named))
    assert [notice.code for notice in scan.notices] == ["no_orientation"]
    assert_same(scan.volume, VOXELS, AFFINE)


def test_spacings_without_a_space_are_as_simpleitk_has_them(tmp_path: Path) -> None:
    header = HEADER.partition("space:")[0] + "spacings: 1 2 3\n"
    path = written(tmp_path / "a.nrrd", header)
    scan = read_scan(path)
    assert [notice.code for notice in scan.notices] == ["no_orientation"]
    assert_same(scan.volume, *by_simpleitk(path))


@pytest.mark.parametrize("first", [True, False])
def test_an_axis_that_is_not_of_space_holds_volumes_wherever_it_is(tmp_path, first) -> None:
    both = np.stack([VOXELS, VOXELS + 1], axis=0 if first else 3)
    vectors = "(1,0,0) (0,2,0) (0,0,3)"
    header = HEADER.replace("dimension: 3", "dimension: 4")
    header = header.replace("5 4 3", "2 5 4 3" if first else "5 4 3 2")
    header = header.replace(vectors, f"none {vectors}" if first else f"{vectors} none")
    path = written(tmp_path / "a.nrrd", header, both.tobytes(order="F"))
    assert refused(path).code == "several_volumes"
    assert_same(read_scan(path, ReadPolicy(volume=1)).volume, VOXELS + 1, AFFINE)
    assert survey_scan(path, ReadPolicy(volume=1)).volume.shape == VOXELS.shape


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("bz2", bz2.compress)])
def test_damage_to_a_compressed_file_is_refused(tmp_path: Path, encoding, compress) -> None:
    header, content = HEADER.replace("raw", encoding), compress(RAW)
    path = written(tmp_path / "a.nrrd", header, content)
    assert_same(read_scan(path).volume, VOXELS, AFFINE)
    for place in range(10, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        written(path, header, bytes(damaged))
        try:  # some bits of bzip2 have no meaning
            assert_same(read_scan(path).volume, VOXELS, AFFINE)
        except CaseError as error:
            assert error.code in ("corrupt", "truncated", "too_long")
        else:
            assert encoding == "bz2"
        assert refused(written(path, header, content[:place])).code == "truncated"
    assert refused(written(path, header, compress(RAW + bytes(2**20)))).code == "too_long"


@pytest.mark.parametrize("kind", ["uchar", "int8", "ushort", "int", "float", "double", "int64"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_type_and_both_byte_orders(tmp_path: Path, kind, endian) -> None:
    names = {"uchar": "u1", "int8": "i1", "ushort": "u2", "int": "i4", "float": "f4"}
    dtype = np.dtype({**names, "double": "f8", "int64": "i8"}[kind])
    array = np.abs(VOXELS // 8).astype(dtype)
    stored = array.astype(dtype.newbyteorder({"little": "<", "big": ">"}[endian]))
    header = HEADER.replace("short", kind).replace("little", endian)
    path = written(tmp_path / "a.nrrd", header, stored.tobytes(order="F"))
    got = read_scan(path).volume.array
    np.testing.assert_array_equal(got, array)
    assert got.dtype == dtype


@pytest.mark.parametrize("field", ["data file", "datafile", "Data File"])
def test_a_detached_header_and_its_file_are_one_input(tmp_path: Path, field: str) -> None:
    header = tmp_path / "a.nhdr"
    header.write_text(f"{HEADER}{field}: ./b.raw\nbyte skip: 4\n")
    assert refused(header).code == "missing_pair"
    assert files_of(header) == [header]
    (tmp_path / "b.raw").write_bytes(b"skip" + RAW)
    assert_same(read_scan(header).volume, VOXELS, AFFINE)
    assert files_of(header) == [header, tmp_path / "b.raw"]
    header.write_text(f"{HEADER}byte skip: -1\n{field}: b.raw\n")
    assert_same(read_scan(header).volume, VOXELS, AFFINE)


@pytest.mark.parametrize(
    "named", ["../b.raw", "/etc/passwd", "sub/b.raw", "LIST", "s%02d.raw 1 3 1", "..", "C:\\b.raw"]
)
def test_voxels_are_never_read_from_elsewhere(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        (place / "b.raw").write_bytes(RAW)
    (folder / "a.nhdr").write_text(f"{HEADER}data file: {named}\n")
    assert "in its own folder" in refused(folder / "a.nhdr").sentence


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("NRRD0004", "NRDD0004", "not_nrrd", "convert it again"),
        ("sizes: 5 4 3", "sizes: 5 4", "bad_header", "positive sizes"),
        ("sizes: 5 4 3", "sizes: 5 -4 3", "bad_header", "positive sizes"),
        ("sizes: 5 4 3", "sizes: 5 4 three", "bad_header", "cannot be parsed"),
        ("sizes: 5 4 3", "sizes: 5 4 4", "truncated", "160 bytes"),
        ("sizes: 5 4 3", "sizes: 999999 999999 999999", "truncated", "promises"),
        ("type: short", "type: block", "bad_header", "no type"),
        ("endian: little\n", "", "bad_header", "endian"),
        ("encoding: raw", "encoding: hex", "bad_header", "only raw, gzip"),
        ("(0,0,3)", "(0,2,0)", "bad_affine", "singular"),
        ("(1,2,3)", "(1,nan,3)", "bad_affine", "finite"),
        ("sizes:", "kinds: RGB-color domain domain\nsizes:", "not_scalar", "one real number"),
        ("sizes:", 'space units: "mi" "mi" "mi"\nsizes:', "bad_header", "units"),
        ("sizes:", "line skip: 3\nsizes:", "bad_header", "lines"),
        ("sizes:", "byte skip: -7\nsizes:", "bad_header", "byte skip"),
    ],
)
def test_bad_headers_are_refused_with_the_reason(tmp_path, before, after, code, words) -> None:
    error = refused(written(tmp_path / "a.nrrd", HEADER.replace(before, after)))
    assert error.code == code
    assert words in error.sentence


def test_a_slice_has_two_axes_of_space(tmp_path: Path) -> None:
    header = HEADER.replace("dimension: 3", "dimension: 2").replace("sizes: 5 4 3", "sizes: 5 4")
    header = header.replace(" (0,0,3)", "")
    scan = read_scan(written(tmp_path / "a.nrrd", header, VOXELS[..., 0].tobytes(order="F")))
    assert scan.volume.shape == (5, 4, 1)
    assert scan.volume.spacing_mm == (1, 2, 1)
    assert [notice.code for notice in scan.notices] == ["no_thickness"]


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("um", 1e-3), ("µm", 1e-3), ("cm", 10)])
def test_units_become_mm(tmp_path: Path, unit: str, mm: float) -> None:
    header = f'{HEADER}space units: "{unit}" "{unit}" "{unit}"\n'
    scan = read_scan(written(tmp_path / "a.nrrd", header))
    np.testing.assert_allclose(scan.volume.spacing_mm, np.array([1, 2, 3]) * mm)
    np.testing.assert_allclose(scan.volume.affine[:3, 3], AFFINE[:3, 3] * mm)
    assert [notice.code for notice in scan.notices] == ([] if mm == 1 else ["unit"])
