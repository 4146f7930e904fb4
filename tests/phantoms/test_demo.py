"""The demo's cohort is what it says, and the demo clears only what it made."""

import csv
from pathlib import Path

import numpy as np
import pytest

from voxtile.errors import CaseError
from voxtile.phantoms.demo import make_cohort, run_demo
from voxtile.reading.channels import read_scan
from voxtile.volume import grid_difference


def test_the_cohort_has_every_kind_of_case_with_its_reference(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    rows = {
        row["case_id"]: row
        for row in csv.DictReader((tmp_path / "test.csv").read_text().splitlines())
    }
    assert list(rows) == ["axial", "oblique", "reversed", "dicom", "unlabelled", "damaged"]
    for name, row in rows.items():
        if name == "damaged":
            with pytest.raises(CaseError, match="ends too early"):
                read_scan(tmp_path / row["image"])
            continue
        image = read_scan(tmp_path / row["image"]).volume
        if name == "unlabelled":
            assert row["label"] == ""
            continue
        truth = read_scan(tmp_path / row["label"]).volume
        assert set(np.unique(truth.array)) == {0, 1, 2}
        assert sorted(image.shape) == sorted(truth.shape)
        if name != "dicom":
            assert not grid_difference(image.shape, image.affine, truth.affine)
    assert read_scan(tmp_path / "reversed.nii.gz").volume.orientation == "LPI"


def test_a_folder_that_is_not_a_demo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ValueError, match="which is not of a demo"):
        run_demo(tmp_path)
    assert (tmp_path / "thesis.docx").exists()


@pytest.mark.parametrize(
    "name", ["cohort/mine.nii.gz", "model/notes.txt", "run/table.csv", "run/masks/mine.nii.gz"]
)
def test_somebodys_file_in_a_demo_is_not_removed(tmp_path: Path, name: str) -> None:
    make_cohort(tmp_path / "cohort")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="which is not of a demo"):
        run_demo(tmp_path)
    assert (tmp_path / name).exists()
    assert (tmp_path / "cohort/test.csv").exists()


@pytest.mark.slow
def test_the_demo_trains_and_runs(tmp_path: Path) -> None:
    said: list[str] = []
    done = run_demo(tmp_path / "demo", minutes=0.05, say=said.append)
    assert [report.case_id for report in done.result.failed] == ["damaged"]
    assert (tmp_path / "demo/run/masks/dicom.nii.gz").exists()
    assert len(said) == 3
