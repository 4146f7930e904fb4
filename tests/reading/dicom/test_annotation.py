"""DICOM SEG and RTSTRUCT as references: laid on the scan's voxels and matched, or refused."""

import gzip
import shutil
import warnings
from pathlib import Path

import highdicom
import nrrd
import numpy as np
import pytest
from dicoms import make_slice, voxels, write_series
from phantoms import ball
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxtile.errors import CaseError
from voxtile.manifest.check import check_manifest
from voxtile.models.spec import Concept, Label
from voxtile.reading.channels import read_scan
from voxtile.reading.dicom import annotation_file
from voxtile.reading.dicom.annotation import match
from voxtile.reading.dicom.drawing import Segment
from voxtile.reading.reference import read_reference
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

LIVER = Concept(value="10200004", scheme="SCT", meaning="Liver")


def labels(*names: str, concept: Concept | None = None) -> list[Label]:
    return [
        Label(value=value, name=name, color="#e6194b", concept=concept)
        for value, name in enumerate(names, start=1)
    ]


def write_structure_set(path: Path, regions: dict[str, list[np.ndarray]], kind="CLOSED_PLANAR"):
    """An RTSTRUCT with contours in LPS mm, numbered from 1."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(regions.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for polygon in polygons:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(polygon)
            contour.ContourData = [f"{value:.10g}" for value in np.ravel(polygon)]
            drawn.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    dataset.save_as(path, enforce_file_format=True)


def write_seg(path: Path, images: list[Dataset], planes: np.ndarray) -> None:
    """A SEG of one segment, drawn on some images."""
    described = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="a",
        segmented_property_category=Code("91723000", "SCT", "Anatomical structure"),
        segmented_property_type=Code("10200004", "SCT", "Liver"),
        algorithm_type="MANUAL",
    )
    for image in images:
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            setattr(image, name, "")
        image.StudyDate = image.StudyTime = image.AccessionNumber = ""
    highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=planes,
        segmentation_type="BINARY",
        segment_descriptions=[described],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="voxtile",
        manufacturer_model_name="voxtile",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


def square(volume: Volume, low: float, high: float, k: float) -> np.ndarray:
    """A square in voxel indices, from corner to corner of slice k, as LPS mm."""
    corners = [(low, low, k), (low, high, k), (high, high, k), (high, low, k)]
    world = [(volume.affine @ (*corner, 1))[:3] for corner in corners]
    return np.array(world) * (-1, -1, 1)


@pytest.mark.parametrize(
    ("folder", "seg", "truth"),
    [
        ("seg_liver_512", "liver_seg.dcm", "liver_seg.nrrd"),
        ("seg_24x38x3", "label_seg.dcm", "label.nrrd"),
    ],
)
def test_a_seg_is_the_mask_it_was_made_from(data_dir: Path, folder, seg, truth) -> None:
    data = data_dir / "dicom_seg_rtstruct" / folder
    scan = read_scan(data / "ct").volume
    mask, notices = read_reference(data / seg, scan, labels("liver"))
    expected, header = nrrd.read(str(data / truth))
    np.testing.assert_array_equal(mask.array, expected)
    np.testing.assert_allclose(header["space origin"] * (-1, -1, 1), scan.affine[:3, 3], atol=1e-3)
    assert not notices
    # Slicer wrote SNOMED's old code of the liver: the same thing.
    coded, _ = read_reference(data / seg, scan, labels("Leber", concept=LIVER))
    np.testing.assert_array_equal(coded.array, mask.array)


def test_the_scan_may_be_a_nifti_file_in_any_storage_order(data_dir: Path, tmp_path: Path) -> None:
    from voxtile.volume import Axes, reorient

    data = data_dir / "dicom_seg_rtstruct/seg_24x38x3"
    scan = read_scan(data / "ct").volume
    straight, _ = read_reference(data / "label_seg.dcm", scan, labels("liver"))
    axes = Axes((2, 0, 1), (True, False, True))
    write_volume(tmp_path / "scan.nii.gz", reorient(scan, axes))
    turned = read_scan(tmp_path / "scan.nii.gz").volume
    mask, _ = read_reference(data / "label_seg.dcm", turned, labels("liver"))
    np.testing.assert_array_equal(mask.array, axes.apply(straight.array))


@pytest.fixture
def small(data_dir: Path) -> tuple[Path, Volume]:
    """The three even slices of the 16 x 16 CT, as a NIfTI-like volume, and the folder."""
    data = data_dir / "dicom_seg_rtstruct/seg_16x16"
    affine = np.diag([-0.488281, -0.488281, 1.25, 1.0])
    affine[:3, 3] = 125.0, 128.100006, 103.019997
    return data, Volume(np.zeros((16, 16, 3), np.int16), affine)


def test_empty_frames_may_be_left_out_and_counts_stay(small) -> None:
    data, scan = small
    mask, _ = read_reference(data / "seg_image_ct_binary.dcm", scan, labels("First Segment"))
    assert mask.array.sum() == 638


def test_a_fractional_seg_is_cut_at_one_half_with_a_notice(small) -> None:
    data, scan = small
    path = data / "seg_image_ct_true_fractional.dcm"
    mask, notices = read_reference(path, scan, labels("first segment"))
    assert [notice.code for notice in notices] == ["label_fractional"]
    binary, _ = read_reference(data / "seg_image_ct_binary.dcm", scan, labels("first segment"))
    # 128 of 255 is inside, 64 is not.
    assert 0 < mask.array.sum() <= binary.array.sum()


def test_overlapping_segments_are_refused_unless_one_is_left_out(data_dir: Path) -> None:
    data = data_dir / "dicom_seg_rtstruct/seg_16x16"
    path = data / "seg_image_ct_binary_overlap.dcm"
    affine = np.diag([-0.488281, -0.488281, 1.25, 1.0])
    affine[:3, 3] = 125.0, 128.100006, 103.019997 - 162 * 1.25
    scan = Volume(np.zeros((16, 16, 165), np.int16), affine)
    with pytest.raises(CaseError, match="segment 1 overlaps others in 16 voxels"):
        read_reference(path, scan, labels("first segment", "second segment"))
    alone, notices = read_reference(path, scan, labels("first segment"))
    assert alone.array.sum() == 64
    assert [notice.code for notice in notices] == ["label_left_out"]
    regions = [
        Label(value=2, name="first segment", color="#00ff00", region=(1, 2)),
        Label(value=1, name="second segment", color="#ff0000"),
    ]
    both, _ = read_reference(path, scan, regions)
    assert [(both.array == value).sum() for value in (1, 2)] == [16, 48]


def test_a_seg_on_another_grid_is_refused(small, data_dir: Path) -> None:
    data, scan = small
    moved = scan.affine.copy()
    moved[0, 3] += 0.2
    with pytest.raises(CaseError, match=r"0\.41 voxels away from the image's voxels"):
        read_reference(
            data / "seg_image_ct_binary.dcm",
            Volume(scan.array, moved),
            labels("first segment"),
        )
    with pytest.raises(CaseError, match="outside the image"):
        read_reference(
            data / "seg_image_ct_binary.dcm",
            Volume(scan.array[:, :, :1], scan.affine),
            labels("first segment"),
        )


def test_names_without_a_match_are_refused_and_can_be_mapped_by_number(small) -> None:
    data, scan = small
    path = data / "seg_image_ct_binary.dcm"
    with pytest.raises(CaseError, match=r"--label-map, such as 1:1") as caught:
        read_reference(path, scan, labels("tumour"))
    assert "first" not in caught.value.sentence
    mask, _ = read_reference(path, scan, labels("tumour"), {1: 1})
    assert mask.array.sum() == 638
    empty, notices = read_reference(path, scan, labels("tumour"), {1: 0})
    assert not empty.array.any()
    assert [notice.code for notice in notices] == ["label_absent"]


def test_the_phantom_contours_enclose_the_voxels_counted_by_hand(data_dir: Path) -> None:
    data = data_dir / "dicom_seg_rtstruct/rtstruct_phantom"
    scan = read_scan(data / "ct").volume
    mask, notices = read_reference(data / "rt.dcm", scan, labels("ROI 1"))
    # Outer square, -51 to -27 mm at 0.488281 mm from -125: centres 152 to 200, 49 a side.
    # Hole, -47 to -32 mm: centres 160 to 190, 31 a side, and a cut corner of 3.
    assert mask.array.sum(axis=(0, 1)).tolist() == [49**2 - (31**2 - 3), 0]
    assert mask.array[152, 152, 0] == mask.array[200, 200, 0] == 1
    assert mask.array[175, 175, 0] == mask.array[151, 175, 0] == 0
    # The program that wrote it made a FrameOfReferenceUID up, but names the series.
    assert [notice.code for notice in notices] == ["label_frame"]


@pytest.mark.parametrize(
    "grid", [{}, {"axes": "LPS"}, {"axes": "AIL", "tilt_degrees": 35}, {"tilt_degrees": -20}]
)
def test_contours_are_filled_on_any_grid(tmp_path: Path, grid) -> None:
    image, _ = ball(**{"shape": (20, 20, 6), **grid})
    regions = {"box": [square(image, 2.5, 9.5, k) for k in (1, 2, 3)]}
    write_structure_set(tmp_path / "rt.dcm", regions)
    mask, _ = read_reference(tmp_path / "rt.dcm", image, labels("Box"))
    expected = np.zeros(image.shape, np.uint8)
    expected[3:10, 3:10, 1:4] = 1
    np.testing.assert_array_equal(mask.array, expected)


def test_a_gzipped_structure_set_is_read(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4), axes="LPS")
    plain, zipped = tmp_path / "rt.dcm", tmp_path / "rt.dcm.gz"
    write_structure_set(plain, {"a": [square(image, 2.5, 9.5, 2)]})
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    one, _ = read_reference(plain, image, labels("a"))
    other, _ = read_reference(zipped, image, labels("a"))
    np.testing.assert_array_equal(one.array, other.array)
    assert other.array.any()


def test_a_gzipped_seg_is_read(small, tmp_path: Path) -> None:
    data, scan = small
    zipped = tmp_path / "seg.dcm.gz"
    zipped.write_bytes(gzip.compress((data / "seg_image_ct_binary.dcm").read_bytes()))
    mask, _ = read_reference(zipped, scan, labels("First Segment"))
    assert mask.array.sum() == 638


def test_a_keyhole_is_a_hole(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4), axes="LPS")
    outer = square(image, 1.5, 15.5, 2)
    hole = square(image, 5.5, 10.5, 2)
    keyhole = np.concatenate([outer, outer[:1], hole, hole[:1]])
    write_structure_set(tmp_path / "slit.dcm", {"a": [keyhole]})
    write_structure_set(tmp_path / "two.dcm", {"a": [outer, hole]})
    one, _ = read_reference(tmp_path / "slit.dcm", image, labels("a"))
    two, _ = read_reference(tmp_path / "two.dcm", image, labels("a"))
    np.testing.assert_array_equal(one.array, two.array)
    assert one.array.sum() == 14**2 - 5**2


def test_a_repeated_contour_is_filled_once_with_a_notice(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4), axes="LPS")
    outer, hole = square(image, 1.5, 15.5, 2), square(image, 5.5, 10.5, 2)
    turned = np.roll(outer, 1, axis=0)[::-1]
    closed = np.concatenate([outer, outer[:1]])
    write_structure_set(tmp_path / "once.dcm", {"a": [outer, hole]})
    once, notices = read_reference(tmp_path / "once.dcm", image, labels("a"))
    assert not notices
    write_structure_set(tmp_path / "rt.dcm", {"a": [outer, hole, turned, closed, hole]})
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a"))
    np.testing.assert_array_equal(mask.array, once.array)
    assert [str(notice).split(" ")[:2] for notice in notices] == [["label_repeated:", "3"]]
    # This kind of contour cancels itself, by the standard.
    write_structure_set(tmp_path / "xor.dcm", {"a": [outer, turned]}, kind="CLOSEDPLANAR_XOR")
    gone, notices = read_reference(tmp_path / "xor.dcm", image, labels("a"))
    assert not gone.array.any()
    assert [notice.code for notice in notices] == ["label_empty"]


def test_voxels_of_crossing_contours_are_left_out_with_a_notice(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4), axes="LPS")
    one, other = square(image, 1.5, 9.5, 2), square(image, 6.5, 12.5, 2)
    beside, hole = square(image, 9.5, 12.5, 1), square(image, 2.5, 4.5, 2)
    write_structure_set(tmp_path / "rt.dcm", {"a": [one, other, beside, hole]})
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a"))
    # 64 and 36 pixels, 9 of them in both; a hole of 4; 9 on the next slice.
    assert mask.array.sum() == 64 + 36 - 2 * 9 - 4 + 9
    assert [str(notice).split(" ")[:2] for notice in notices] == [["label_crossing:", "9"]]
    assert str(notices[0]).endswith("leaves 9 of them out")
    # What two holes have in common is filled.
    write_structure_set(
        tmp_path / "holes.dcm",
        {"a": [square(image, 0.5, 15.5, 2), one, square(image, 6.5, 12.5, 2)]},
    )
    mask, notices = read_reference(tmp_path / "holes.dcm", image, labels("a"))
    assert mask.array.sum() == 15**2 - 64 - 36 + 2 * 9
    assert str(notices[0]).startswith("label_crossing: 9")
    assert str(notices[0]).endswith("leaves 0 of them out")
    # This kind means it.
    write_structure_set(tmp_path / "xor.dcm", {"a": [one, other]}, kind="CLOSEDPLANAR_XOR")
    mask, notices = read_reference(tmp_path / "xor.dcm", image, labels("a"))
    assert mask.array.sum() == 64 + 36 - 2 * 9
    assert not notices


def test_contours_off_the_slices_or_the_image_are_refused(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 12))
    cases = {
        "0.4 slices away from": [square(image, 2, 9, 1.4)],
        "has 1 contour, but none in the image": [square(image, 2, 9, 12)],
        "has 2 contours, but none in the image": [square(image, 22, 29, k) for k in (1, 2)],
        "on 3 slices of the image and skip 2": [square(image, 2, 9, k) for k in (1, 3, 5)],
        "on 6 slices of the image and skip 4": [square(image, 2, 9, k) for k in (0, 2, 4, 6, 8, 9)],
    }
    for message, polygons in cases.items():
        write_structure_set(tmp_path / "rt.dcm", {"a": polygons})
        with pytest.raises(CaseError, match=message):
            read_reference(tmp_path / "rt.dcm", image, labels("a"))


@pytest.mark.parametrize(
    ("slices", "between"),
    [
        ((1, 2, 3, 4), 0),
        ((1, 2, 3, 7, 8), 3),
        ((1, 2, 4, 6, 7), 2),
        ((1, 5), 3),
        ((0, 1, 4, 9), 6),  # lesions
    ],
)
def test_slices_without_contours_between_others_give_a_notice(
    tmp_path: Path, slices, between
) -> None:
    image, _ = ball(shape=(20, 20, 12))
    write_structure_set(tmp_path / "rt.dcm", {"a": [square(image, 2, 9, k) for k in slices]})
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a"))
    assert tuple(np.flatnonzero(mask.array.any(axis=(0, 1)))) == slices
    said = [str(notice).split(" ")[:2] for notice in notices]
    assert said == ([["label_gaps:", str(between)]] if between else [])


def test_points_are_left_out_with_a_notice(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    write_structure_set(tmp_path / "rt.dcm", {"a": [square(image, 2, 9, 1)]}, kind="POINT")
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a"))
    assert not mask.array.any()
    assert [notice.code for notice in notices] == ["label_empty", "label_contours"]


def edit(path: Path, change) -> Path:
    """Change the data set of a file; pydicom warns of values that the standard does not allow."""
    dataset = dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(dataset)
        dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    "kind", ["CLOSED_PLANAR", "INTERPOLATED_PLANAR", "closed_planar", "", None]
)
def test_every_closed_contour_is_filled_whatever_its_type(tmp_path: Path, kind) -> None:
    image, _ = ball(shape=(20, 20, 4))
    polygons = [square(image, 2.5, 9.5, k) for k in (1, 2)]
    write_structure_set(tmp_path / "rt.dcm", {"a": [*polygons, polygons[0]]})

    def change(dataset: Dataset) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence[1:]:
            contour.ContourGeometricType = kind
            if kind is None:
                del contour.ContourGeometricType

    mask, notices = read_reference(edit(tmp_path / "rt.dcm", change), image, labels("a"))
    assert mask.array.sum() == 2 * 7**2
    assert [notice.code for notice in notices] == ["label_repeated"]


@pytest.mark.parametrize("kind", ["OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_an_open_contour_that_closes_is_filled_with_a_notice(tmp_path: Path, kind) -> None:
    image, _ = ball(shape=(20, 20, 4))
    box = square(image, 2.5, 9.5, 1)
    closed = np.concatenate([box, box[:1] + 0.01])
    write_structure_set(tmp_path / "rt.dcm", {"a": [closed, box]}, kind=kind)
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a"))
    assert mask.array.sum() == 7**2
    assert [str(notice).split(" ")[:2] for notice in notices] == [
        ["label_contours:", "1"],
        ["label_closed:", "1"],
    ]


def test_the_items_of_a_region_are_joined(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    outer, hole = square(image, 1.5, 15.5, 2), square(image, 5.5, 10.5, 2)
    write_structure_set(tmp_path / "rt.dcm", {"a": [outer], "b": [hole], "c": [outer + 0.0]})

    def change(dataset: Dataset) -> None:
        dataset.ROIContourSequence[1].ReferencedROINumber = 1
        dataset.ROIContourSequence[2].ReferencedROINumber = 1
        dataset.ROIContourSequence[2].ContourSequence = []
        dataset.StructureSetROISequence = dataset.StructureSetROISequence[:1]

    mask, notices = read_reference(edit(tmp_path / "rt.dcm", change), image, labels("a"))
    assert mask.array.sum() == 14**2 - 5**2
    assert not notices


def test_two_regions_with_one_number_are_refused_if_they_are_used(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    box = square(image, 1.5, 5.5, 2)
    write_structure_set(tmp_path / "rt.dcm", {"a": [box], "b": [box], "c": [box]})

    def change(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[2].ROINumber = 2

    path = edit(tmp_path / "rt.dcm", change)
    assert read_reference(path, image, labels("a"))[0].array.sum() == 4**2
    with pytest.raises(CaseError, match="2 ROIs of different names have the number 2"):
        read_reference(path, image, labels("a", "b"))

    def rename(dataset: Dataset) -> None:
        dataset.StructureSetROISequence[2].ROIName = "b"

    with pytest.raises(CaseError, match="ROIs 2, 2 all match label 2"):
        read_reference(edit(path, rename), image, labels("a", "b"))


def test_a_region_drawn_nowhere_gives_a_notice(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    write_structure_set(tmp_path / "rt.dcm", {"a": [square(image, 2, 9, 1)], "b": [], "c": []})
    expected = "label_empty: ROI 2 of the reference, label 2 (b), has no voxel in the image"
    _, notices = read_reference(tmp_path / "rt.dcm", image, labels("a", "b"))
    assert [str(notice).partition(";")[0] for notice in notices] == [
        "label_left_out: 1 ROI of the reference left out: no label has the name or code",
        expected,
    ]

    def change(dataset: Dataset) -> None:
        del dataset.ROIContourSequence[1]  # the region is described, but has no item either

    _, notices = read_reference(edit(tmp_path / "rt.dcm", change), image, labels("a", "b"))
    assert str(notices[-1]).startswith(expected)


def test_contours_beyond_the_image_are_clipped_with_a_notice(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 18, 4))
    inside = square(image, 2.5, 9.5, 1)
    across, above = square(image, 10.5, 25.5, 1), square(image, 2.5, 9.5, 4)
    beside, over = square(image, 30, 35, 1), square(image, -1.2, 1.5, 2)
    write_structure_set(
        tmp_path / "rt.dcm", {"a": [inside, across, above, beside, over], "b": [above]}
    )
    mask, notices = read_reference(tmp_path / "rt.dcm", image, labels("a", "b"))
    expected = np.zeros(image.shape, np.uint8)
    expected[3:10, 3:10, 1] = expected[11:, 11:, 1] = expected[:2, :2, 2] = 1
    np.testing.assert_array_equal(mask.array, expected)
    # What reaches over the edge by less than a pixel is not counted.
    assert [str(notice).partition(";")[0] for notice in notices] == [
        "label_empty: ROI 2 of the reference, label 2 (b), has no voxel in the image",
        "label_clipped: 4 contours of the reference beyond the edge of the image, 3 of them wholly",
    ]


def test_broken_contour_data_are_refused(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    for data in (["1", "2", "3", "4"], ["1", "2", "nan"] * 4):
        write_structure_set(tmp_path / "rt.dcm", {"a": [square(image, 2, 9, 1)]})

        def change(dataset: Dataset, data=data) -> None:
            dataset.ROIContourSequence[0].ContourSequence[0].ContourData = data

        edit(tmp_path / "rt.dcm", change)
        with pytest.raises(CaseError, match="cannot be read") as caught:
            read_reference(tmp_path / "rt.dcm", image, labels("a"))
        assert caught.value.code == "label_damaged"


def drawn_on(path: Path, frame: str, series: str) -> Path:
    """Let a structure set state what it was drawn on."""

    def change(dataset: Dataset) -> None:
        for roi in dataset.StructureSetROISequence:
            roi.ReferencedFrameOfReferenceUID = frame
        named, study, system = Dataset(), Dataset(), Dataset()
        named.SeriesInstanceUID = series
        study.RTReferencedSeriesSequence = [named]
        system.FrameOfReferenceUID = frame
        system.RTReferencedStudySequence = [study]
        dataset.ReferencedFrameOfReferenceSequence = [system]

    return edit(path, change)


@pytest.mark.parametrize("name", ["rt.dcm", "seg.dcm"])
def test_a_label_of_another_frame_of_reference_is_refused_unless_it_names_the_series(
    tmp_path: Path, name
) -> None:
    write_series(tmp_path / "scan", voxels(count=5, rows=20, columns=20))
    scan = read_scan(tmp_path / "scan").volume
    own = make_slice(0, voxels(1)[0])
    path = tmp_path / name

    def codes(frame: str, series: str) -> list[str]:
        if name == "rt.dcm":
            write_structure_set(path, {"a": [square(scan, 2, 9, 1)]})
            drawn_on(path, frame, series)
        else:
            images = [dcmread(file) for file in sorted((tmp_path / "scan").iterdir())]
            for image in images:
                image.FrameOfReferenceUID, image.SeriesInstanceUID = frame, series
            write_seg(
                path, images, np.pad(np.ones((1, 6, 6), np.uint8), ((1, 3), (2, 12), (2, 12)))
            )
        mask, notices = read_reference(path, scan, labels("a"))
        assert mask.array.any()
        return [notice.code for notice in notices]

    same, frame = own.SeriesInstanceUID, own.FrameOfReferenceUID
    assert codes(frame, same) == []
    assert codes("1.2.3", same) == ["label_frame"]
    assert codes(frame, "1.2.4") == ["label_series"]
    with pytest.raises(CaseError, match=r"in another coordinate system .* not refer to its series"):
        codes("1.2.3", "1.2.4")
    if name == "rt.dcm":  # the frame of all regions, if they state none of their own

        def change(dataset: Dataset) -> None:
            del dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID

        with pytest.raises(CaseError, match="in another coordinate system"):
            read_reference(edit(path, change), scan, labels("a"))
    # The scan as NIfTI has neither, so nothing can be compared.
    scan = Volume(scan.array, scan.affine)
    assert codes("1.2.3", "1.2.4") == []


def test_only_the_frame_of_regions_that_are_used_counts(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", voxels(count=5, rows=20, columns=20))
    scan = read_scan(tmp_path / "scan").volume
    write_structure_set(tmp_path / "rt.dcm", {"a": [square(scan, 2, 9, 1)], "b": []})

    def change(dataset: Dataset) -> None:
        frame = make_slice(0, voxels(1)[0]).FrameOfReferenceUID
        for roi, uid in zip(dataset.StructureSetROISequence, (frame, "1.2.3"), strict=True):
            roi.ReferencedFrameOfReferenceUID = uid

    _, notices = read_reference(edit(tmp_path / "rt.dcm", change), scan, labels("a"))
    assert [notice.code for notice in notices] == ["label_left_out"]
    with pytest.raises(CaseError, match="another coordinate system"):
        read_reference(tmp_path / "rt.dcm", scan, labels("a", "b"))


def test_overlapping_regions_are_refused_unless_labels_are_regions(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    rois = {"whole": [square(image, 1.5, 15.5, 2)], "core": [square(image, 5.5, 10.5, 2)]}
    write_structure_set(tmp_path / "rt.dcm", rois)
    with pytest.raises(CaseError, match="ROI 1 overlaps others in 25 voxels"):
        read_reference(tmp_path / "rt.dcm", image, labels("whole", "core"))
    regions = [
        Label(value=2, name="whole", color="#00ff00", region=(1, 2)),
        Label(value=1, name="core", color="#ff0000"),
    ]
    mask, _ = read_reference(tmp_path / "rt.dcm", image, regions)
    assert [(mask.array == value).sum() for value in (1, 2)] == [25, 14**2 - 25]
    for numbers in ({1: 2}, {2: 1}, {1: 2, 2: 1}):
        numbered, _ = read_reference(tmp_path / "rt.dcm", image, regions, numbers)
        np.testing.assert_array_equal(numbered.array, mask.array)
    rois["core"] = [square(image, 13.5, 17.5, 2)]
    write_structure_set(tmp_path / "rt.dcm", rois)
    for numbers in ({}, {1: 2, 2: 1}):
        with pytest.raises(CaseError, match="overlaps others"):
            read_reference(tmp_path / "rt.dcm", image, regions, numbers)
    # Beside each other, a number names the part that has the region's value.
    rois["core"] = [square(image, 15.5, 18.5, 2)]
    write_structure_set(tmp_path / "rt.dcm", rois)
    beside, _ = read_reference(tmp_path / "rt.dcm", image, regions, {1: 2})
    assert [(beside.array == value).sum() for value in (1, 2)] == [9, 14**2]


def test_several_segments_may_be_one_label_by_number(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    rois = {"l": [square(image, 1.5, 4.5, 2)], "r": [square(image, 8.5, 10.5, 2)]}
    write_structure_set(tmp_path / "rt.dcm", rois)
    mask, _ = read_reference(tmp_path / "rt.dcm", image, labels("lung"), {1: 1, 2: 1})
    assert mask.array.sum() == 9 + 4
    with pytest.raises(CaseError, match="gives a ROI the value 7"):
        read_reference(tmp_path / "rt.dcm", image, labels("lung"), {1: 7, 2: 1})


def segments(*names: str, code: Code | None = None) -> list[Segment]:
    return [Segment(number, name, code) for number, name in enumerate(names, start=1)]


def test_matching_never_guesses() -> None:
    pair = labels("left lung", "right lung")
    meant, notices = match(segments("Left_Lung", "RIGHT LUNG", "body"), pair, {}, "ROI")
    assert [(one.number, one.value) for one in meant] == [(1, 1), (2, 2)]
    assert [notice.code for notice in notices] == ["label_left_out"]
    _, notices = match(segments("left lung"), pair, {}, "ROI")
    assert [notice.code for notice in notices] == ["label_absent"]
    with pytest.raises(CaseError, match="no ROI has the name or code of label 2"):
        match(segments("left lung", "lung R"), pair, {}, "ROI")
    with pytest.raises(CaseError, match="ROIs 1, 2 all match label 1"):
        match(segments("left lung", "Left-Lung"), pair, {}, "ROI")
    # One code on both labels tells nothing.
    lung = Concept(value="39607008", scheme="SCT", meaning="Lung")
    with pytest.raises(CaseError, match="no segment has the name or code"):
        match(
            segments("1", "2", code=Code("39607008", "SCT", "Lung")),
            labels("left lung", "right lung", concept=lung),
            {},
            "segment",
        )


def test_a_region_does_not_stand_for_its_parts() -> None:
    tumour = [
        Label(value=1, name="whole tumour", color="#00ff00", region=(1, 2, 3)),
        Label(value=2, name="tumour core", color="#ff0000", region=(2, 3)),
        Label(value=3, name="enhancing", color="#0000ff"),
    ]
    with pytest.raises(CaseError, match=r"of label 2 \(tumour core\), and 1 of the segments"):
        match(segments("Whole Tumour", "TC", "Enhancing"), tumour, {}, "segment")
    with pytest.raises(CaseError, match=r"of label 1 \(whole tumour\)"):
        match(segments("WT", "tumour core", "enhancing"), tumour, {}, "segment")
    for names, expected in {
        ("whole tumour",): ["2 (tumour core), 3 (enhancing); taken as empty"],
        ("whole tumour", "enhancing"): ["2 (tumour core); taken as only the labels inside it"],
        ("whole tumour", "tumour core", "enhancing", "head"): [],
    }.items():
        _, notices = match(segments(*names), tumour, {}, "segment")
        said = [notice.sentence for notice in notices if notice.code == "label_absent"]
        assert said == [f"no segment of the reference is label {ending}" for ending in expected]


def test_only_seg_and_rtstruct_are_recognised_as_annotations(
    data_dir: Path, tmp_path: Path
) -> None:
    data = data_dir / "dicom_seg_rtstruct"
    assert annotation_file(data / "seg_liver_512/liver_seg.dcm")
    assert annotation_file(data / "rtstruct_phantom/rt.dcm")
    assert not annotation_file(data / "seg_liver_512/ct/01.dcm")
    assert not annotation_file(data / "seg_liver_512/ct")
    folder = tmp_path / "series"
    folder.mkdir()
    shutil.copy(data / "rtstruct_phantom/rt.dcm", folder / "1")
    assert annotation_file(folder) == folder / "1"
    shutil.copy(data / "rtstruct_phantom/rt.dcm", folder / "2")
    assert not annotation_file(folder)
    _, truth = ball()
    write_mask(tmp_path / "m.nii.gz", truth)
    assert not annotation_file(tmp_path / "m.nii.gz")
    (tmp_path / "short.dcm").write_bytes(bytes(128) + b"DICM\x02\x00\x02\x00UI")
    assert not annotation_file(tmp_path / "short.dcm")


def test_a_damaged_annotation_is_refused_with_the_reason(data_dir: Path, tmp_path: Path) -> None:
    content = (data_dir / "dicom_seg_rtstruct/seg_24x38x3/label_seg.dcm").read_bytes()
    image, _ = ball()
    for size in (400, 1500, 3000, len(content) - 20):
        (tmp_path / "cut.dcm").write_bytes(content[:size])
        with pytest.raises(CaseError) as caught:
            read_reference(tmp_path / "cut.dcm", image, labels("liver"))
        assert caught.value.code.startswith("label_")


def test_checking_a_manifest_recognises_an_annotation(tmp_path: Path) -> None:
    image, _ = ball(shape=(20, 20, 4))
    write_volume(tmp_path / "a.nii.gz", image)
    write_structure_set(tmp_path / "rt.dcm", {"a": [square(image, 2, 9, 1)]})
    (tmp_path / "cases.csv").write_text("case_id,image,label\na,a.nii.gz,rt.dcm\n")
    result = check_manifest(tmp_path / "cases.csv")
    assert [finding.code for finding in result.findings] == ["label_unchecked"]
