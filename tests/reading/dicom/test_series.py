"""DICOM series that are made here: read exactly, or refused with the reason."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicoms import OBLIQUE, SERIES, affine, make_slice, save, voxels, write_dicomdir, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from voxtile.errors import CaseError
from voxtile.reading.channels import read_scan
from voxtile.reading.dicom import pixels, read_series
from voxtile.reading.dicom.series import read_here
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import ReadPolicy, Scan


def values(stored: np.ndarray) -> np.ndarray:
    """What the slices of `write_series` mean, in storage order."""
    return stored.astype(int).T - 1024


def codes(scan: Scan) -> list[str]:
    """Codes of what was noticed."""
    return [notice.code for notice in scan.notices]


def refused(folder: Path, policy: ReadPolicy | None = None) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder, policy)
    return caught.value


# What is read


def test_voxels_and_positions_are_those_of_the_header(tmp_path: Path) -> None:
    stored = voxels()
    expected = write_series(tmp_path, stored)
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert scan.volume.array.dtype == np.int16
    np.testing.assert_allclose(scan.volume.affine, expected, atol=1e-9)
    assert scan.notices == ()


def test_highdicom_reads_the_same(tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    ours = read_series(tmp_path).volume
    files = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    # What highdicom wants besides, and no geometry needs.
    for dataset in files:
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            setattr(dataset, keyword, "")
        for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "SeriesNumber"):
            setattr(dataset, keyword, None)
        dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    theirs = highdicom.get_volume_from_series(files, apply_presentation_lut=False)
    theirs = theirs.to_patient_orientation("RAS")
    turned = highdicom.Volume(
        ours.array, np.diag([-1, -1, 1, 1]) @ ours.affine, coordinate_system="PATIENT"
    ).to_patient_orientation("RAS")
    np.testing.assert_array_equal(turned.array, theirs.array)
    np.testing.assert_allclose(turned.affine, theirs.affine, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(5)), numbers=st.permutations(range(5)))
def test_neither_file_order_nor_instance_numbers_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], numbers: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    stored = voxels()
    for index, place in enumerate(order):
        dataset = make_slice(place, stored[place], InstanceNumber=numbers[index])
        save(dataset, folder / f"{index}")
    scan = read_series(folder)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    np.testing.assert_allclose(scan.volume.affine, affine(), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    slopes=st.lists(st.integers(-300, 300).filter(bool), min_size=3, max_size=3),
    intercept=st.integers(-40000, 40000),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"]),
    seed=st.integers(0, 1000),
)
def test_whole_numbers_are_rescaled_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    slopes: list[int],
    intercept: int,
    dtype: str,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("series")
    info = np.iinfo(dtype)
    stored = np.random.default_rng(seed).integers(
        info.min, info.max, (3, 4, 6), dtype, endpoint=True
    )
    bits = {"BitsAllocated": info.bits, "BitsStored": info.bits, "HighBit": info.bits - 1}

    def change(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope = slopes[index]

    write_series(folder, stored, change, RescaleIntercept=intercept, **bits)
    array = read_series(folder).volume.array
    exact = [stored[k].astype(object) * slope + intercept for k, slope in enumerate(slopes)]
    assert (array.astype(object) == np.array(exact).T).all()
    narrowest = next(
        name
        for name in ("int16", "int32", "int64")
        if np.iinfo(name).min <= np.min(exact) and np.max(exact) <= np.iinfo(name).max
    )
    assert array.dtype == narrowest


@settings(max_examples=10, deadline=None)
@given(
    slope=st.decimals("0.001", "1000", places=4).filter(lambda value: value % 1 != 0),
    intercept=st.decimals("-1000", "1000", places=3),
)
def test_fractions_are_rescaled_in_float64_and_rounded_once(
    tmp_path_factory: pytest.TempPathFactory, slope: Any, intercept: Any
) -> None:
    folder = tmp_path_factory.mktemp("series")
    stored = voxels(2)
    write_series(folder, stored, RescaleSlope=str(slope), RescaleIntercept=str(intercept))
    array = read_series(folder).volume.array
    expected = (stored.T * float(slope) + float(intercept)).astype(np.float32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
    ],
)
def test_the_transfer_syntax_does_not_matter(syntax: Any, tmp_path: Path) -> None:
    stored = voxels(3, 64, 64)

    def change(dataset: Dataset, index: int) -> None:
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = stored[index].byteswap().tobytes()

    write_series(tmp_path, stored, change)
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, values(stored))


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("columns", [4, 3])
def test_big_endian_bytes_in_words_are_swapped(vr: str, columns: int, tmp_path: Path) -> None:
    stored = np.arange(3 * 3 * columns, dtype=np.uint8).reshape(3, 3, columns)

    def change(dataset: Dataset, index: int) -> None:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        content = np.frombuffer(
            dataset.PixelData.ljust(3 * columns + columns % 2, b"\0"), np.uint16
        )
        dataset.PixelData = (content.byteswap() if vr == "OW" else content).tobytes()
        dataset["PixelData"].VR = vr

    write_series(tmp_path, stored, change, BitsAllocated=8, BitsStored=8, HighBit=7)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "002.dcm").pixel_array, stored[2])
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, values(stored))


def test_signed_pixels_of_twelve_bits_keep_their_sign(tmp_path: Path) -> None:
    stored = np.array([[[-2048, -1], [0, 2047]]], np.int16)
    packed = (stored & 0x0FFF).astype(np.int16)  # no sign in the bits that do not count
    write_series(
        tmp_path, packed, BitsStored=12, HighBit=11, RescaleIntercept=0, PixelRepresentation=1
    )
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, stored.T)
    assert codes(scan) == ["unused_bits"]


def test_one_file_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    stored = voxels(1)
    write_series(tmp_path, stored)
    scan = read_scan(tmp_path / "000.dcm")
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert scan.volume.spacing_mm == pytest.approx((0.5, 0.75, 3))
    assert codes(scan) == ["single_slice"]
    assert codes(read_series(tmp_path)) == []


def test_monochrome1_values_are_kept_with_a_notice(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, PhotometricInterpretation="MONOCHROME1")
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert codes(scan) == ["monochrome1"]


def test_a_ct_without_rescale_is_read_with_a_notice(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, RescaleSlope=None, RescaleIntercept=None)
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, stored.T)
    assert codes(scan) == ["no_rescale"]


# Which series


def test_objects_that_are_not_volumes_are_left_out(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path / "deep" / "down", stored)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2.3"}
    write_series(tmp_path / "scout", voxels(2), **scout)
    page = {"SOPClassUID": SecondaryCaptureImageStorage, "SeriesInstanceUID": "1.2.4"}
    write_series(tmp_path / "page", voxels(1), ImagePositionPatient=None, **page)
    planes = {"SeriesInstanceUID": "1.2.5"}
    turns = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]]

    def turn(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = turns[index]

    write_series(tmp_path / "planes", voxels(3), turn, **planes)
    report = Dataset()
    report.update(make_slice(0, voxels(1)[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"))
    report.file_meta = make_slice(0, voxels(1)[0]).file_meta
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    for keyword in ("PixelData", "Rows", "BitsAllocated"):
        delattr(report, keyword)
    save(report, tmp_path / "report")
    (tmp_path / "README").write_text("not DICOM\n")
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / ".DS_Store").write_bytes(b"\0\1")
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert codes(scan) == ["left_aside", "ignored_files"]
    assert str(scan.notices[0]) == (
        "left_aside: not read: scouts (2), images without a position in the patient (1), "
        "slices of a series with several orientations (3), other DICOM objects (1)"
    )


def test_a_rounded_orientation_leaves_no_series_out(tmp_path: Path) -> None:
    def jitter(dataset: Dataset, index: int) -> None:
        turn = 0.005 + (-1) ** index * 1e-6
        dataset.ImageOrientationPatient = [1, turn, 0, -turn, 1, 0]
        dataset.ImagePositionPatient = [0, 0, 2.5 * index]

    write_series(tmp_path / "many", voxels(5), jitter)
    assert read_series(tmp_path / "many").volume.shape[2] == 5
    write_series(tmp_path / "few", voxels(3), SeriesInstanceUID="1.2.3")
    assert refused(tmp_path).code == "several_series"


@pytest.fixture(scope="module")
def three_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT of 5 slices, CT of 3, MR of 5."""
    folder = tmp_path_factory.mktemp("three")
    write_series(folder / "a", voxels(5))
    write_series(folder / "b", voxels(3), SeriesInstanceUID="1.2.3")
    write_series(folder / "c", voxels(4), SeriesInstanceUID="1.2.4", Modality="MR")
    return folder


