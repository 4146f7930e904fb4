"""Exported data sets are read back as what they were, and as their tools need them."""

import json
from pathlib import Path

import numpy as np
import pytest
from patients import add_series
from phantoms import ball
from runs import write_manifest
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.errors import ManifestError
from voxtile.manifest.build import Outputs, build_manifest
from voxtile.manifest.build_options import BuildOptions
from voxtile.manifest.check import check_manifest
from voxtile.manifest.export import ExportSettings, export_manifest
from voxtile.manifest.rows import read_manifest
from voxtile.manifest.table import table_of
from voxtile.reading.nifti import read_nifti
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import canonical
from voxtile.writing.nifti import write_mask, write_volume

runner = CliRunner()


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, str]]:
    """Two training cases, the label of one stored along other axes, and a test case."""
    image, truth = ball()
    write_volume(tmp_path / "a.nii.gz", image)
    write_mask(tmp_path / "la.nii.gz", truth)
    write_volume(tmp_path / "b.nii", image)
    _, turned = ball(axes="LAS")
    write_mask(tmp_path / "lb.nii.gz", turned)
    add_series(tmp_path / "s", PatientID="Zoe^Secret", PatientName="Zoe^Secret")
    return [
        {"case_id": "a", "image": "a.nii.gz", "label": "la.nii.gz", "split": "train", "fold": "0"},
        {"case_id": "b", "image": "b.nii", "label": "lb.nii.gz", "split": "val", "fold": "1"},
        {"case_id": "c", "image": "s", "label": "", "split": "test", "fold": ""},
    ]


def export(folder: Path, rows, to="nnunet", name="Dataset001_Ball", **settings) -> Path:
    manifest = write_manifest(folder, rows)
    export_manifest(manifest, folder / name, ExportSettings(to=to, **settings))
    return folder / name


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nnunet_finds_its_files_and_description(tmp_path: Path, rows) -> None:
    out = export(tmp_path, rows, channels=("CT",), labels={1: "ball"})
    assert files_of(out) == [
        "dataset.json",
        "imagesTr/a_0000.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTs/c_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/b.nii.gz",
        "splits_final.json",
    ]
    document = json.loads((out / "dataset.json").read_text())
    assert document == {
        "name": "Dataset001_Ball",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    assert json.loads((out / "splits_final.json").read_text()) == [
        {"train": ["b"], "val": ["a"]},
        {"train": ["a"], "val": ["b"]},
    ]


def test_a_label_lies_on_the_grid_of_its_image(tmp_path: Path, rows) -> None:
    out = export(tmp_path, rows)
    image = read_nifti(out / "imagesTr/b_0000.nii.gz").volume
    label = read_nifti(out / "labelsTr/b.nii.gz").volume
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-5)
    np.testing.assert_array_equal(label.array == 1, image.array == 100)


def test_dicom_becomes_nifti_without_any_text_of_its_headers(tmp_path: Path, rows) -> None:
    out = export(tmp_path, rows)
    assert read_nifti(out / "imagesTs/c_0000.nii.gz").volume.shape == (6, 5, 3)
    for path in out.rglob("*"):
        if path.is_file():
            assert b"Secret" not in path.read_bytes()


def test_a_manifest_built_from_an_export_is_the_same(tmp_path: Path, rows) -> None:
    original = read_manifest(write_manifest(tmp_path, rows))
    for kind, out in (
        ("nnunet", export(tmp_path, rows)),
        ("monai", export(tmp_path, rows, "monai", "m") / "datalist.json"),
    ):
        manifest = tmp_path / f"{kind}.csv"
        build_manifest(out, Outputs(manifest), kind=kind, options=BuildOptions())
        cases = read_manifest(manifest)
        assert [case.case_id for case in cases] == ["a", "b", "c"]
        assert [bool(case.label) for case in cases] == [True, True, False]
        for before, after in zip(original[:2], cases[:2], strict=True):
            one, other = (read_nifti(dict(case.images)["image"]) for case in (before, after))
            np.testing.assert_array_equal(one.volume.array, other.volume.array)
            labels = [canonical(read_nifti(case.label).volume).array for case in (before, after)]
            np.testing.assert_array_equal(*labels)


