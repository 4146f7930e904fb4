"""Lists of labels that people write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.errors import ManifestError
from voxtile.manifest.label_list import LabelList, read_labels
from voxtile.models.spec import stand_ins
from voxtile.reading.reference import read_reference
from voxtile.scoring.score import score
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask


def test_labels_are_read_from_csv_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("value,name,color\n2,liver,#123456\n3,spleen,\n")
    assert [(x.value, x.name) for x in read_labels(path).labels] == [(2, "liver"), (3, "spleen")]
    assert read_labels(path).labels[0].color == "#123456"
    path.write_text("number,name\n2,liver\n")
    with pytest.raises(ManifestError, match="is not a list of labels"):
        read_labels(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_labels(tmp_path / "none.json")


def test_a_colour_is_checked_before_anything_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("value,name,color\n2,liver,#FF00aB\n")
    assert read_labels(path).labels[0].color == "#ff00ab"
    path.write_text("value,name,color\n2,liver,#123456\n3,spleen,red\n")
    said = r"l\.csv: label 3 \(spleen\) has color 'red', but #rrggbb is needed; write one such as #"
    with pytest.raises(ManifestError, match=said):
        read_labels(path)


def test_codes_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(
        "value,name,concept,modifier\n1,head,SCT:5366008:Hippocampus,SCT:255549009:Anterior\n2,b,,\n"
    )
    head, other = read_labels(path).labels
    assert (head.concept.value, head.modifier.meaning) == ("5366008", "Anterior")
    assert (other.concept, other.modifier) == (None, None)
    path.write_text("value,name,concept\n1,head,5366008\n")
    with pytest.raises(ManifestError, match=r"has concept '5366008', but scheme:code:meaning"):
        read_labels(path)


def read(folder: Path, content: Any) -> LabelList:
    """The labels of a CSV (text) or JSON (any other value)."""
    path = folder / ("l.csv" if isinstance(content, str) else "l.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_labels(path)


def facts(found: LabelList) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(label.name, label.value, label.values) for label in found.labels]


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), st.integers(0, 2**32 - 1))
def test_a_merged_list_reads_files_as_if_their_values_were_merged(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("merged")
    names = {0: "background", **{group: f"g{group}" for group in range(1, 5)}}
    rows = [f"{value},{names[group]}" for value, group in enumerate(groups, start=1)]
    found = read(folder, "\n".join(["value,name", *rows, "7,g5", ""]))
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 8, (4, 3, 3)).astype(np.uint8)
    volume = Volume(array, np.eye(4))
    write_mask(folder / "l.nii", volume)
    mask, _ = read_reference(folder / "l.nii", volume, found.labels, unlabelled=found.unlabelled)
    own = {label.name: label.value for label in found.labels}
    table = np.array([0, *(own.get(names[group], 0) for group in groups), 7])
    np.testing.assert_array_equal(mask.array, table[array])
    # Files with the merged values, and with all values, have the same scores.
    other = Volume(rng.integers(0, 8, array.shape).astype(np.uint8), np.eye(4))
    assert [one.overlap for one in score(other, volume, found.labels)] == [
        one.overlap for one in score(other, mask, found.labels)
    ]


def test_rows_of_one_name_are_merged_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "value,name,color\n4,spleen,\n2;3,kidney,#010203\n1,kidney,\n5;0,Background,\n255,ignore,\n"
    )
    found = read(tmp_path, text)
    assert facts(found) == [("spleen", 4, (4,)), ("kidney", 2, (2, 3, 1))]
    assert (found.ignore, found.unlabelled) == (255, (5,))
    assert found.labels[1].color == "#010203"
    same = {"4": "spleen", "2;3": "kidney", "1": "kidney", "5": "background", "255": "ignore"}
    assert facts(read(tmp_path, same)) == facts(found)


def test_a_region_gets_the_value_that_its_parts_do_not_overwrite(tmp_path: Path) -> None:
    found = read(tmp_path, "value,name\n1;2;3,whole\n1;3,core\n")
    assert facts(found) == [("whole", 2, (2, 1, 3)), ("core", 1, (1, 3))]
    assert stand_ins(found.labels) == {3: 1}


def test_labels_of_nnunet_are_read(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    found = read(tmp_path, {"labels": labels, "regions_class_order": [1, 2, 3]})
    assert [row[:2] for row in facts(found)] == [("whole", 1), ("core", 2), ("enhancing", 3)]
    assert (found.ignore, found.unlabelled) == (4, ())


def test_labels_of_a_spec_may_cover_values_that_are_no_label(tmp_path: Path) -> None:
    merged = {"value": 1, "name": "all", "color": "#ff0000", "region": [1, 3, 7]}
    found = read(tmp_path, {"labels": [merged], "ignore": 9, "unlabelled": [4]})
    assert facts(found) == [("all", 1, (1, 3, 7))]
    assert (found.ignore, found.unlabelled) == (9, (4,))
    assert facts(read(tmp_path, {"labels": [merged]})) == facts(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("value,name\n1;x,liver\n", r"liver has the value '1;x', but a value is a whole number"),
        ("value,name\n0,liver\n", "liver has the value '0'"),
        ("value,name\n1,\n", "value '1' has no name"),
        ("value,name\n3,background\n", "names no label"),
        ("value,name\n1,a\n2;3,ignore\n", "only one value can be called ignore, not 2"),
        ("value,name\n1,a\n1,ignore\n", "value 1 is both a and ignore"),
        ("value,name\n1,a\n2,ignore\n2,background\n", "value 2 is both background and ignore"),
        ("value,name\n3,core\n2;3,whole\n", "every value of core also .* before their parts"),
        ("value,name\n1;2,a\n2;3,b\n", "value 3 of the region of b .* add a label"),
        ({"labels": {"a": [1, 2], "b": 3}, "regions_class_order": [3, 3]}, "another label"),
        ({"labels": [{"value": 1, "name": "a", "color": "#ff0000", "region": [2]}]}, "own value"),
    ],
)
def test_a_bad_list_is_refused_in_a_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as refused:
        read(tmp_path, content)
    assert "pydantic" not in str(refused.value)


def test_the_check_of_a_manifest_knows_the_labels(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) % 4
    for name in ("i", "l"):
        write_mask(tmp_path / f"{name}.nii", Volume(values, np.eye(4)))
    (tmp_path / "m.csv").write_text("case_id,image,label\na,i.nii,l.nii\n")
    (tmp_path / "l.csv").write_text("value,name\n1;2,a\n")
    command = ["manifest", "check", str(tmp_path / "m.csv"), "--labels", str(tmp_path / "l.csv")]
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "add --deep" in refused.output) == (2, True)
    refused = CliRunner().invoke(app, [*command, "--deep"])
    assert (refused.exit_code, "the reference has values 3" in refused.output) == (4, True)
    (tmp_path / "l.csv").write_text("value,name\n1;2,a\n3,background\n")
    done = CliRunner().invoke(app, [*command, "--deep"])
    assert (done.exit_code, "label values: 1 in 1 case" in done.output) == (0, True)