def test_several_series_are_listed_and_none_is_guessed(three_series: Path) -> None:
    error = refused(three_series)
    assert error.code == "several_series"
    assert "3 series: id=" in error.sentence
    assert "(CT, 5 slices, 0.5 x 0.75 x 2.5 mm)" in error.sentence
    assert "(MR, 4 slices, 0.5 x 0.75 x 2.5 mm)" in error.sentence
    assert SERIES not in error.sentence and "1.2.4" not in error.sentence


@pytest.mark.parametrize(
    ("rule", "slices"),
    [
        ("largest", 5),
        ("modality=MR", 4),
        ("modality=ct, largest", 5),
        ("modality=CT,slices<=4", 3),
        ("slices>=5", 5),
        ("1.2.3", 3),
        (SERIES, 5),
    ],
)
def test_a_rule_chooses_a_series(rule: str, slices: int, three_series: Path) -> None:
    scan = read_series(three_series, ReadPolicy(series=rule))
    assert scan.volume.shape[2] == slices
    assert codes(scan) == ["series_chosen"]


def test_the_id_of_the_list_chooses_a_series(three_series: Path) -> None:
    listed = refused(three_series).sentence
    label = listed.split(" (MR")[0].split()[-1]
    assert read_series(three_series, ReadPolicy(series=label)).volume.shape[2] == 4


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("modality=CT", "several_series"),
        ("modality=US", "no_such_series"),
        ("slices>=900,largest", "no_such_series"),
        ("the best one", "bad_series_rule"),
        ("", "several_series"),
    ],
)
def test_a_rule_that_does_not_leave_one_series_is_refused(
    rule: str, code: str, three_series: Path
) -> None:
    assert refused(three_series, ReadPolicy(series=rule)).code == code


