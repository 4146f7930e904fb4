"""DICOM SEG: read back voxel for voxel, right by dciodvfy, and pointing to its own slices."""

import csv
import gzip
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicoms import voxels, write_series
from phantoms import make_bundle, threshold_model
from runs import write_manifest

from voxtile.batch.drive import run_manifest
from voxtile.errors import CaseError
from voxtile.export import Finished, export_run
from voxtile.export.dicom_seg import write_binary_seg, write_labelmap_seg
from voxtile.models.spec import Concept, Label
from voxtile.reading.channels import read_scan
from voxtile.reading.dicom import read_sources
from voxtile.reading.reference import read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.run.job import RunSettings
from voxtile.volume import Volume

LABELS = (
    Label(
        value=1,
        name="liver",
        color="#e6194b",
        concept=Concept(value="10200004", scheme="SCT", meaning="Liver"),
        modifier=Concept(value="7771000", scheme="SCT", meaning="Left"),
    ),
    Label(value=7, name="thing", color="#3cb44b"),
    Label(value=300, name="nowhere", color="#4363d8"),
)
# Every series of the corpus that is one volume, or several of which one is chosen.
REGULAR = [
    "ge_sag_explicit",
    "ge_single_slice",
    "ge_4d_fmri",
    "siemens_sag_implicit",
    "siemens_4d_classic",
    "siemens_multiframe_xa",
    "philips_cor",
    "philips_4d_fmri",
    "philips_enhanced_anat",
    "philips_enhanced_4d",
    "hitachi",
    "hyperfine_multiframe",
    "generic_uncompressed",
    "generic_j2k",
    "generic_jpeg_lossless",
    "generic_jpegls",
    "generic_rle",
    "rescale_float_nonisotropic",
    "mr_two_slices",
    "ge_4d_150files_interleaved",
    "philips_enhanced_dual_echo",
]
TILTED = ("ct_tilt14_siemens", "ct_tilt18_philips_phantom")


