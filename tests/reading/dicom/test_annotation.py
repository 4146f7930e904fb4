"""DICOM SEG and RTSTRUCT as references: laid on the scan's voxels and matched, or refused."""

import shutil
from pathlib import Path

import nrrd
import numpy as np
import pytest
from phantoms import ball
from pydicom import Dataset
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
    assert not notices


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
    assert not notices


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
        "is outside the image": [square(image, 2, 9, 12)],
        "a contour of the reference is outside": [square(image, 2, 22, 3)],
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
    assert [notice.code for notice in notices] == ["label_contours"]


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
    assert [(one.segment.number, one.value) for one in meant] == [(1, 1), (2, 2)]
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
