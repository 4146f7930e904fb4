"""One foreign object among the slices of a series does not hinder it; a slice is never left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicoms import make_slice, save, voxels, write_series
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    MRSpectroscopyStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from voxtile.errors import CaseError
from voxtile.reading.dicom import read_series
from voxtile.reading.scan import ReadPolicy

SCREEN = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
NOWHERE: dict[str, Any] = {"ImagePositionPatient": None, "ImageOrientationPatient": None}


def refused(folder: Path, policy: ReadPolicy | None = None) -> CaseError:
    """The error that a folder is refused with."""
    with pytest.raises(CaseError) as caught:
        read_series(folder, policy)
    return caught.value


def require_slices_alone(folder: Path, stored: np.ndarray, sentence: str) -> None:
    """The slices are read, and a notice says what was left aside."""
    scan = read_series(folder)
    np.testing.assert_array_equal(scan.volume.array, stored.astype(int).T - 1024)
    assert [str(notice) for notice in scan.notices] == [f"left_aside: not read: {sentence}"]


@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": SecondaryCaptureImageStorage, **NOWHERE},
        {"SOPClassUID": SecondaryCaptureImageStorage, "PhotometricInterpretation": "RGB"},
        {"SOPClassUID": SecondaryCaptureImageStorage, "Rows": 2, "Columns": 12},
        {"SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage, **NOWHERE},
        {"ImageType": SCREEN, **NOWHERE},
        {"ImageType": ["DERIVED", "SECONDARY"], "PhotometricInterpretation": "RGB"},
        {"ImageType": SCREEN, "PixelSpacing": None},
    ],
)
@pytest.mark.parametrize("name", ["000a", "zzz"])
def test_a_picture_within_the_series_is_left_aside(
    changes: dict[str, Any], name: str, tmp_path: Path
) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    save(make_slice(1, voxels(1)[0], InstanceNumber=99, **changes), tmp_path / name)
    require_slices_alone(tmp_path, stored, "pictures and scouts within the series (1)")


@pytest.mark.parametrize("changes", [{"Rows": 2, "Columns": 12}, {"PixelSpacing": [2, 2]}])
def test_an_unmarked_scout_within_the_series_is_left_aside(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    scout = make_slice(0, voxels(1)[0], ImageOrientationPatient=[1, 0, 0, 0, 0, -1], **changes)
    save(scout, tmp_path / "000a.dcm")
    require_slices_alone(tmp_path, stored, "pictures and scouts within the series (1)")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (NOWHERE, "no_geometry"),
        ({"ImagePositionPatient": None}, "no_geometry"),
        ({"PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": None}, "damaged"),
        ({"Rows": 2, "Columns": 12}, "mixed_size"),
    ],
)
def test_what_may_be_a_slice_is_never_left_aside(
    changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    write_series(tmp_path, voxels())
    save(make_slice(4, voxels(1)[0], **changes), tmp_path / "004.dcm")
    assert refused(tmp_path).code == code


def test_a_series_of_secondary_images_is_read(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    picture = {"SOPClassUID": SecondaryCaptureImageStorage, **NOWHERE}
    save(make_slice(0, voxels(1)[0], **picture), tmp_path / "zzz")
    require_slices_alone(tmp_path, stored, "pictures and scouts within the series (1)")


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.3.46.670589.11.0.0.12.2",  # Philips, Private MR Series Data
        "1.3.46.670589.11.0.0.12.4",
        "1.3.12.2.1107.5.9.1",  # Siemens, CSA Non-Image
        "1.2.840.113619.4.30",  # GE
        RawDataStorage,
        MRSpectroscopyStorage,
        EncapsulatedPDFStorage,
    ],
)
@pytest.mark.parametrize("keep", [["Rows", "Columns"], ["Rows", "Columns", "BitsAllocated"], []])
def test_an_object_that_never_had_pixels_is_left_aside(
    sop_class: str, keep: list[str], tmp_path: Path
) -> None:
    stored = voxels()
    write_series(tmp_path, stored)
    dataset = make_slice(0, voxels(1)[0], SOPClassUID=sop_class)
    for element in list(dataset):
        if element.tag.group in (0x0028, 0x7FE0) and element.keyword not in keep:
            del dataset[element.tag]
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    save(dataset, tmp_path / "XX_0006")
    require_slices_alone(tmp_path, stored, "other DICOM objects (1)")


@pytest.mark.parametrize("sop_class", [CTImageStorage, "1.2.840.113619.4.99"])
def test_an_image_without_its_pixels_is_not_left_aside(sop_class: str, tmp_path: Path) -> None:
    write_series(tmp_path, voxels())
    dataset = make_slice(4, voxels(1)[0], SOPClassUID=sop_class)
    del dataset.PixelData
    save(dataset, tmp_path / "004.dcm")
    error = refused(tmp_path)
    assert error.code == "truncated"
    assert error.sentence.startswith("file 5 of 5 ends before its pixel data")


# An identifier for each slice


def own(keyword: str) -> Any:
    """Give each slice an identifier of its own."""

    def change(dataset: Dataset, index: int) -> None:
        setattr(dataset, keyword, generate_uid())

    return change


def test_slices_of_a_series_each_are_read_as_one_on_request(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, own("SeriesInstanceUID"))
    error = refused(tmp_path)
    assert error.code == "several_series"
    assert "pass --series all to read them as one" in error.sentence
    scan = read_series(tmp_path, ReadPolicy(series="all"))
    np.testing.assert_array_equal(scan.volume.array, stored.astype(int).T - 1024)
    assert scan.notices[0].code == "series_chosen"
    assert scan.notices[0].sentence.startswith("5 series were read as one, id=")


def test_series_at_the_same_places_are_not_offered_as_one(tmp_path: Path) -> None:
    stored = [voxels(seed=1), voxels(seed=2)]
    write_series(tmp_path / "a", stored[0], SeriesInstanceUID="1.2.3")
    write_series(tmp_path / "b", stored[1], SeriesInstanceUID="1.2.4")
    assert "--series all" not in refused(tmp_path).sentence
    # Read as one, they are several volumes, and none is mixed with the other.
    assert refused(tmp_path, ReadPolicy(series="all")).code == "several_volumes"
    for number in range(2):
        array = read_series(tmp_path, ReadPolicy(series="all", volume=number)).volume.array
        np.testing.assert_array_equal(array, stored[number].astype(int).T - 1024)


def test_a_rule_limits_what_is_read_as_one(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path / "ct", stored, own("SeriesInstanceUID"))
    write_series(tmp_path / "mr", voxels(seed=3), own("SeriesInstanceUID"), Modality="MR")
    scan = read_series(tmp_path, ReadPolicy(series="modality=CT, all"))
    np.testing.assert_array_equal(scan.volume.array, stored.astype(int).T - 1024)


def test_a_frame_of_reference_for_each_slice_is_read_with_a_notice(tmp_path: Path) -> None:
    stored = voxels()
    write_series(tmp_path, stored, own("FrameOfReferenceUID"))
    scan = read_series(tmp_path)
    np.testing.assert_array_equal(scan.volume.array, stored.astype(int).T - 1024)
    assert [notice.code for notice in scan.notices] == ["frames_of_reference"]


def test_two_frames_of_reference_are_refused(tmp_path: Path) -> None:
    def change(dataset: Dataset, index: int) -> None:
        dataset.FrameOfReferenceUID = f"1.2.{index // 3}"

    write_series(tmp_path, voxels(), change)
    assert refused(tmp_path).code == "mixed_frame_of_reference"
    assert pydicom.dcmread(tmp_path / "000.dcm").FrameOfReferenceUID == "1.2.0"