def blocks(volume: Volume) -> Volume:
    """Two blocks in one corner, so that no flip or turn goes unseen, and an empty first slice."""
    array = np.zeros(volume.shape, np.uint16)
    i, j, k = volume.shape
    array[i // 4 : 3 * i // 4, j // 5 : j // 2] = 1
    array[i // 3 : i // 2, j // 3 :] = 7
    if k > 2:
        array[:, :, 0] = 0
    array[0, 1, k - 1] = 7
    return volume.with_array(array)


def export(case: Finished, mask: Volume) -> Path:
    write_binary_seg(case, mask)
    return case.target("dicom-seg")


def errors(path: Path) -> set[str]:
    """What dciodvfy (dicom3tools) holds against a file."""
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


def read_one(folder: Path, **policy) -> tuple[Volume, ReadPolicy]:
    """The series, or its second volume where it has several."""
    try:
        chosen = ReadPolicy(**policy)
        return read_scan(folder, chosen).volume, chosen
    except CaseError as error:
        if error.code != "several_volumes":
            raise
        chosen = ReadPolicy(volume=1, **policy)
        return read_scan(folder, chosen).volume, chosen


@pytest.mark.parametrize("name", [*REGULAR, *TILTED])
def test_every_regular_series_gets_a_seg_that_reads_back(data_dir, tmp_path, name) -> None:
    with (data_dir / "dicom_to_nifti/cases.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["case_id"] == name)
    folder = data_dir / "dicom_to_nifti" / row["dicom_dir"]
    try:
        scan, policy = read_one(folder, tilt="native")
    except CaseError as error:
        if error.code == "missing_codec":
            pytest.skip(error.sentence)
        raise
    mask = blocks(scan)
    path = export(Finished(name, tmp_path, LABELS, "m", folder, policy), mask)
    back, _ = read_reference(path, scan, LABELS)
    np.testing.assert_array_equal(back.array, mask.array)
    if name in REGULAR:  # another reader, which orders and stacks the frames by itself
        planes = highdicom.seg.segread(path).get_volume(combine_segments=True)
        inner = np.linalg.inv(scan.affine) @ np.diag([-1, -1, 1, 1]) @ planes.affine
        values = np.array([0, 1, 7, 300])[planes.array]
        for index in np.argwhere(values)[::97]:
            i, j, k = np.rint(inner @ (*index, 1))[:3].astype(int)
            assert mask.array[i, j, k] == values[tuple(index)]
    if shutil.which("dciodvfy"):
        (source, *_) = sorted(file for file in folder.rglob("*") if file.is_file())
        assert errors(path) <= errors(source)


def test_dciodvfy_is_installed() -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not here (apt-get install dicom3tools): SEG files not validated")


@pytest.fixture
def oblique(tmp_path: Path) -> tuple[Path, Volume]:
    write_series(tmp_path / "series", voxels(6), PatientName="Doe^Jane", PatientID="4711")
    return tmp_path / "series", read_scan(tmp_path / "series").volume


def test_frames_refer_to_their_slices_and_empty_frames_are_left_out(oblique, tmp_path) -> None:
    folder, scan = oblique
    array = np.zeros(scan.shape, np.uint8)
    array[1, 2, 1] = array[3, 1, 4] = 1
    array[2, 2, 4] = 7
    made = pydicom.dcmread(
        export(Finished("p", tmp_path, LABELS, "m", folder), scan.with_array(array))
    )
    assert made.NumberOfFrames == 3
    assert made.SegmentationType == "BINARY"
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    place = {str(piece.SOPInstanceUID): piece.ImagePositionPatient for piece in slices}
    found = []
    for groups in made.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        uid = str(source.ReferencedSOPInstanceUID)
        assert groups.PlanePositionSequence[0].ImagePositionPatient == place[uid]
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.append((segment, list(place).index(uid)))
    assert sorted(found) == [(1, 1), (1, 4), (2, 4)]


def test_segments_have_names_colours_and_concepts(oblique, tmp_path) -> None:
    folder, scan = oblique
    mask = blocks(scan)
    made = pydicom.dcmread(export(Finished("p", tmp_path, LABELS, "net", folder), mask))
    liver, thing, nowhere = made.SegmentSequence
    assert [item.SegmentLabel for item in (liver, thing, nowhere)] == ["liver", "thing", "nowhere"]
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    kind = liver.SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert thing.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert len(liver.RecommendedDisplayCIELabValue) == 3
    assert liver.SegmentAlgorithmType == "AUTOMATIC"


def test_a_seg_names_the_patient_and_nothing_else_does(oblique, tmp_path) -> None:
    folder, _ = oblique
    manifest = write_manifest(tmp_path, [{"case_id": "p", "image": "series"}])

    def model(tiles: np.ndarray) -> np.ndarray:
        inside = tiles[..., 0] > 0
        return np.stack([~inside, inside], axis=-1).astype(np.float32)

    exports = ("seg.nrrd", "dicom-seg", "bids", "tables", "stl", "glb", "binary", "probabilities")
    out = tmp_path / "out"
    result = run_manifest(
        manifest, make_bundle(), out, models=[model], settings=RunSettings(exports=exports)
    )
    assert [notice.code for notice in result.reports[0].warnings] == []
    made = pydicom.dcmread(out / "exports/dicom-seg/p.dcm")
    assert (made.PatientName, made.PatientID) == ("Doe^Jane", "4711")
    source = pydicom.dcmread(next(folder.iterdir()))
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    naming = [
        path.name
        for path in out.rglob("*")
        if path.is_file() and any(text in path.read_bytes() for text in (b"Doe", b"4711"))
    ]
    assert naming == ["p.dcm"]
    # Later, with the manifest: a new object of the same mask.
    (again,) = export_run(out, ["dicom-seg"], manifest=manifest)
    assert again.reason is None
    assert pydicom.dcmread(out / "exports/dicom-seg/p.dcm").SOPInstanceUID != made.SOPInstanceUID
    (without,) = export_run(out, ["dicom-seg"])
    assert without.reason is not None
    assert without.reason.code == "no_source"


def test_a_seg_refers_to_the_series_that_was_segmented(oblique, tmp_path) -> None:
    folder, _ = oblique
    (tmp_path / "pet").mkdir()
    other = highdicom.UID()
    for path in folder.iterdir():
        piece = pydicom.dcmread(path)
        piece.SeriesInstanceUID = other
        piece.SOPInstanceUID = piece.file_meta.MediaStorageSOPInstanceUID = highdicom.UID()
        piece.save_as(tmp_path / "pet" / path.name)
    row = {"case_id": "p", "image_pet": "pet", "image_ct": folder.name}
    manifest, out = write_manifest(tmp_path, [row]), tmp_path / "out"

    def model(tiles: np.ndarray) -> np.ndarray:
        return np.stack([tiles[..., 0] <= 0, tiles[..., 0] > 0], axis=-1).astype(np.float32)

    settings = RunSettings(exports=("dicom-seg",))
    run_manifest(manifest, make_bundle(channels=("ct",)), out, models=[model], settings=settings)
    source = pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
    for _ in range(2):
        made = pydicom.dcmread(out / "exports/dicom-seg/p.dcm")
        assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source
        (later,) = export_run(out, ["dicom-seg"], manifest=manifest)
        assert later.reason is None


def test_a_seg_refers_to_gzipped_slices(oblique, tmp_path) -> None:
    folder, _ = oblique
    (tmp_path / "zipped").mkdir()
    for path in folder.iterdir():
        (tmp_path / "zipped" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    manifest = write_manifest(tmp_path, [{"case_id": "p", "image": "zipped"}])

    settings = RunSettings(exports=("dicom-seg",))
    run_manifest(
        manifest, make_bundle(), tmp_path / "out", models=[threshold_model], settings=settings
    )
    made = pydicom.dcmread(tmp_path / "out/exports/dicom-seg/p.dcm")
    source = pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source


@pytest.mark.parametrize("count", [1, 2])
def test_a_labelmap_seg_reads_back(oblique, tmp_path, count) -> None:
    folder, scan = oblique
    case = Finished("p", tmp_path, LABELS[:count] + LABELS[2:], "m", folder)
    mask = blocks(scan)
    mask = mask.with_array(np.where(mask.array == 7, 300, mask.array).astype(np.uint16))
    write_labelmap_seg(case, mask)
    path = case.target("dicom-seg-labelmap")
    assert pydicom.dcmread(path).SegmentationType == "LABELMAP"
    back, _ = read_reference(path, scan, case.labels)
    np.testing.assert_array_equal(back.array, mask.array)
    segments = highdicom.seg.segread(path).get_volume(combine_segments=True).array
    assert [(segments == number).sum() for number in (1, count + 1)] == [
        (mask.array == value).sum() for value in (1, 300)
    ]


@pytest.mark.parametrize("kind", ["dicom-seg", "dicom-seg-labelmap"])
def test_a_seg_is_refused_as_a_scan(oblique, tmp_path, kind) -> None:
    folder, scan = oblique
    case = Finished("p", tmp_path, LABELS, "m", folder)
    write = {"dicom-seg": write_binary_seg, "dicom-seg-labelmap": write_labelmap_seg}[kind]
    write(case, blocks(scan))
    path = case.target(kind)
    with pytest.raises(CaseError) as caught:
        read_scan(path)
    assert caught.value.code == "not_an_image"
    both = tmp_path / "both"
    shutil.copytree(folder, both)
    shutil.copy(path, both / "seg.dcm")
    again = read_scan(both)
    np.testing.assert_array_equal(again.volume.array, scan.array)
    assert "left_aside" in [notice.code for notice in again.notices]


def test_regions_overlap_in_a_binary_seg_and_are_refused_in_a_labelmap(oblique, tmp_path) -> None:
    folder, scan = oblique
    regions = (
        Label(value=2, name="whole", color="#00ff00", region=(1, 2)),
        Label(value=1, name="core", color="#ff0000"),
    )
    array = np.zeros(scan.shape, np.uint8)
    array[1:4, 1:3] = 2
    array[2, 2] = 1
    case = Finished("p", tmp_path, regions, "m", folder)
    path = export(case, scan.with_array(array))
    back, _ = read_reference(path, scan, regions)
    np.testing.assert_array_equal(back.array, array)
    assert pydicom.dcmread(path).SegmentsOverlap == "YES"
    with pytest.raises(CaseError, match="export dicom-seg instead"):
        write_labelmap_seg(case, scan.with_array(array))


def test_an_empty_mask_is_an_empty_seg(oblique, tmp_path) -> None:
    folder, scan = oblique
    empty = scan.with_array(np.zeros(scan.shape, np.uint8))
    path = export(Finished("p", tmp_path, LABELS, "m", folder), empty)
    back, _ = read_reference(path, scan, LABELS)
    assert not back.array.any()


def test_planes_without_a_slice_are_left_out_with_a_notice(tmp_path) -> None:
    write_series(tmp_path / "series", voxels(8))
    (tmp_path / "series/004.dcm").unlink()
    policy = ReadPolicy(missing_slices="interpolate")
    scan = read_scan(tmp_path / "series", policy).volume
    _, slices, _ = read_sources(tmp_path / "series", policy)
    assert [piece is None for piece in slices].index(True) == 4
    mask = blocks(scan)
    case = Finished("p", tmp_path, LABELS, "m", tmp_path / "series", policy)
    (notice,) = write_binary_seg(case, mask)
    assert notice.code == "seg_missing_slices"
    back, _ = read_reference(case.target("dicom-seg"), scan, LABELS)
    expected = mask.array.copy()
    expected[:, :, 4] = 0
    np.testing.assert_array_equal(back.array, expected)


def test_masks_that_cannot_be_a_seg_are_refused_with_the_reason(
    data_dir, oblique, tmp_path
) -> None:
    folder, scan = oblique
    small = Volume(np.zeros((3, 3, 3), np.uint8), scan.affine)
    with pytest.raises(CaseError, match=r"has shape \(3, 3, 3\).*as they were acquired"):
        write_binary_seg(Finished("p", tmp_path, LABELS, "m", folder), small)
    mosaic = data_dir / "dicom_to_nifti/siemens_mosaic_ap/dicom"
    with pytest.raises(CaseError, match="mosaic"):
        write_binary_seg(Finished("p", tmp_path, LABELS, "m", mosaic, ReadPolicy(volume=0)), small)