def test_a_dicomdir_stands_for_its_files(tmp_path: Path) -> None:
    stored = voxels()
    for index, picture in enumerate(stored):
        save(make_slice(index, picture), tmp_path / "MEDIUM" / "IMAGES" / f"IM{index}")
    write_series(tmp_path / "MEDIUM" / "MORE", voxels(2), SeriesInstanceUID="1.2.9")
    write_dicomdir(tmp_path / "MEDIUM", [["IMAGES", f"IM{index}"] for index in range(5)])
    scan = read_scan(tmp_path / "MEDIUM" / "DICOMDIR")
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    (tmp_path / "MEDIUM" / "IMAGES" / "IM2").unlink()
    error = refused(tmp_path / "MEDIUM" / "DICOMDIR")
    assert error.code == "missing_files"
    assert "5 files, but 1 of them" in error.sentence


@pytest.mark.parametrize("parts", [["..", "a.dcm"], ["/", "a.dcm"], ["x/../..", "a.dcm"]])
def test_a_dicomdir_cannot_name_files_outside_its_folder(parts: list[str], tmp_path: Path) -> None:
    save(make_slice(0, voxels()[0]), tmp_path / "a.dcm")
    directory = Dataset()
    directory.file_meta = make_slice(0, voxels()[0]).file_meta
    directory.DirectoryRecordSequence = [Dataset()]
    element = pydicom.DataElement(0x00041500, "CS", parts, validation_mode=pydicom.config.IGNORE)
    directory.DirectoryRecordSequence[0].add(element)
    save(directory, tmp_path / "medium" / "DICOMDIR")
    assert refused(tmp_path / "medium" / "DICOMDIR").code == "missing_files"


# What is wrong


def drop(folder: Path, *indices: int) -> None:
    """Delete slices."""
    for index in indices:
        (folder / f"{index:03d}.dcm").unlink()


def test_missing_slices_are_reported_with_place_and_gap(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(9))
    drop(tmp_path, 3, 6, 7)
    error = refused(tmp_path)
    assert error.code == "missing_slices"
    assert error.sentence.startswith(
        "3 of 9 slices missing: after slice 3 (5 mm), after slice 5 (7.5 mm), counted along "
        "the stack, with a spacing of 2.5 mm"
    )


