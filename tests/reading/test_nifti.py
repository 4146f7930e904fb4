"""NIfTI in all its variants is read exactly, and what is not NIfTI is refused with the reason."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from voxtile.errors import CaseError
from voxtile.reading.nifti import read_nifti, survey_nifti
from voxtile.reading.scan import ReadPolicy

RNG = np.random.default_rng(0)
VOXELS = RNG.integers(-500, 500, (4, 5, 6)).astype(np.int16)
AFFINE = np.array([[-1.5, 0, 0, 10], [0, 2, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1]])


def saved(path: Path, array=VOXELS, kind=nibabel.Nifti1Image, **header) -> Path:
    """A file that nibabel wrote, with header fields changed."""
    image = kind(array, AFFINE)
    image.set_qform(AFFINE, 1)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def refused(path: Path, **policy) -> CaseError:
    with pytest.raises(CaseError) as caught:
        read_nifti(path, ReadPolicy(**policy))
    return caught.value


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.img", "A.NII.GZ"])
@pytest.mark.parametrize("version", [1, 2])
def test_single_files_and_pairs_of_both_versions(tmp_path: Path, name, version) -> None:
    paired = name.startswith("a.") and name.endswith((".hdr", ".img"))
    kinds = {
        (1, False): nibabel.Nifti1Image,
        (2, False): nibabel.Nifti2Image,
        (1, True): nibabel.Nifti1Pair,
        (2, True): nibabel.Nifti2Pair,
    }
    path = saved(tmp_path / name.lower(), kind=kinds[version, paired])
    if name != name.lower():
        path = path.rename(tmp_path / name)
    scan = read_nifti(path)
    np.testing.assert_array_equal(scan.volume.array, VOXELS)
    np.testing.assert_allclose(scan.volume.affine, AFFINE)
    assert scan.volume.array.dtype == np.int16
    assert not scan.notices


@pytest.mark.parametrize(
    "kind", ["u1", "i1", "<i2", ">i2", "<u2", ">i4", "<f4", ">f4", ">f8", "<i8"]
)
def test_every_type_and_both_byte_orders(tmp_path: Path, kind) -> None:
    array = np.abs(VOXELS // 8).astype(kind)
    header = nibabel.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_data_dtype(array.dtype)
    image = nibabel.Nifti1Image(array, AFFINE, header)
    nibabel.save(image, tmp_path / "a.nii.gz")
    got = read_nifti(tmp_path / "a.nii.gz").volume.array
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(("slope", "inter"), [(2, -1024), (0.0754, 3100.8), (1, 5), (-1, 0)])
def test_scaled_voxels_are_what_nibabel_says(tmp_path: Path, slope, inter) -> None:
    path = saved(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(content)
    got = read_nifti(path).volume.array
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.asanyarray(nibabel.load(path).dataobj), rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_an_invalid_slope_leaves_the_stored_values(tmp_path: Path, slope) -> None:
    path = saved(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, 0], "<f4").tobytes()
    path.write_bytes(content)
    np.testing.assert_array_equal(read_nifti(path).volume.array, VOXELS)


def test_trailing_single_axes_are_dropped_and_one_of_several_volumes_is_picked(tmp_path) -> None:
    one = saved(tmp_path / "one.nii.gz", VOXELS[..., np.newaxis])
    assert read_nifti(one).volume.shape == (4, 5, 6)
    assert read_nifti(one, ReadPolicy(volume=0)).volume.shape == (4, 5, 6)
    several = saved(tmp_path / "several.nii.gz", np.stack([VOXELS, VOXELS + 1], axis=-1))
    error = refused(several)
    assert error.code == "several_volumes"
    assert "holds 2 volumes" in error.sentence
    assert "--volume 0 to --volume 1" in error.sentence
    got = read_nifti(several, ReadPolicy(volume=1)).volume.array
    np.testing.assert_array_equal(got, VOXELS + 1)
    assert refused(several, volume=2).code == "no_such_volume"


def test_one_volume_of_several_does_not_keep_the_others(tmp_path: Path) -> None:
    path = saved(tmp_path / "several.nii.gz", np.stack([VOXELS] * 3, axis=-1))
    owner = read_nifti(path, ReadPolicy(volume=1)).volume.array
    while owner.base is not None:
        owner = owner.base
    assert owner.nbytes == VOXELS.nbytes
    assert survey_nifti(path, ReadPolicy(volume=1)).volume.array.strides == (0, 0, 0)


def test_a_single_slice_may_have_two_axes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", VOXELS[:, :, 0])
    assert read_nifti(path).volume.shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty_file", "0 bytes"),
        (b"<!DOCTYPE html><html>no</html>" * 20, "not_nifti", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not_nifti", "git lfs pull"),
        (bytes(1000), "not_nifti", "not a NIfTI file"),
        (b"\x1f\x8b" + bytes(100), "corrupt", "damaged"),
        (b"NRRD0004\ntype: short\n" * 20, "not_nifti", "an NRRD file; rename it to end in .nrrd"),
        (b"ObjectType = Image\n" * 20, "not_nifti", "a MetaImage file; rename it to end in .mha"),
        (b"PK\x03\x04" * 99, "not_nifti", "a zip archive; rename it to end in .zip"),
        (bytes(128) + b"DICM" + bytes(400), "not_nifti", "folder of its series"),
        ((348).to_bytes(4, "little") + bytes(400), "not_nifti", "Analyze 7.5"),
    ],
)
def test_files_that_are_not_nifti_are_refused_with_their_kind(
    tmp_path: Path, content, code, words
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    error = refused(path)
    assert error.code == code
    assert words in error.sentence
    assert "a.nii.gz" in error.sentence


def edited(path: Path, changes: dict[int, np.ndarray]) -> Path:
    """A file with values of its header replaced, by their place in bytes."""
    content = bytearray(saved(path).read_bytes())
    for offset, value in changes.items():
        content[offset : offset + value.nbytes] = value.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (40, np.array([3, 30000, 30000, 30000], "<i2"), "truncated"),
        (40, np.array([3, -4, 5, 6], "<i2"), "bad_header"),
        (40, np.array([3, 0, 5, 6], "<i2"), "bad_header"),
        (40, np.array([9], "<i2"), "bad_header"),
        (70, np.array([128], "<i2"), "not_scalar"),  # RGB
        (70, np.array([32], "<i2"), "not_scalar"),  # complex
        (70, np.array([7777], "<i2"), "bad_header"),
        (108, np.array([np.nan], "<f4"), "bad_header"),
    ],
)
def test_an_impossible_header_is_refused_before_anything_is_allocated(
    tmp_path: Path, offset, value, code
) -> None:
    assert refused(edited(tmp_path / "a.nii", {offset: value})).code == code


@pytest.mark.parametrize(
    ("kind", "codes_at", "code", "pixdim_at", "size"),
    [(nibabel.Nifti1Image, 252, "<i2", 88, "<f4"), (nibabel.Nifti2Image, 344, "<i4", 128, "<f8")],
)
@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_voxel_size_of_0_is_refused_without_an_sform(
    tmp_path: Path, kind, codes_at, code, pixdim_at, size, qform_code
) -> None:
    path = saved(tmp_path / "a.nii", kind=kind)
    content = bytearray(path.read_bytes())
    np.frombuffer(content, code, 2, codes_at)[:] = qform_code, 0
    third = np.frombuffer(content, size, 1, pixdim_at)
    assert third == 2.5
    third[:] = 0
    path.write_bytes(content)
    error = refused(path)
    assert error.code == "bad_affine"
    assert "(pixdim) is [1.5, 2.0, 0.0] mm: write the true size there" in error.sentence


def test_a_voxel_size_of_0_is_accepted_with_an_sform(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.nii", {88: np.zeros(1, "<f4")})
    np.testing.assert_allclose(read_nifti(path).volume.affine, AFFINE)


def test_a_gzip_bomb_is_stopped_at_the_size_that_its_header_promises(tmp_path: Path) -> None:
    content = saved(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(50_000_000)))
    error = refused(path)
    assert error.code == "too_long"
    # The other way round: a header that promises far more than any stream of this size holds.
    huge = bytearray(content)
    huge[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(huge)))
    assert refused(path).code == "truncated"


def test_a_missing_file_of_a_pair_is_reported(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.hdr", kind=nibabel.Nifti1Pair)
    (tmp_path / "a.img").unlink()
    assert refused(path).code == "missing_pair"
    assert refused(tmp_path / "none.img").code == "missing_pair"
    assert refused(tmp_path / "none.nii").code == "unreadable"
    assert refused(tmp_path).code == "not_nifti"


def test_conflicting_forms_and_missing_codes_give_notices(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)
    nibabel.save(image, tmp_path / "conflict.nii")
    scan = read_nifti(tmp_path / "conflict.nii")
    assert [notice.code for notice in scan.notices] == ["form_conflict"]
    np.testing.assert_allclose(scan.volume.affine, AFFINE)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "none.nii")
    scan = read_nifti(tmp_path / "none.nii")
    assert [notice.code for notice in scan.notices] == ["no_orientation"]
    assert "LAS" in scan.notices[0].sentence


@pytest.mark.parametrize(
    ("unit", "millimetres"), [(0, 1), (1, 1000), (2, 1), (3, 1e-3), (3 + 8, 1e-3), (7, 1)]
)
def test_every_unit_of_space_becomes_mm_as_in_simpleitk(tmp_path: Path, unit, millimetres) -> None:
    path = saved(tmp_path / "a.nii", xyzt_units=unit)
    scan = read_nifti(path)
    np.testing.assert_allclose(scan.volume.affine[:3], AFFINE[:3] * millimetres, rtol=1e-6)
    assert [notice.code for notice in scan.notices] == ["unit"] * (millimetres != 1)
    other = SimpleITK.ReadImage(path)
    np.testing.assert_allclose(scan.volume.spacing_mm, other.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(
        scan.volume.affine[:3, 3], np.multiply(other.GetOrigin(), (-1, -1, 1)), rtol=1e-6
    )


# Where the header of a NIfTI-1 file has them.
PIXDIM, QFORM_CODE, SFORM_CODE, QUATERN_B, SROW_X = 80, 252, 254, 256, 280
WRONG = np.array([np.nan], "<f4")
LONG = np.array([2], "<f4")
NONE = np.zeros(1, "<i2")


@pytest.mark.parametrize(
    "sform", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.diag([1.0, 1, 0, 1])[:3]]
)
def test_an_sform_that_is_no_grid_gives_way_to_the_qform(tmp_path: Path, sform) -> None:
    rows = {SROW_X: sform.astype("<f4")}
    scan = read_nifti(edited(tmp_path / "a.nii", rows))
    np.testing.assert_allclose(scan.volume.affine, AFFINE, rtol=1e-6)
    assert [notice.code for notice in scan.notices] == ["bad_sform"]
    assert scan.volume.codes == (0, 1)
    # Without a qform, or with one that is no grid either, the position is unknown. nibabel would
    # guess 1 mm for a voxel size of 0.
    for more in ({QFORM_CODE: NONE}, {QUATERN_B: WRONG}, {QUATERN_B: LONG}, {PIXDIM: LONG * 0}):
        assert refused(edited(tmp_path / "b.nii", rows | more)).code == "bad_affine"


@pytest.mark.parametrize("quaternion", [WRONG, LONG])
def test_a_qform_that_is_no_grid_gives_way_to_the_sform(tmp_path: Path, quaternion) -> None:
    scan = read_nifti(edited(tmp_path / "a.nii", {QUATERN_B: quaternion}))
    np.testing.assert_allclose(scan.volume.affine, AFFINE)
    assert [notice.code for notice in scan.notices] == ["form_conflict"]
    alone = edited(tmp_path / "b.nii", {QUATERN_B: quaternion, SFORM_CODE: NONE})
    assert refused(alone).code == "bad_affine"


def test_the_real_edge_files_are_read_as_nibabel_reads_them(data_dir: Path) -> None:
    compared = 0
    for path in sorted((data_dir / "edge_cases/nifti").rglob("*")):
        try:
            image = nibabel.load(path)
            expected = np.squeeze(np.asanyarray(image.dataobj))
        except Exception:  # nibabel refuses it: so must we, with a reason
            assert refused(path).code in ("not_nifti", "missing_pair")
            continue
        several = np.prod(image.shape[3:]) > 1
        scan = read_nifti(path, ReadPolicy(volume=0 if several else None))
        if several:
            first = np.asanyarray(image.dataobj).reshape((*image.shape[:3], -1), order="F")[..., 0]
            expected = np.squeeze(first)
        np.testing.assert_allclose(np.squeeze(scan.volume.array), expected, rtol=1e-6)
        np.testing.assert_allclose(scan.volume.affine, image.affine, atol=1e-6)
        compared += 1
    assert compared >= 10