def test_monai_lists_have_folds_or_splits(tmp_path: Path, rows) -> None:
    out = export(tmp_path, rows, "monai", "m")
    document = json.loads((out / "datalist.json").read_text())
    assert document["training"] == [
        {"image": "images/a.nii.gz", "label": "labels/a.nii.gz", "case_id": "a", "fold": 0},
        {"image": "images/b.nii.gz", "label": "labels/b.nii.gz", "case_id": "b", "fold": 1},
    ]
    assert document["testing"] == [{"image": "images/c.nii.gz", "case_id": "c"}]
    assert document["labels"] == {"0": "background", "1": "label_1"}
    for row in rows:
        del row["fold"]
    out = export(tmp_path, rows, "monai", "n")
    document = json.loads((out / "datalist.json").read_text())
    lists = {key: [entry["case_id"] for entry in document[key]] for key in ("training", "testing")}
    assert lists == {"training": ["a"], "testing": ["c"]}
    assert [entry["case_id"] for entry in document["validation"]] == ["b"]


def test_a_test_case_with_a_fold_is_not_a_training_case_of_monai(tmp_path: Path, rows) -> None:
    rows[2]["fold"] = "1"
    document = json.loads((export(tmp_path, rows, "monai", "m") / "datalist.json").read_text())
    assert [entry["case_id"] for entry in document["training"]] == ["a", "b"]
    assert document["testing"] == [{"image": "images/c.nii.gz", "case_id": "c"}]


def test_channels_are_numbered_in_the_order_of_columns(tmp_path: Path) -> None:
    image, truth = ball()
    write_volume(tmp_path / "one.nii.gz", image)
    write_volume(tmp_path / "two.nii.gz", image.with_array(image.array + 1))
    write_mask(tmp_path / "l.nii.gz", truth)
    row = {"case_id": "x", "image_T2": "one.nii.gz", "image_ADC": "two.nii.gz", "label": "l.nii.gz"}
    out = export(tmp_path, [row])
    document = json.loads((out / "dataset.json").read_text())
    assert document["channel_names"] == {"0": "T2", "1": "ADC"}
    assert read_nifti(out / "imagesTr/x_0001.nii.gz").volume.array.max() == 101
    monai = export(tmp_path, [row], "monai", "m")
    entry = json.loads((monai / "datalist.json").read_text())["training"][0]
    assert entry["image"] == ["images/x_T2.nii.gz", "images/x_ADC.nii.gz"]
    with pytest.raises(ValueError, match="--channels has 1 name, but the manifest has 2"):
        export(tmp_path, [row], name="y", channels=("CT",))


def test_images_that_would_be_one_file_of_monai_are_refused(tmp_path: Path) -> None:
    image, _ = ball()
    write_volume(tmp_path / "i.nii.gz", image)
    write_volume(tmp_path / "j.nii.gz", image.with_array(image.array + 1))
    rows = [
        {"case_id": name, "image_T1": "i.nii.gz", "image_ce_T1": "j.nii.gz", "label": ""}
        for name in ("p1", "p1_ce")
    ]
    said = "cases 'p1' and 'p1_ce' would both have an image images/p1_ce_T1.nii.gz"
    with pytest.raises(ManifestError, match=said):
        export(tmp_path, rows, "monai", "m")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({1: "ball", 2: "ball"}, "label values 1, 2 are all called 'ball'"),
        ({1: "background"}, "label values 0, 1 are all called 'background'"),
    ],
)
def test_two_label_values_with_one_name_are_refused_for_nnunet(
    tmp_path: Path, rows, labels, said
) -> None:
    with pytest.raises(ManifestError, match=said):
        export(tmp_path, rows, labels=labels)
    assert not (tmp_path / "Dataset001_Ball").exists()