def test_missing_slices_are_interpolated_on_request(tmp_path: Path) -> None:
    stored = voxels(9)
    expected = write_series(tmp_path, stored)
    drop(tmp_path, 3, 6, 7)
    scan = read_series(tmp_path, ReadPolicy(missing_slices="interpolate"))
    assert codes(scan) == ["missing_interpolated"]
    np.testing.assert_allclose(scan.volume.affine, expected, atol=1e-9)
    truth = values(stored).astype(float)
    truth[..., 3] = (truth[..., 2] + truth[..., 4]) / 2
    truth[..., 6] = truth[..., 5] * 2 / 3 + truth[..., 8] / 3
    truth[..., 7] = truth[..., 5] / 3 + truth[..., 8] * 2 / 3
    np.testing.assert_allclose(scan.volume.array, truth, atol=0.5)
    kept = [0, 1, 2, 4, 5, 8]
    np.testing.assert_array_equal(scan.volume.array[..., kept], truth[..., kept])


def test_uneven_spacing_is_refused(tmp_path: Path) -> None:
    def move(dataset: Dataset, index: int) -> None:
        position = np.array(dataset.ImagePositionPatient, float)
        across, down = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
        position += np.cross(across, down) * (0.8 if index == 2 else 0)
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in position]

    write_series(tmp_path, voxels(6), move)
    error = refused(tmp_path, ReadPolicy(missing_slices="interpolate"))
    assert error.code == "uneven_spacing"
    assert "1.7 to 3.3 mm apart (most often 2.5 mm)" in error.sentence


def test_positions_in_tenths_of_a_millimetre_are_read_with_a_notice(tmp_path: Path) -> None:
    def round_off(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, f"{0.625 * index:.1f}"]

    stored = voxels(17)
    write_series(tmp_path, stored, round_off)
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert scan.volume.spacing_mm[2] == pytest.approx(0.625)
    assert codes(scan) == ["rounded_positions"]


def test_identical_duplicates_are_left_out_with_a_notice(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    shutil.copy(tmp_path / "002.dcm", tmp_path / "zzz.dcm")
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert [str(notice) for notice in scan.notices] == [
        "duplicates_dropped: 1 identical copy of slices left out"
    ]


def test_a_series_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path / "a", stored)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert codes(scan) == ["duplicates_dropped"]


