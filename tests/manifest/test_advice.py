"""What a manifest's columns may have been meant as is said, and never guessed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.manifest.advice import manifest_notices


def notices(folder: Path, header: str) -> list[tuple[str, str]]:
    path = folder / "m.csv"
    path.write_text(f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    return [(notice.code, notice.sentence) for notice in manifest_notices(path)]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("lable", "label"),
        ("labels", "label"),
        ("Mask", "label"),
        ("ground_truth", "label"),
        ("spilt", "split"),
        ("SeriesInstanceUID", "series"),
    ],
)
def test_a_column_with_a_similar_name_has_a_notice(tmp_path: Path, column, meant) -> None:
    ((code, sentence),) = notices(tmp_path, f"case_id,image,{column}")
    assert code == "manifest_column"
    assert f"column {column!r} has no effect; did you mean {meant}?" in sentence
    assert f"the columns are case_id, image, {column}" in sentence
    assert notices(tmp_path, f"case_id,image,{meant},{column}") == []


@pytest.mark.parametrize("column", ["patient", "Subject", "patient_id", "participant_id"])
def test_a_column_of_patients_is_offered_as_group(tmp_path: Path, column) -> None:
    ((code, sentence),) = notices(tmp_path, f"case_id,image,{column}")
    assert code == "manifest_group"
    assert "if it names the patient, rename it to group" in sentence
    assert notices(tmp_path, f"case_id,image,group,{column}") == []


def test_other_columns_have_no_notice(tmp_path: Path) -> None:
    header = "case_id,image_t1,site,age,sex,scanner,modality,slices,fold,session,volume_ml,path"
    assert notices(tmp_path, header) == []


def test_commands_print_the_notices_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    manifest = tmp_path / "m.csv"
    manifest.write_text("case_id,image,lable\nx,a.nii,a.nii\n")
    for words in (
        ["run", str(manifest), "none", "--out", str(tmp_path / "o")],
        ["evaluate", str(manifest), "--predictions", str(tmp_path), "--out", str(tmp_path / "o")],
        ["train", str(manifest), "--out", str(tmp_path / "model")],
        ["manifest", "check", str(manifest)],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code != 0
        assert "warning: manifest_column: column 'lable' has no effect" in done.output
