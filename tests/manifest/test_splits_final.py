"""The folds that nnU-Net used are the folds of the manifest, or are refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.errors import ManifestError, UsageError
from voxtile.manifest.build import BuildOptions, Outputs, build_manifest
from voxtile.manifest.rows import read_manifest
from voxtile.manifest.splits_final import read_splits

TWO = [{"train": ["a"], "val": ["b", "c"]}, {"train": ["b", "c"], "val": ["a"]}]


def write(folder: Path, value) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps(value))
    return folder


def test_a_fold_is_where_a_case_is_val(tmp_path: Path) -> None:
    found = read_splits(write(tmp_path, TWO), "abc")
    assert found.fold == {"a": "1", "b": "0", "c": "0"}
    assert set(found.split.values()) == {"train"}
    assert "--fold 0 writes fold 0 as splits" in found.notices[-1]
    assert read_splits(tmp_path, "abc", 1).split == {"a": "val", "b": "train", "c": "train"}
    with pytest.raises(UsageError, match="has the folds 0 to 1"):
        read_splits(tmp_path, "abc", 2)


def test_a_single_fold_is_the_split(tmp_path: Path) -> None:
    found = read_splits(write(tmp_path, TWO[:1]), "abcd")
    assert (found.split, found.fold) == ({"a": "train", "b": "val", "c": "val", "d": None}, {})
    assert "splits_final.json does not name: d" in found.notices
    assert "names cases that are not here: b, c" in "".join(read_splits(tmp_path, "a").notices)


def test_without_the_file_all_are_train_and_a_fold_is_refused(tmp_path: Path) -> None:
    assert read_splits(tmp_path, "ab").split == {"a": "train", "b": "train"}
    with pytest.raises(UsageError, match=r"--fold 0 needs splits_final\.json"):
        read_splits(tmp_path, "ab", 0)


def test_cases_that_are_val_twice_have_no_column(tmp_path: Path) -> None:
    found = read_splits(write(tmp_path, [TWO[0], TWO[0]]), "abc")
    assert found.fold == {}
    assert "choose one with --fold" in found.notices[0]


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x, max_size=3)))
def test_any_other_json_is_refused(tmp_path_factory, value) -> None:
    folder = write(tmp_path_factory.getbasetemp() / "splits", value)
    with pytest.raises(ManifestError, match="must be a list with"):
        read_splits(folder, "abc")


def test_a_case_in_both_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="a case can be in only one"):
        read_splits(write(tmp_path, [{"train": ["a"], "val": ["a"]}]), "a")


def test_a_data_set_finds_the_folds_of_its_preprocessed_data(tmp_path: Path) -> None:
    raw = tmp_path / "nnUNet_raw/Dataset001_X"
    for name in ("imagesTr/{}_0000", "labelsTr/{}"):
        for case in "abc":
            path = raw / f"{name.format(case)}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (raw / "imagesTs").mkdir()
    (raw / "imagesTs/t_0000.nii.gz").touch()
    (raw / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}})
    )
    write(tmp_path / "nnUNet_preprocessed/Dataset001_X", TWO)
    options = BuildOptions(fold=0)
    build_manifest(raw, Outputs(tmp_path / "m.csv"), kind="nnunet", options=options)
    rows = [(c.case_id, c.split, dict(c.extras)["fold"]) for c in read_manifest(tmp_path / "m.csv")]
    assert rows == [("a", "train", "1"), ("b", "val", "0"), ("c", "val", "0"), ("t", "test", "")]
    with pytest.raises(UsageError, match="fold is an option of --from nnunet"):
        build_manifest(raw, Outputs(tmp_path / "n.csv"), kind="nifti", options=options)