def test_conflicting_duplicates_are_refused_or_the_first_is_taken(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    save(make_slice(2, stored[3]), tmp_path / "zzz.dcm")
    error = refused(tmp_path)
    assert error.code == "duplicate_slices"
    assert "1 of 5 positions" in error.sentence and "file 3 of 6 and file 6 of 6" in error.sentence
    scan = read_series(tmp_path, ReadPolicy(duplicates="first"))
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert codes(scan) == ["duplicates_first"]


def write_repeats(folder: Path, count: int) -> np.ndarray:
    """Write a series of `count` volumes, one after the other in time."""
    stored = np.stack([voxels(seed=seed) for seed in range(count)])
    for repeat, volume in enumerate(stored):
        for index, picture in enumerate(volume):
            number = 1 + index + len(volume) * repeat
            dataset = make_slice(index, picture, InstanceNumber=number)
            # The order of names is not the order of time.
            save(dataset, folder / f"{count - repeat}" / f"{index:03d}.dcm")
    return stored


def test_several_volumes_are_counted_and_one_is_chosen(tmp_path: Path) -> None:
    stored = write_repeats(tmp_path, 3)
    error = refused(tmp_path)
    assert error.code == "several_volumes"
    assert (
        "3 volumes of 5 slices" in error.sentence and "--volume 0 to --volume 2" in error.sentence
    )
    for volume in range(3):
        scan = read_series(tmp_path, ReadPolicy(volume=volume))
        np.testing.assert_array_equal(scan.volume.array, values(stored[volume]))
    assert refused(tmp_path, ReadPolicy(volume=3)).code == "no_such_volume"


def test_volume_0_is_accepted_for_a_single_volume(tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    assert read_series(tmp_path, ReadPolicy(volume=0)).volume.shape == (6, 4, 5)
    assert refused(tmp_path, ReadPolicy(volume=1)).code == "no_such_volume"


def test_an_incomplete_repeat_is_refused(tmp_path: Path) -> None:
    stored = write_repeats(tmp_path, 3)
    drop(tmp_path / "2", 1)
    assert refused(tmp_path, ReadPolicy(volume=1, duplicates="first")).code == "incomplete_volumes"
    for volume in (0, 2):
        scan = read_series(tmp_path, ReadPolicy(volume=volume, duplicates="first"))
        np.testing.assert_array_equal(scan.volume.array, values(stored[volume]))
        assert codes(scan) == ["incomplete_volumes"]
    # Where instances do not count through the places, the volumes are not known.
    path = tmp_path / "1" / "000.dcm"
    dataset = pydicom.dcmread(path)
    dataset.InstanceNumber = 99
    save(dataset, path)
    error = refused(tmp_path, ReadPolicy(volume=0, duplicates="first"))
    assert error.code == "incomplete_volumes"
    assert "most of the 5 positions have 3 slices" in error.sentence
    assert "1 position has 2" in error.sentence


def test_volumes_that_cannot_be_separated_are_refused(tmp_path: Path) -> None:
    write_repeats(tmp_path, 2)
    path = tmp_path / "1" / "003.dcm"
    dataset = pydicom.dcmread(path)
    del dataset.InstanceNumber
    save(dataset, path)
    assert refused(tmp_path, ReadPolicy(volume=0)).code == "mixed_volumes"


def shear(degrees: float) -> Callable[[Dataset, int], None]:
    """Slices upright in the scanner's gantry, moved along the table."""
    angle = np.radians(degrees)

    def change(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = [
            1,
            0,
            0,
            0,
            f"{np.cos(angle):.8f}",
            f"{-np.sin(angle):.8f}",
        ]
        dataset.ImagePositionPatient = [-10, -20, 2.5 * index]

    return change


@pytest.mark.parametrize("degrees", [-20, 5, 18.5])
def test_tilt_is_refused_with_its_angle(degrees: float, tmp_path: Path) -> None:
    write_series(tmp_path, voxels(), shear(degrees))
    error = refused(tmp_path)
    assert error.code == "gantry_tilt"
    assert f"sheared by {abs(degrees):.1f} degrees" in error.sentence


def test_tilt_native_keeps_every_slice_where_it_was(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, shear(15))
    scan = read_series(tmp_path, ReadPolicy(tilt="native"))
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    np.testing.assert_allclose(scan.volume.affine[:3, 2], (0, 0, 2.5), atol=1e-6)
    assert codes(scan) == ["gantry_tilt"]


@pytest.mark.parametrize("degrees", [-20, 5, 18.5])
def test_tilt_resample_is_exact_for_values_linear_in_space(degrees: float, tmp_path: Path) -> None:
    # A ramp along each slice, so that linear interpolation must give it back exactly.
    count, rows, columns = 6, 30, 4
    angle = np.radians(degrees)
    down = np.array([0, np.cos(angle), -np.sin(angle)])
    row = np.arange(rows)
    along = [(np.array([-10, -20, 2.5 * k]) @ down + row * 0.75) * 20 for k in range(count)]
    stored = np.rint(np.repeat(np.array(along)[:, :, None], columns, 2) + 8192).astype(np.uint16)
    write_series(tmp_path, stored, shear(degrees), RescaleIntercept=0)
    scan = read_series(tmp_path, ReadPolicy(tilt="resample"))
    volume = scan.volume
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    i, j, k = np.indices(volume.shape)
    world = np.stack([i, j, k, np.ones_like(i)], -1) @ volume.affine.T
    expected = world[..., :3] @ (down * [-1, -1, 1]) * 20 + 8192
    inside = volume.array != volume.array.min()
    assert inside.mean() > 0.5
    np.testing.assert_allclose(volume.array[inside], expected[inside], atol=1.1)


@pytest.mark.parametrize(
    ("changes", "index", "code", "words"),
    [
        ({"Rows": 6, "Columns": 4}, 2, "mixed_size", "4 x 6 .4 slices., 6 x 4 .1 slice."),
        ({"PixelSpacing": [0.75, 0.6]}, 2, "mixed_spacing", "2 pixel spacings .4 and 1 slices."),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            2,
            "mixed_orientation",
            "2 orientations .4 and 1 slices.",
        ),
        ({"FrameOfReferenceUID": "1.2"}, 2, "mixed_frame_of_reference", "2 frames of reference"),
        ({"EchoTime": 20}, 2, "mixed_volumes", "differ in echo"),
        ({"ImagePositionPatient": None}, 2, "no_geometry", "file 3 of 5 needs 3 finite numbers"),
        ({"ImageOrientationPatient": None}, 2, "no_geometry", "file 3 of 5 needs 6 finite"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, 2, "no_geometry", "right angles"),
        ({"PixelSpacing": [0, 1]}, 2, "no_geometry", "needs a positive PixelSpacing"),
        ({"PixelSpacing": None}, 2, "no_geometry", "needs 2 finite numbers in PixelSpacing"),
        ({"PhotometricInterpretation": "RGB"}, 2, "colour", "file 3 of 5 has coloured pixels"),
        ({"SamplesPerPixel": 3}, 2, "colour", "file 3 of 5"),
        ({"RescaleSlope": None}, 2, "bad_rescale", "needs both"),
        ({"RescaleSlope": 0}, 2, "bad_rescale", "needs both RescaleSlope .not 0."),
        ({"RescaleSlope": None, "RescaleIntercept": None}, 2, "bad_rescale", "only 4 of 5 slices"),
        ({"HighBit": 7}, 2, "pixel_layout", "file 3 of 5"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, 2, "pixel_layout", "12 of 12"),
        ({"NumberOfFrames": 3}, 2, "no_geometry", "3 frames without their positions"),
        ({"BitsStored": None}, 2, "damaged", "no valid BitsStored"),
    ],
)
def test_one_different_slice_is_refused_with_its_number(
    changes: dict[str, Any], index: int, code: str, words: str, tmp_path: Path
) -> None:
    def change(dataset: Dataset, at: int) -> None:
        for keyword, value in changes.items() if at == index else ():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    write_series(tmp_path, voxels(), change)
    with pytest.raises(CaseError, match=words) as caught:
        read_series(tmp_path)
    assert caught.value.code == code


def test_fewer_pixels_than_the_header_promises_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(), Rows=40)
    error = refused(tmp_path)
    assert error.code == "truncated"
    assert "file 1 of 5 has 48 bytes of pixel data, but its header promises 480" in error.sentence


def test_slices_off_the_line_are_refused(tmp_path: Path) -> None:
    def move(dataset: Dataset, index: int) -> None:
        across = np.array(dataset.ImageOrientationPatient, float)[:3]
        position = np.array(dataset.ImagePositionPatient, float) + across * (index == 2)
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in position]

    write_series(tmp_path, voxels(), move)
    error = refused(tmp_path, ReadPolicy(tilt="native"))
    assert error.code == "shifted_slices"
    assert "up to 1 mm off the line" in error.sentence