def test_valid_files_are_linked_and_others_are_written(tmp_path: Path, rows) -> None:
    out = export(tmp_path, rows, link=True)
    links = [str(path.relative_to(out)) for path in out.rglob("*") if path.is_symlink()]
    assert sorted(links) == ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]
    assert (out / "imagesTr/a_0000.nii.gz").resolve() == (tmp_path / "a.nii.gz").resolve()
    assert read_nifti(out / "labelsTr/b.nii.gz").volume.array.any()


def test_damaged_or_repaired_files_are_never_linked(tmp_path: Path, rows) -> None:
    image, _ = ball()
    array = image.array.astype(np.float32)
    array[0, 0, 0] = np.nan
    write_volume(tmp_path / "a.nii.gz", image.with_array(array))
    with pytest.raises(ManifestError, match="1 NaN or infinite voxel found"):
        export(tmp_path, rows, link=True)
    out = export(tmp_path, rows, link=True, policy=ReadPolicy(nan="fill"))
    assert not (out / "imagesTr/a_0000.nii.gz").is_symlink()
    assert np.isfinite(read_nifti(out / "imagesTr/a_0000.nii.gz").volume.array).all()
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[-5] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(ManifestError, match="the gzip stream is damaged"):
        export(tmp_path, rows, name="d", link=True, policy=ReadPolicy(nan="fill"))


def test_a_refused_export_leaves_no_file(tmp_path: Path, rows) -> None:
    def problems(**settings) -> str:
        with pytest.raises(ManifestError) as caught:
            export(tmp_path, rows, **settings)
        assert not (tmp_path / "Dataset001_Ball").exists()
        assert not list(tmp_path.glob(".Dataset*"))
        return "\n".join(caught.value.problems)

    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    good = bytes(content)
    content[-5] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)  # only reading to the end tells
    assert "case a: a.nii.gz: the gzip stream is damaged" in problems()
    (tmp_path / "a.nii.gz").write_bytes(good)
    _, truth = ball()
    write_mask(tmp_path / "la.nii.gz", truth.with_array(truth.array * np.uint8(3)))
    assert "label values 1, 3 must be 1, 2, 3 and so on" in problems()
    rows[0]["label"] = ""
    assert "no label for a" in problems()
    _, small = ball(shape=(20, 20, 12))
    write_mask(tmp_path / "lb.nii.gz", small)
    assert "case b: the reference has shape (20, 20, 12)" in problems()


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, rows) -> None:
    (tmp_path / "Dataset001_Ball").mkdir()
    export(tmp_path, rows)  # an empty one is filled
    with pytest.raises(ManifestError, match="exists and is not empty"):
        export(tmp_path, rows)


def test_the_command_says_what_nnunet_needs(tmp_path: Path, rows) -> None:
    manifest = str(write_manifest(tmp_path, rows))
    words = ["manifest", "export", manifest, "--to", "nnunet", "--out", str(tmp_path / "odd")]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "nnU-Net needs a name like Dataset001_Name" in done.output
    assert "pass --channels CT if it is CT" in done.output
    assert "splits_final.json" in done.output
    assert runner.invoke(app, words).exit_code == 4


def test_a_case_without_a_channel_is_not_exported_but_checked(tmp_path: Path, rows) -> None:
    rows = [
        {"case_id": "a", "image_t1": "a.nii.gz", "image_t2": "b.nii", "label": "la.nii.gz"},
        {"case_id": "b", "image_t1": "a.nii.gz", "image_t2": "", "label": "la.nii.gz"},
    ]
    with pytest.raises(ManifestError, match="b: a channel is missing, but nnunet needs every"):
        export(tmp_path, rows)
    found = check_manifest(tmp_path / "cases.csv")
    (gap,) = [one for one in found.findings if one.code == "channel_missing"]
    assert (gap.case_id, gap.severity) == ("b", "warning")
    cases = read_manifest(tmp_path / "cases.csv")
    assert table_of(cases[::-1], tmp_path).header == ("case_id", "image_t1", "image_t2", "label")
