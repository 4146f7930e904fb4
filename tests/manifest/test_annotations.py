"""A SEG or RTSTRUCT is the label of the series that it names, and of no other."""

from pathlib import Path

import pydicom
import pytest
from patients import add_series
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxtile.manifest.dicom_tree import read_dicom_tree
from voxtile.reading.channels import read_channels

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def uids(folder: Path) -> tuple[str, str]:
    """The series and the frame of reference of a folder."""
    dataset = pydicom.dcmread(next(folder.glob("slice*.dcm")))
    return dataset.SeriesInstanceUID, dataset.get("FrameOfReferenceUID", "")


def annotate(path: Path, kind: str, *series: str, frame: str = "", uid: str = "") -> None:
    """The header of an annotation that names some series, or only a frame of reference."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = uid or generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    dataset.Modality = "SEG" if kind == SEG else "RTSTRUCT"
    items = []
    for one in series:
        item = Dataset()
        item.SeriesInstanceUID = one
        items.append(item)
    if kind == SEG:
        dataset.FrameOfReferenceUID = frame
        dataset.ReferencedSeriesSequence = items
    else:
        referenced, study = Dataset(), Dataset()
        referenced.FrameOfReferenceUID = frame
        study.RTReferencedSeriesSequence = items
        referenced.RTReferencedStudySequence = [study]
        dataset.ReferencedFrameOfReferenceSequence = [referenced]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate("abc"):
        add_series(tmp_path / name, PatientID=name, StudyInstanceUID=f"1.{number}")
    return tmp_path


def labels(tree: Path) -> tuple[list[str | None], str]:
    found = read_dicom_tree(tree)
    names = [case.label and case.label.relative_to(tree).as_posix() for case in found.cases]
    return names, "\n".join(found.notices)


@pytest.mark.parametrize("kind", [SEG, RTSTRUCT])
def test_an_annotation_is_the_label_of_the_series_it_names(tree: Path, kind) -> None:
    annotate(tree / "z/1.dcm", kind, uids(tree / "b")[0])
    annotate(tree / "c/seg.dcm", kind, uids(tree / "c")[0])
    names, notices = labels(tree)
    assert names == [None, "z/1.dcm", "c/seg.dcm"]
    assert "2 SEG or RTSTRUCT files paired by the series that is named inside" in notices
    case = read_dicom_tree(tree).cases[2]
    assert read_channels(case, ["image"]).volume.shape == (6, 5, 3)


@pytest.mark.parametrize("kind", [SEG, RTSTRUCT])
def test_only_without_a_series_the_frame_of_reference_decides(tree: Path, kind) -> None:
    for number, name in enumerate("abc"):
        for path in (tree / name).glob("slice*.dcm"):
            dataset = pydicom.dcmread(path)
            dataset.FrameOfReferenceUID = f"1.2.{min(number, 1)}"
            dataset.save_as(path)
    annotate(tree / "1.dcm", kind, frame="1.2.0")
    names, notices = labels(tree)
    assert names == ["1.dcm", None, None]
    assert "1 SEG or RTSTRUCT file paired by the frame of reference" in notices
    annotate(tree / "2.dcm", kind, frame="1.2.1")
    annotate(tree / "1.dcm", kind, "1.9", frame="1.2.0")
    names, notices = labels(tree)
    assert names == [None, None, None]
    assert "left out: 1 SEG or RTSTRUCT file naming a series that is not here" in notices
    assert "1 SEG or RTSTRUCT file naming no series" in notices


def test_of_several_annotations_of_a_series_none_is_chosen(tree: Path) -> None:
    series = uids(tree / "a")[0]
    annotate(tree / "1.dcm", SEG, series, uid="1.2.3")
    annotate(tree / "copy/1.dcm", SEG, series, uid="1.2.3")
    assert labels(tree)[0] == ["1.dcm", None, None]
    annotate(tree / "2.dcm", RTSTRUCT, series)
    names, notices = labels(tree)
    assert names == [None, None, None]
    assert "left out: 2 SEG or RTSTRUCT files of a series that has several" in notices


def test_an_annotation_of_several_series_is_left(tree: Path) -> None:
    annotate(tree / "1.dcm", RTSTRUCT, uids(tree / "a")[0], uids(tree / "b")[0])
    names, notices = labels(tree)
    assert names == [None, None, None]
    assert "naming several series" in notices


def test_real_annotations_are_paired_with_their_series(data_dir: Path) -> None:
    names, notices = labels(data_dir / "dicom_seg_rtstruct")
    assert any(names), notices