def test_a_modality_lut_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(1), ModalityLUTSequence=[Dataset()])
    assert refused(tmp_path).code == "modality_lut"


def test_scouts_alone_are_not_a_volume(tmp_path: Path) -> None:
    write_series(tmp_path, voxels(2), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert refused(tmp_path).code == "only_scouts"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.97])
def test_a_truncated_slice_is_refused_with_its_number(keep: float, tmp_path: Path) -> None:
    write_series(tmp_path, voxels(5, 20, 20))
    path = tmp_path / "003.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    error = refused(tmp_path)
    assert error.code == ("empty_file" if keep == 0 else "truncated")
    assert error.sentence.startswith("file 4 of 5")


def test_garbage_between_slices_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    (tmp_path / "0025").write_bytes(bytes(5000))
    error = refused(tmp_path)
    assert error.code == "not_dicom"
    assert error.sentence.startswith("file 4 of 6 is not a DICOM file")


def test_a_broken_link_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    (tmp_path / "002.dcm").unlink()
    (tmp_path / "002.dcm").symlink_to(tmp_path / "annex")
    error = refused(tmp_path)
    assert error.code == "unreadable"
    assert error.sentence.startswith("file 3 of 5 is a link to a missing file")


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path / "elsewhere", stored)
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "case" / "second").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "case")
    scan = read_series(tmp_path / "case")
    np.testing.assert_array_equal(scan.volume.array, values(stored))
    assert scan.notices == ()


