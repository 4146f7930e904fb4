"""Manifests made from what people have: each source, its traps, and what it refuses."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patients import add_series
from phantoms import ball

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.manifest.build import Outputs, build_manifest, detect
from voxtile.manifest.build_options import BuildOptions
from voxtile.manifest.names import case_id, case_ids
from voxtile.manifest.rows import read_manifest
from voxtile.manifest.table import relative, table_of
from voxtile.reading.channels import read_channels
from voxtile.writing.nifti import write_mask, write_volume

pydicom = pytest.importorskip("pydicom")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def build(source: Path, out: Path, kind=None, **options) -> tuple[tuple[Case, ...], str]:
    """Cases of the manifest that is written, and its notices."""
    outputs = Outputs(out / "m.csv")
    found = build_manifest(
        source, outputs, kind=kind or detect(source), options=BuildOptions(**options)
    )
    return read_manifest(out / "m.csv"), "\n".join(found.notices)


def problems(source: Path, out: Path, kind=None, **options) -> str:
    with pytest.raises(ManifestError) as caught:
        build(source, out, kind, **options)
    assert not (out / "m.csv").exists()
    return "\n".join(caught.value.problems)


def write_json(path: Path, value) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# DICOM


def test_a_tree_of_dicom_becomes_a_row_for_each_series(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    add_series(tree / "x/one", PatientID="Zoe^Secret")
    add_series(tree / "x/two", PatientID="Zoe^Secret")
    add_series(tree / "y", PatientID="Adam^Secret")
    add_series(tree / "z", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tree / "notes.txt").write_text("not DICOM")
    assert detect(tree) == "dicom"
    cases, notices = build(tree, tmp_path)
    assert [case.case_id for case in cases] == ["case001", "case002", "case003"]
    assert [case.group for case in cases] == ["patient001", "patient001", "patient002"]
    assert [dict(case.images)["image"] for case in cases] == [
        tmp_path / "tree/x/one",
        tmp_path / "tree/x/two",
        tmp_path / "tree/y",
    ]
    assert dict(cases[0].extras) == {"modality": "CT", "slices": "3"}
    assert "3 scouts" in notices
    assert "Secret" not in (tmp_path / "m.csv").read_text() + notices


def test_several_series_in_one_folder_are_distinguished_and_can_be_read(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in "ab":
        add_series(tmp_path / name, PatientID=name)
        for path in (tmp_path / name).iterdir():
            (tree / "in").mkdir(parents=True, exist_ok=True)
            path.rename(tree / "in" / f"{name}{path.name}")
    cases, _ = build(tree, tmp_path, "dicom")
    assert len({case.series for case in cases}) == 2
    assert all(case.series.startswith("id=") for case in cases)
    for case in cases:
        assert read_channels(case, ["image"]).volume.shape == (6, 5, 3)


def test_a_series_in_two_folders_is_one_case_and_its_copy_another(tmp_path: Path) -> None:
    split, copied = tmp_path / "tree/split", tmp_path / "tree/copied"
    add_series(split / "a")
    (split / "b").mkdir()
    (split / "a/slice0003.dcm").rename(split / "b/slice0003.dcm")
    add_series(copied / "a")
    (copied / "b").mkdir()
    for path in (copied / "a").iterdir():
        (copied / "b" / path.name).write_bytes(path.read_bytes())
    cases, notices = build(tmp_path / "tree", tmp_path, "dicom")
    assert [dict(case.images)["image"].relative_to(tmp_path / "tree") for case in cases] == [
        Path("copied/a"),
        Path("copied/b"),
        Path("split"),
    ]
    assert dict(cases[2].extras)["slices"] == "3"
    assert "gave 1 more row, in the same group" in notices


@pytest.mark.parametrize("copied", ["abc", "b"])
def test_a_series_in_parts_with_some_copies_stays_one_volume(tmp_path: Path, copied: str) -> None:
    tree = tmp_path / "tree"
    add_series(tree / "whole")
    for part, path in zip("abc", sorted((tree / "whole").iterdir()), strict=True):
        for folder in ("parts", "backup") if part in copied else ("parts",):
            (tree / folder / part).mkdir(parents=True)
            (tree / folder / part / path.name).write_bytes(path.read_bytes())
        path.unlink()
    (case,), notices = build(tree, tmp_path, "dicom")
    assert dict(case.extras)["slices"] == "3"
    assert "some images of case001 are in several folders" in notices
    assert read_channels(case, ["image"]).volume.shape == (6, 5, 3)


def test_a_part_of_a_series_that_is_complete_elsewhere_is_left_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    add_series(tree / "whole")
    (tree / "some").mkdir()
    for path in sorted((tree / "whole").iterdir())[:2]:
        (tree / "some" / path.name).write_bytes(path.read_bytes())
    (case,), notices = build(tree, tmp_path, "dicom")
    assert dict(case.images)["image"] == tree / "whole"
    assert "1 folder with only a part of a series that another folder holds completely" in notices


def test_the_key_is_written_only_on_request_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    add_series(tmp_path / "tree", PatientID="=SECRET", StudyInstanceUID="1.2.3")
    outputs = Outputs(tmp_path / "m.csv", key=tmp_path / "key.csv")
    found = build_manifest(tmp_path / "tree", outputs, kind="dicom")
    text = (tmp_path / "key.csv").read_text()
    assert text.startswith("case_id,group,PatientID,StudyInstanceUID,SeriesInstanceUID\n")
    assert "case001,patient001,'=SECRET,1.2.3," in text
    assert stat.S_IMODE((tmp_path / "key.csv").stat().st_mode) == 0o600
    assert "SECRET" not in (tmp_path / "m.csv").read_text()
    assert found.key[0].patient_id == "=SECRET"
    with pytest.raises(ManifestError, match=r"key\.csv exists"):
        build_manifest(tmp_path / "tree", Outputs(tmp_path / "n.csv", outputs.key), kind="dicom")


def test_without_patient_ids_a_study_is_a_group_with_a_notice(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    add_series(tree / "a", PatientID="", StudyInstanceUID="1.1")
    add_series(tree / "b", PatientID="", StudyInstanceUID="1.1")
    add_series(tree / "c", PatientID="", StudyInstanceUID="1.2")
    cases, notices = build(tree, tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001", "patient001", "patient002"]
    assert "no patient id" in notices


def test_an_image_without_an_id_belongs_to_the_patient_of_its_study(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    add_series(tree / "a", PatientID="", StudyInstanceUID="1.1")
    add_series(tree / "b", PatientID="Zoe", StudyInstanceUID="1.1")
    add_series(tree / "c", PatientID="Zoe", StudyInstanceUID="1.2")
    cases, notices = build(tree, tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001"] * 3
    assert "no patient id" in notices


def test_equal_ids_of_different_issuers_are_different_patients(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, issuer in (("a", "north"), ("b", "south"), ("c", "north")):
        add_series(tree / name, PatientID="1", IssuerOfPatientID=issuer)
    cases, notices = build(tree, tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001", "patient002", "patient001"]
    assert "issuer" not in notices


def test_blanks_around_an_id_are_ignored(tmp_path: Path) -> None:
    for number, name in enumerate(("A", " A", "A ", "B")):
        add_series(tmp_path / "tree" / str(number), PatientID=name, StudyInstanceUID=f"1.{number}")
    cases, notices = build(tmp_path / "tree", tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001"] * 3 + ["patient002"]
    assert "several patient ids" not in notices


def test_a_study_with_several_ids_gives_a_notice(tmp_path: Path) -> None:
    for name in ("A", "B"):
        add_series(tmp_path / "tree" / name, PatientID=name, StudyInstanceUID="1.1")
    cases, notices = build(tmp_path / "tree", tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001", "patient002"]
    assert "images of several patient ids are in 1 study" in notices


def test_a_series_with_several_ids_gives_a_notice(tmp_path: Path) -> None:
    add_series(tmp_path / "tree")
    for path, name in zip(sorted((tmp_path / "tree").glob("*.dcm")), ("", "A", "B"), strict=True):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = name
        dataset.save_as(path)
    cases, notices = build(tmp_path / "tree", tmp_path, "dicom")
    assert len(cases) == 1
    assert "images of several patient ids are in 1 series" in notices


def test_an_id_without_an_issuer_may_be_any_of_that_id(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, issuer in (("a", "north"), ("b", ""), ("c", "north")):
        add_series(tree / name, PatientID="1", IssuerOfPatientID=issuer)
    add_series(tree / "d", PatientID="2", IssuerOfPatientID="north")
    cases, notices = build(tree, tmp_path, "dicom")
    assert [case.group for case in cases] == ["patient001"] * 3 + ["patient002"]
    assert "name its issuer and others with the same id do not" in notices


def test_a_damaged_dicom_file_does_not_hide_the_others(tmp_path: Path) -> None:
    add_series(tmp_path / "tree/a")
    (tmp_path / "tree/bad.dcm").write_bytes(b"nothing")
    cases, notices = build(tmp_path / "tree", tmp_path, "dicom")
    assert len(cases) == 1
    assert "1 file that is damaged" in notices
    touch(tmp_path / "empty", "a.txt")
    assert "holds no series" in problems(tmp_path / "empty", tmp_path / "out", "dicom")


# NIfTI folders


def test_labels_belong_to_images_of_their_name(tmp_path: Path) -> None:
    touch(tmp_path, "i/b.nii.gz", "i/a.nii", "i/._a.nii", "l/a.nii.gz", "l/c.nii.gz")
    cases, notices = build(tmp_path / "i", tmp_path, labels=tmp_path / "l")
    assert [(case.case_id, case.label) for case in cases] == [
        ("a", tmp_path / "l/a.nii.gz"),
        ("b", None),
    ]
    assert "no label for b" in notices
    assert "no image for label c" in notices


def test_numbers_of_channels_are_not_part_of_the_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"i/{case}_000{channel}.nii.gz" for case in "ab" for channel in (0, 1)))
    touch(tmp_path, "l/a.nii.gz", "l/b.nii.gz")
    (a, b), _ = build(tmp_path / "i", tmp_path, labels=tmp_path / "l")
    assert [channel for channel, _ in a.images] == ["0000", "0001"]
    assert (a.label, b.label) == (tmp_path / "l/a.nii.gz", tmp_path / "l/b.nii.gz")


def test_numbers_of_cases_stay_if_labels_have_them_too(tmp_path: Path) -> None:
    names = [f"case_000{number}.nii.gz" for number in range(3)]
    touch(tmp_path, *(f"{folder}/{name}" for folder in "il" for name in names))
    cases, notices = build(tmp_path / "i", tmp_path, labels=tmp_path / "l")
    assert [case.case_id for case in cases] == ["case_0000", "case_0001", "case_0002"]
    assert all(case.label for case in cases)
    assert notices == ""


def test_a_single_case_with_channels_gives_a_notice(tmp_path: Path) -> None:
    touch(tmp_path, "i/x_0000.nii.gz", "i/x_0001.nii.gz")
    cases, notices = build(tmp_path / "i", tmp_path)
    assert [case.case_id for case in cases] == ["x"]
    assert "read as channels of one case" in notices


def test_labels_beside_images_are_found_by_pattern_even_with_equal_names(tmp_path: Path) -> None:
    touch(tmp_path, *(f"i/{case}/{name}.nii.gz" for case in "ab" for name in ("ct", "ct_seg")))
    cases, _ = build(tmp_path / "i", tmp_path, label_pattern="{case}_seg")
    assert [(case.case_id, case.label) for case in cases] == [
        ("a_ct", tmp_path / "i/a/ct_seg.nii.gz"),
        ("b_ct", tmp_path / "i/b/ct_seg.nii.gz"),
    ]


def test_a_label_of_one_patient_is_not_given_to_another(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1/t1_seg.nii.gz", *(f"i/p{n}/t1.nii.gz" for n in (1, 2, 3)))
    cases, notices = build(tmp_path / "i", tmp_path, label_pattern="{case}_seg")
    assert [case.label for case in cases] == [tmp_path / "i/p1/t1_seg.nii.gz", None, None]
    assert "no label for p2_t1, p3_t1" in notices


def test_a_label_without_the_folders_of_its_image_needs_a_name_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "i/p1/a.nii.gz", "i/p1/t1.nii.gz", "i/p2/t1.nii.gz", "l/a.nii", "l/t1.nii")
    cases, notices = build(tmp_path / "i", tmp_path, labels=tmp_path / "l")
    assert [case.label for case in cases] == [tmp_path / "l/a.nii", None, None]
    assert "no image for label t1" in notices


def test_a_folder_without_images_or_with_two_of_one_name_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "none/a.txt", "twins/a.nii", "twins/a.nii.gz", "case/a b.nii", "case/a_b.nii")
    assert "holds no image (.nii.gz, .nii, " in problems(tmp_path / "none", tmp_path, "nifti")
    assert "differ only in suffix" in problems(tmp_path / "twins", tmp_path)
    assert "become case_id 'a_b'" in problems(tmp_path / "case", tmp_path)
    assert "holds no scan of a format that voxtile reads" in problems(tmp_path / "none", tmp_path)
    assert "does not exist" in problems(tmp_path / "nothing", tmp_path)
    assert "is not a folder" in problems(tmp_path / "nothing", tmp_path, "nifti")


def test_a_folder_with_both_kinds_of_files_needs_the_option_from(tmp_path: Path) -> None:
    add_series(tmp_path / "tree/d")
    touch(tmp_path, "tree/a.nii.gz")
    assert "both NIfTI and DICOM" in problems(tmp_path / "tree", tmp_path)


def test_options_of_another_source_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.nii")
    with pytest.raises(ValueError, match="suffixes is an option of --from bids"):
        build(tmp_path / "i", tmp_path, suffixes=("T1w",))
    with pytest.raises(ValueError, match="a key is written only for --from dicom"):
        build_manifest(tmp_path / "i", Outputs(tmp_path / "m", tmp_path / "k"), kind="nifti")


def test_linked_folders_are_followed_and_each_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.nii", "i/b.nii")
    (tmp_path / "i/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "i/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "i")
    cases, _ = build(tmp_path / "i", tmp_path)
    assert [case.case_id for case in cases] == ["a", "b"]


# nnU-Net


def nnunet(folder: Path, **changes) -> Path:
    touch(
        folder,
        *(f"imagesTr/{case}_000{channel}.nii.gz" for case in ("b", "a") for channel in (0, 1)),
        *(f"labelsTr/{case}.nii.gz" for case in "ab"),
        *(f"imagesTs/c_000{channel}.nii.gz" for channel in (0, 1)),
    )
    document = {
        "channel_names": {"0": "T2", "1": "ADC map"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    write_json(folder / "dataset.json", {**document, **changes})
    return folder


def test_nnunet_channels_become_columns(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "Dataset001_Prostate")
    assert detect(source) == "nnunet"
    (a, b, c), notices = build(source, tmp_path)
    assert [channel for channel, _ in a.images] == ["T2", "ADC_map"]
    assert a.label == source / "labelsTr/a.nii.gz"
    assert [(case.case_id, case.split) for case in (a, b, c)] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "test"),
    ]
    assert (c.label, notices) == (None, "")


def test_label_names_are_written_in_a_form_that_training_reads(tmp_path: Path) -> None:
    from voxtile.manifest.label_list import read_labels

    outputs = Outputs(tmp_path / "m.csv", label_names=tmp_path / "names.json")
    build_manifest(nnunet(tmp_path / "d"), outputs, kind="nnunet")
    names = [(label.value, label.name) for label in read_labels(tmp_path / "names.json").labels]
    assert names == [(1, "PZ"), (2, "TZ")]


def test_an_ignored_label_of_nnunet_is_not_a_class_and_gives_a_notice(tmp_path: Path) -> None:
    labels = {"background": 0, "edema": 1, "ignore": 2}
    source = nnunet(tmp_path / "d", labels=labels)
    found = build_manifest(source, Outputs(tmp_path / "m.csv"), kind="nnunet")
    assert found.labels == ((1, "edema"),)
    assert "marks label value 2 as 'ignore'" in "\n".join(found.notices)


def test_a_region_of_nnunet_names_no_value_and_gives_a_notice(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}
    source = nnunet(tmp_path / "d", labels=labels)
    found = build_manifest(source, Outputs(tmp_path / "m.csv"), kind="nnunet")
    assert found.labels == ()
    assert "label values 1, 2, 3 have no name of their own" in "\n".join(found.notices)
    outputs = Outputs(tmp_path / "n.csv", label_names=tmp_path / "names.json")
    with pytest.raises(ManifestError, match="leave --label-names out"):
        build_manifest(source, outputs, kind="nnunet")
    write_json(
        source / "dataset.json",
        {
            **json.loads((source / "dataset.json").read_text()),
            "labels": {**labels, "enhancing": [3]},
        },
    )
    assert build_manifest(source, outputs, kind="nnunet").labels == ((3, "enhancing"),)


def test_all_problems_of_an_nnunet_data_set_are_reported_at_once(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "d", numTraining=5)
    touch(source, "imagesTr/odd.nii.gz", "imagesTr/d_0000.nii.gz")
    (source / "labelsTr/b.nii.gz").unlink()
    said = problems(source, tmp_path)
    assert "must be named <case>_<channel>.nii.gz" in said
    assert "case d has channels [0], but dataset.json names 2" in said
    assert "no label for" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_ending": ".xyz"}, "'.xyz' is not supported"),
        ({"channel_names": ["T2"]}, "must look like"),
        ({"channel_names": {"1": "T2"}}, "must look like"),
        ({"dataset": {"a": {"images": ["none.nii.gz"]}}}, "must have a list"),
        ({"dataset": {"a": {"images": ["x.nii.gz"], "label": "y.nii.gz"}}}, "does not exist"),
    ],
)
def test_an_invalid_nnunet_description_is_refused_with_the_reason(
    tmp_path: Path, change, message
) -> None:
    assert message in problems(nnunet(tmp_path / "d", **change), tmp_path, "nnunet")


def test_nnunet_may_name_files_elsewhere(tmp_path: Path) -> None:
    entry = {
        "images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"],
        "label": "labelsTr/a.nii.gz",
    }
    source = nnunet(tmp_path / "d", dataset={"other": entry}, numTraining=1)
    (case,), _ = build(source, tmp_path)
    assert (case.case_id, case.images[1][1].name) == ("other", "a_0001.nii.gz")


# Decathlon and MONAI


def decathlon(folder: Path, **changes) -> Path:
    touch(folder, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/t.nii.gz")
    document = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/t.nii.gz"],
    }
    write_json(folder / "dataset.json", {**document, **changes})
    return folder


def test_decathlon_lists_become_splits(tmp_path: Path) -> None:
    source = decathlon(tmp_path / "Task04")
    assert detect(source) == "msd"
    (a, t), _ = build(source, tmp_path)
    assert (a.case_id, a.split, a.label) == ("a", "train", source / "labelsTr/a.nii.gz")
    assert (t.case_id, t.split, t.label) == ("t", "test", None)
    assert (tmp_path / "m.csv").read_text().splitlines()[1] == (
        "a,Task04/imagesTr/a.nii.gz,Task04/labelsTr/a.nii.gz,train"
    )


def test_several_decathlon_modalities_in_one_file_give_a_notice(tmp_path: Path) -> None:
    source = decathlon(tmp_path / "d", modality={"0": "FLAIR", "1": "T1w"})
    _, notices = build(source, tmp_path)
    assert "2 modalities (FLAIR, T1w) are in each file as volumes" in notices


def test_nnunet_1_lists_names_without_their_channels(tmp_path: Path) -> None:
    source = decathlon(tmp_path / "d", modality={"0": "CT", "1": "PET"}, test=[])
    (source / "imagesTr/a.nii.gz").unlink()
    touch(source, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz")
    (case,), _ = build(source, tmp_path)
    assert case.case_id == "a"
    assert [channel for channel, _ in case.images] == ["CT", "PET"]


def test_a_monai_datalist_keeps_folds_ids_and_groups(tmp_path: Path) -> None:
    touch(tmp_path / "d", "x/t1.nii.gz", "x/t2.nii.gz", "y/t1.nii.gz", "y/t2.nii.gz", "y/s.nii.gz")
    path = write_json(
        tmp_path / "lists/all.json",
        {
            "training": [
                {"image": ["y/t1.nii.gz", "y/t2.nii.gz"], "label": ["y/s.nii.gz"], "fold": 3}
            ],
            "validation": [{"image": ["x/t1.nii.gz", "x/t2.nii.gz"], "case_id": "q", "group": "G"}],
        },
    )
    assert detect(path) == "monai"
    (y, q), _ = build(path, tmp_path, root=tmp_path / "d")
    assert (y.case_id, y.split, dict(y.extras)) == ("t1", "train", {"fold": "3"})
    assert (q.case_id, q.split, q.group) == ("q", "val", "G")
    assert [channel for channel, _ in y.images] == ["0", "1"]


def test_a_key_with_the_name_of_a_column_of_the_report_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    path = write_json(tmp_path / "l.json", [{"image": "a.nii.gz", "dice": 0.9}])
    assert "'dice', has the name of a column of report.csv" in problems(path, tmp_path / "out")


def test_listed_files_with_equal_names_are_named_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/ct.nii.gz", "b/ct.nii.gz")
    path = write_json(tmp_path / "l.json", [{"image": "a/ct.nii.gz"}, "b/ct.nii.gz"])
    cases, _ = build(path, tmp_path)
    assert [case.case_id for case in cases] == ["a_ct", "b_ct"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100000, "is not valid JSON"),
        ("7", "must have one of the lists"),
        ("{}", "must have one of the lists"),
        ('{"training": {}}', "training is a dict, but a list is needed"),
        ('{"training": []}', "lists no case"),
        ('{"training": [3]}', "training[0] is a int"),
        ('{"training": [{"label": "a"}]}', "training[0] has image None"),
        ('{"training": [{"image": []}]}', "training[0] has image []"),
        ('{"training": [{"image": ""}]}', "training[0] has image ''"),
        ('{"training": ["a"], "modality": true}', "a, which does not exist"),
        ('{"training": [{"image": "m.json", "label": 3}]}', "training[0] has label 3"),
        ('{"training": [{"image": "none.nii"}]}', "none.nii, which does not exist"),
        ('{"training": [{"image": "\\u0000"}]}', "does not exist"),
    ],
)
@pytest.mark.parametrize("kind", ["monai", "msd"])
def test_a_malformed_list_is_refused(tmp_path: Path, document, message, kind) -> None:
    path = write_json(tmp_path / "m.json", document)
    said = problems(path, tmp_path, kind)
    assert message in said or (kind == "msd" and "must hold a JSON object" in said)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "training",
                        "test",
                        "image",
                        "label",
                        "modality",
                        "labels",
                        "channel_names",
                        "dataset",
                        "file_ending",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_listed_or_refused(tmp_path_factory, value) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    write_json(folder / "dataset.json", value)
    for kind in ("nnunet", "msd", "monai"):
        source = folder / "dataset.json" if kind == "monai" else folder
        with pytest.raises(ManifestError):
            build_manifest(source, Outputs(folder / "m.csv"), kind=kind)


# BIDS


def bids(folder: Path) -> Path:
    touch(
        folder,
        "dataset_description.json",
        *(f"sub-{s}/ses-1/anat/sub-{s}_ses-1_{x}.nii.gz" for s in ("02", "01") for x in "AB"),
        "sub-03/anat/sub-03_A.nii.gz",
        "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz",
        "derivatives/other/sub-01_A.nii.gz",
    )
    return folder


PATTERN = "derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz"


def test_bids_subjects_are_groups_and_labels_are_found_by_pattern(tmp_path: Path) -> None:
    source = bids(tmp_path / "b")
    assert detect(source) == "bids"
    cases, notices = build(source, tmp_path, suffixes=("A",), label_pattern=PATTERN)
    assert [(case.case_id, case.group) for case in cases] == [
        ("sub-01_ses-1", "sub-01"),
        ("sub-02_ses-1", "sub-02"),
        ("sub-03", "sub-03"),
    ]
    assert cases[0].label.name == "sub-01_ses-1_label-lesion_mask.nii.gz"
    assert dict(cases[0].extras) == {"session": "1"}
    assert "no label for sub-02_ses-1, sub-03" in notices


def test_several_bids_suffixes_are_channels(tmp_path: Path) -> None:
    cases, notices = build(bids(tmp_path / "b"), tmp_path, suffixes=("B", "A"))
    assert [channel for channel, _ in cases[0].images] == ["B", "A"]
    assert "left out sub-03/anat/sub-03: it has no B" in notices
    kept, notices = build(tmp_path / "b", tmp_path / "b", suffixes=("B", "A"), gaps=True)
    assert [case.case_id for case in kept if case.missing] == ["sub-03"]
    assert "kept sub-03/anat/sub-03: it has no B" in notices


def test_an_ambiguous_suffix_or_label_in_bids_is_refused(tmp_path: Path) -> None:
    source = bids(tmp_path / "b")
    assert "A (3), B (2); choose with --suffix" in problems(source, tmp_path)
    assert "no case with T1w" in problems(source, tmp_path, suffixes=("T1w",))
    touch(source, "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_label-x_mask.nii.gz")
    said = problems(source, tmp_path, suffixes=("A",), label_pattern=PATTERN)
    assert "2 labels match" in said
    for pattern in ("{name}.nii.gz", "/abs/{sub}", "{", "{}"):
        with pytest.raises(ValueError, match="--label-pattern"):
            build(source, tmp_path, suffixes=("A",), label_pattern=pattern)
    assert "no folder sub-" in problems(touch(tmp_path / "n", "a"), tmp_path, "bids")


def test_files_whose_names_do_not_follow_bids_are_listed(tmp_path: Path) -> None:
    source = bids(tmp_path / "b")
    names = ("sub-04.1/sub-04.1_A.nii.gz", "sub-CON_03/anat/sub-CON_03_A.nii.gz")
    touch(source, *names, "sub-CON_03/anat/sub-CON_03_A.json")
    cases, notices = build(source, tmp_path, suffixes=("A",))
    assert len(cases) == 3
    assert notices.startswith("left out 2 image files whose names do not follow BIDS")
    assert notices.endswith(", ".join(names))
    assert "left out 2" in problems(source, tmp_path / "out", suffixes=("T1w",))
    assert names[0] in problems(touch(tmp_path / "n", *names), tmp_path / "out", "bids")


def test_two_files_with_one_bids_name_are_refused(tmp_path: Path) -> None:
    source = touch(bids(tmp_path / "b"), "sub-03/anat/sub-03_A.nii")
    said = problems(source, tmp_path, suffixes=("A",))
    files = [str(source / "sub-03/anat/sub-03_A") + ending for ending in (".nii", ".nii.gz")]
    assert f"{files[0]} and {files[1]} differ only in suffix; keep one" in said
    assert len(build(source, tmp_path, suffixes=("B",))[0]) == 2


# Names and cells


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6))
def test_any_names_become_valid_case_ids(names) -> None:
    assert Case(case_id(names[0]), (("image", Path("a")),))
    try:
        ids = case_ids([(name,) for name in names])
    except ManifestError:
        return
    assert len({name.casefold() for name in ids}) == len(names)


def test_paths_are_relative_if_that_leads_to_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.nii", "data/-b.nii", "m/x", "far/deep/y")
    assert relative(tmp_path / "data/a.nii", tmp_path) == "data/a.nii"
    assert relative(tmp_path / "data/a.nii", tmp_path / "m") == "../data/a.nii"
    assert relative(tmp_path / "data/-b.nii", tmp_path / "data") == "./-b.nii"
    assert relative(Path("/etc/a.nii"), tmp_path) == "/etc/a.nii"
    (tmp_path / "link").symlink_to(tmp_path / "far/deep")
    # "../data" from behind the link would be looked for in `far`.
    assert relative(tmp_path / "data/a.nii", tmp_path / "link") == str(tmp_path / "data/a.nii")


def test_names_that_csv_would_change_are_refused(tmp_path: Path) -> None:
    case = Case("a", (("image", tmp_path / "a.nii "),))
    with pytest.raises(ManifestError, match="begins or ends with a space"):
        table_of([case], tmp_path)
    odd = Case("a", (("image", tmp_path / "\udcff.nii"),))
    with pytest.raises(ManifestError, match="not a name in UTF-8"):
        table_of([odd], tmp_path)


# Real data


def test_real_folders_are_listed_completely(data_dir: Path, tmp_path: Path) -> None:
    cases, _ = build(
        data_dir / "hippocampus/images", tmp_path, labels=data_dir / "hippocampus/labels"
    )
    assert len(cases) == 217
    assert all(case.label for case in cases)


def test_the_dicom_corpus_gives_one_row_for_each_series(data_dir: Path, tmp_path: Path) -> None:
    cases, notices = build(data_dir / "dicom_to_nifti", tmp_path, "dicom")
    folders = sorted(path.resolve() for path in (data_dir / "dicom_to_nifti").glob("*/dicom"))
    assert len(folders) == 31
    # Two slices of the four in generic_uncompressed.
    folders = [folder for folder in folders if folder.parent.name != "mr_two_slices"]
    assert "1 folder with only a part of a series" in notices
    assert sorted(dict(case.images)["image"].resolve() for case in cases) == folders


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    image, truth = ball()
    for name in ("b", "a"):
        write_volume(tmp_path / f"i/{name}.nii.gz", image)
        write_mask(tmp_path / f"l/{name}.nii.gz", truth)
    texts = []
    for number in (1, 2):
        out = Outputs(tmp_path / f"{number}.csv")
        options = BuildOptions(labels=tmp_path / "l")
        build_manifest(tmp_path / "i", out, kind="nifti", options=options)
        texts.append(out.manifest.read_bytes())
    assert texts[0] == texts[1]
    case = read_manifest(tmp_path / "1.csv")[0]
    np.testing.assert_array_equal(read_channels(case, ["image"]).volume.array, image.array)
