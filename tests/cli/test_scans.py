"""`voxtile run FOLDER`: what it shows, keeps and refuses, as a newcomer meets it."""

import json
from pathlib import Path

import pytest
from commands import invoke, runner
from phantoms import ball

from voxtile.cli import app
from voxtile.writing.nifti import write_mask, write_volume


@pytest.fixture
def scans(tmp_path: Path, cohort: Path) -> Path:
    """A folder with two scans, one of them with a label."""
    image, truth = ball()
    folder = tmp_path / "Jörgs scans"
    for name in ("imagesTr/p1", "imagesTr/p2", "labelsTr/p1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write = write_mask if name.startswith("labels") else write_volume
        write(folder / f"{name}.nii.gz", truth if name.startswith("labels") else image)
    return folder


def test_a_folder_is_listed_checked_and_run(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans)
    (scans / "imagesTr/p3.nii.gz").write_bytes(b"")
    words = ("run", ".", scans.parent / "model", "--out", "out", "--no-html")
    code, said = invoke(*words)
    assert code == 3, said
    for line in (
        ". was detected as nifti\n",
        "note: taken for labels, because of the names: labelsTr/\n",
        "note: no label for p2, p3\n",
        "3 cases, 1 with a reference\n",
        "  error: line 4 case p3: empty_file: ",
        "2 done, 1 failed\n",
    ):
        assert line in said
    assert (scans / "out/manifest.csv").read_text().startswith("case_id,image,label,split\np1,../")
    for again in (("report", "out"), ("export", "out", "--to", "seg.nrrd")):
        code, said = invoke(*again, "--manifest", "out/manifest.csv")
        assert "refused" not in said and "would be" not in said and code in (0, 3), said
    code, said = invoke(*words)
    assert "2 done, 1 failed (3 by an earlier run)" in said
    assert "manifest: out/manifest.csv" in said
    assert "note: left out out: results of voxtile" in said
    (scans / "imagesTr/p3.nii.gz").unlink()
    code, said = invoke(*words)
    assert code == 0
    assert "note: 1 case of the last run is no longer there: p3" in said


def test_a_dry_run_checks_and_forecasts_and_writes_nothing(scans: Path) -> None:
    before = sorted(scans.parent.rglob("*"))
    words = ("run", scans, scans.parent / "model", "--out", scans / "out", "--dry-run")
    code, said = invoke(*words, "--cases", "p2")
    assert code == 0, said
    assert "check: 0 errors" in said
    assert "1 case, " in said
    assert "whole run with 1 worker: " in said
    done = runner.invoke(app, [*map(str, words), "--json"])
    answer = json.loads(done.stdout)
    assert (answer["dry_run"], answer["cases"]) == (True, ["p1", "p2"])
    assert [case["case_id"] for case in answer["forecast"]["cases"]] == ["p1", "p2"]
    assert sorted(scans.parent.rglob("*")) == before


def test_a_dry_run_of_a_manifest_ends_with_3_if_a_case_would_fail(cohort: Path) -> None:
    words = ("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out", "--dry-run")
    code, said = invoke(*words)
    assert code == 3, said
    assert "would fail: b: empty_file" in said
    assert not (cohort / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "hippocampus"),
        ("evaluate", "--predictions", "x", "--out", "y"),
        ("manifest", "check"),
        ("manifest", "split", "--out", "x", "--folds", "2"),
        ("train", "--out", "x"),
    ],
    ids=lambda words: words[0],
)
def test_a_folder_instead_of_a_manifest_is_answered_with_the_two_commands(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "my scans").mkdir()
    place = 2 if words[0] == "manifest" else 1
    code, said = invoke(*words[:place], tmp_path / "my scans", *words[place:])
    assert code == 4
    assert f"`voxtile manifest build '{tmp_path}/my scans' --out cases.csv`" in said
    assert f"`voxtile run '{tmp_path}/my scans' MODEL --out out`" in said


def test_a_root_and_an_unknown_case_are_refused_before_anything_is_written(scans: Path) -> None:
    words = ("run", scans, scans.parent / "model", "--out", scans / "out")
    assert invoke(*words, "--root", scans)[0] == 2
    code, said = invoke(*words, "--cases", "p9")
    assert (code, "has no case p9; the cases are p1, p2" in said) == (4, True)
    assert not (scans / "out").exists()