def test_a_pipe_among_the_files_is_ignored(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    os.mkfifo(tmp_path / "pipe")
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, values(stored))


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    assert refused(tmp_path).code == "not_dicom"
    assert refused(tmp_path / "none").code == "unreadable"


def test_an_unsupported_transfer_syntax_is_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG-2
        dataset.PixelData = pydicom.encaps.encapsulate([b"ab"])
        dataset["PixelData"].is_undefined_length = True

    write_series(tmp_path, voxels(1), change)
    assert refused(tmp_path).code == "unsupported_syntax"


def here(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read in this process, where something can be put in place of something else."""
    handle = os.memfd_create("test")
    try:
        return read_here(Workspace(handle, lambda _: None), path, policy or ReadPolicy())
    finally:
        os.close(handle)


def test_a_missing_codec_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, voxels(1, 64, 64), lambda dataset, _: dataset.compress(JPEG2000Lossless))
    assert here(tmp_path).volume.shape == (64, 64, 1)
    monkeypatch.setattr(pixels, "_PLUGINS", {"JPEG": ("none",)})
    with pytest.raises(CaseError) as caught:
        here(tmp_path)
    assert caught.value.code == "missing_codec"
    assert caught.value.sentence.endswith('run: pip install "voxtile[dicom-codecs]"')


def enhanced(stored: np.ndarray) -> Dataset:
    """One file of two volumes, frames in no order, its shared groups above the frames' own."""
    repeats, count, *_ = stored.shape
    across, down = np.array(OBLIQUE)
    order = np.random.default_rng(0).permutation(repeats * count)
    frames = []
    for number in order:
        repeat, index = divmod(int(number), count)
        frame, position, content, value = (Dataset() for _ in range(4))
        place = np.array([-30.0, 12.5, 7.25]) + 2.5 * index * np.cross(across, down)
        position.ImagePositionPatient = [f"{number:.10g}" for number in place]
        content.TemporalPositionIndex = repeat + 1
        value.RescaleSlope, value.RescaleIntercept = index + 1, repeat - 1024
        frame.PlanePositionSequence = [position]
        frame.FrameContentSequence = [content]
        frame.PixelValueTransformationSequence = [value]
        frames.append(frame)
    shared, orientation, measures = (Dataset() for _ in range(3))
    orientation.ImageOrientationPatient = [*across, *down]
    measures.PixelSpacing = [0.75, 0.5]
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    flat = stored.reshape(-1, *stored.shape[2:])[order]
    top = dict.fromkeys(
        (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "RescaleSlope",
            "RescaleIntercept",
        )
    )
    dataset = make_slice(
        0,
        flat,
        SOPClassUID=EnhancedCTImageStorage,
        Rows=stored.shape[2],
        Columns=stored.shape[3],
        NumberOfFrames=len(flat),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        **top,
    )
    return dataset


@pytest.mark.parametrize("compressed", [False, True])
def test_an_enhanced_file_is_read_by_its_frames_groups(compressed: bool, tmp_path: Path) -> None:
    stored = np.stack([voxels(4, 64, 48, seed) for seed in range(2)])
    dataset = enhanced(stored)
    if compressed:
        dataset.compress(JPEG2000Lossless)
    save(dataset, tmp_path / "a")
    assert refused(tmp_path).code == "several_volumes"
    for repeat in range(2):
        scan = read_series(tmp_path, ReadPolicy(volume=repeat))
        slopes = np.arange(1, 5)
        expected = stored[repeat].T.astype(int) * slopes + repeat - 1024
        np.testing.assert_array_equal(scan.volume.array, expected)
        np.testing.assert_allclose(scan.volume.affine, affine(), atol=1e-9)


def test_frames_with_an_odd_number_of_bytes_share_a_big_endian_word(tmp_path: Path) -> None:
    stored = np.arange(3 * 3 * 5, dtype=np.uint16).reshape(1, 3, 3, 5)
    dataset = enhanced(stored)
    frames = np.frombuffer(dataset.PixelData, np.uint16).astype(np.uint8)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = np.append(frames, np.uint8(0)).view(np.uint16).byteswap().tobytes()
    save(dataset, tmp_path / "a")
    expected = stored[0].T.astype(int) * np.arange(1, 4) - 1024
    np.testing.assert_array_equal(read_series(tmp_path).volume.array, expected)


def test_a_frame_without_its_own_rescale_is_refused(tmp_path: Path) -> None:
    dataset = enhanced(voxels()[np.newaxis])
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    save(dataset, tmp_path / "a")
    assert refused(tmp_path).code == "bad_rescale"


def test_an_enhanced_file_must_describe_all_its_frames(tmp_path: Path) -> None:
    dataset = make_slice(0, voxels(2), Rows=4, Columns=6, NumberOfFrames=2)
    frames = []
    for index in range(3):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, index]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    save(dataset, tmp_path / "a.dcm")
    error = refused(tmp_path)
    assert error.code == "damaged"
    assert "states 2 frames but describes 3" in error.sentence


# Privacy


def test_messages_hold_no_text_of_a_tag_and_no_file_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    mark = "MARKER"

    def marked(dataset: Dataset) -> None:
        for keyword in pydicom.datadict.keyword_dict:
            vr = pydicom.datadict.dictionary_VR(keyword)
            group = pydicom.datadict.tag_for_keyword(keyword) >> 16
            if keyword not in dataset and 8 <= group < 0x7F00 and group not in (0x28, 0x5200):
                if vr in ("LO", "SH", "PN", "ST", "LT", "UT", "UC"):
                    setattr(dataset, keyword, mark)
                elif vr in ("DA", "TM", "DT", "AS", "IS", "DS"):
                    # As text, because pydicom would not write a number or date that is none.
                    dataset.add_new(pydicom.datadict.tag_for_keyword(keyword), "LO", mark)
        dataset.Modality = mark
        block = dataset.private_block(0x0099, mark, create=True)
        block.add_new(1, "LO", mark)

    problems: list[dict[str, Any]] = [
        {},
        {"PhotometricInterpretation": "RGB"},
        {"ImagePositionPatient": None},
        {"RescaleSlope": None},
        {"Rows": 100},
        {"ImageType": [mark, mark, mark]},
        {"SOPClassUID": mark},
        {"SeriesInstanceUID": mark},
        {"BitsStored": None},
    ]
    said = []
    for number, changes in enumerate(problems):
        folder = tmp_path / str(number) / mark
        for index, stored in enumerate(voxels()):
            dataset = make_slice(index, stored)
            marked(dataset)
            for keyword, value in changes.items() if index == 1 else ():
                if value is None:
                    delattr(dataset, keyword)
                else:
                    element = pydicom.DataElement(
                        pydicom.datadict.tag_for_keyword(keyword),
                        pydicom.datadict.dictionary_VR(keyword),
                        value,
                        validation_mode=pydicom.config.IGNORE,
                    )
                    dataset.add(element)
            folder.mkdir(parents=True, exist_ok=True)
            pydicom.dcmwrite(folder / f"{mark}{index}.dcm", dataset)
        try:
            said += [str(notice) for notice in read_series(folder).notices]
        except CaseError as error:
            said += [error.code, error.sentence]
    (tmp_path / mark / f"{mark}.dcm").parent.mkdir()
    (tmp_path / mark / f"{mark}.dcm").write_bytes(mark.encode() * 100)
    said.append(refused(tmp_path / mark).sentence)
    said.append(refused(tmp_path / "no" / mark).sentence)
    captured = capfd.readouterr()
    everything = "\n".join([*said, captured.out, captured.err, *(str(w) for w in recwarn)])
    assert len(said) > len(problems)
    assert mark not in everything.upper()


# Policies


def test_a_policy_with_an_unknown_value_is_refused() -> None:
    for name in ("nan", "missing_slices", "duplicates", "tilt"):
        with pytest.raises(ValueError, match=f"{name} 'maybe' must be one of"):
            replace(ReadPolicy(), **{name: "maybe"})


def test_copies_under_new_names_and_uids_are_still_copies(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    dataset = pydicom.dcmread(tmp_path / "001.dcm")
    dataset.SOPInstanceUID = generate_uid()
    save(dataset, tmp_path / "again.dcm")
    assert codes(read_series(tmp_path)) == ["duplicates_dropped"]
