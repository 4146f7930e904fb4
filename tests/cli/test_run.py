"""`voxtile run`, `segment`, `status` and `merge`: what they print, and their exit codes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from phantoms import ball

from voxtile.reading.nifti import read_nifti
from voxtile.writing.nifti import write_volume


def test_a_run_without_failures_exits_with_0(cohort: Path) -> None:
    code, said = invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")
    assert code == 0, said
    assert "1 done, 0 failed" in said
    assert "ball: mean Dice" in said
    assert (cohort / "out/report.csv").exists()


def test_a_failed_case_exits_with_3_and_its_reason(cohort: Path) -> None:
    code, said = invoke("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out")
    assert code == 3
    assert "failed  empty_file: the scan has 0 bytes" in said


def test_a_bad_manifest_exits_with_4_and_nothing_runs(cohort: Path) -> None:
    code, said = invoke("run", cohort / "wrong.csv", cohort / "model", "--out", cohort / "out")
    assert code == 4
    assert "line 3: case_id 'a' is already on line 2" in said
    assert "line 3: image 'none.nii.gz' does not exist" in said
    assert not (cohort / "out").exists()


def test_a_refused_model_exits_with_5(cohort: Path) -> None:
    code, said = invoke("run", cohort / "good.csv", "nothere", "--out", cohort / "out")
    assert code == 5
    assert "shipped" in said
    (cohort / "model/n.keras").write_bytes(b"")
    assert invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")[0] == 5


def test_a_folder_that_cannot_be_written_exits_with_6(cohort: Path) -> None:
    (cohort / "file").touch()
    code, said = invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "file/out")
    assert code == 6
    assert "cannot be written" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tile", "17x16"), "multiple of 4"),
        (("--tile", "big"), "must look like 256x256"),
        (("--label-map", "1-2"), "must look like 2:1,3:1"),
        (("--split", "dev"), "not one of train, val, test"),
        (("--overlap", "2"), "overlap"),
        (("--nan", "maybe"), "nan"),
        (("--nsd", "1;2"), "must be numbers of mm"),
        (("--nsd", "-1"), "must be a number of mm, at least 0"),
    ],
)
def test_a_wrong_option_value_exits_with_2(cohort: Path, words, message) -> None:
    code, said = invoke(
        "run", cohort / "good.csv", cohort / "model", "--out", cohort / "out", *words
    )
    assert code == 2
    assert message in said


@pytest.mark.parametrize("case_id", ["../evil", "/evil", "a/b", "..", "con trol", "a\tb"])
def test_a_case_id_that_leaves_the_folder_exits_with_4(cohort: Path, case_id: str) -> None:
    before = sorted(cohort.rglob("*"))
    (cohort / "good.csv").write_text(f"case_id,image\n{case_id},a.nii.gz\n")
    code, said = invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")
    assert code == 4
    assert "because it names files" in said
    assert sorted(cohort.rglob("*")) == before


def test_segment_writes_a_mask_on_the_grid_of_the_scan(cohort: Path) -> None:
    code, said = invoke("segment", cohort / "a.nii.gz", cohort / "model", cohort / "m.nii.gz")
    assert code == 0, said
    assert "ball: " in said
    image, _ = ball()
    written = read_nifti(cohort / "m.nii.gz").volume
    assert written.shape == image.shape
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)
    code, said = invoke("segment", cohort / "bad.nii.gz", cohort / "model", cohort / "x.nii.gz")
    assert (code, (cohort / "x.nii.gz").exists()) == (4, False)
    assert invoke("segment", cohort / "a.nii.gz", cohort / "model", cohort / "m.png")[0] == 2


def test_an_empty_mask_is_visible_and_strict_makes_it_an_exit_code(cohort: Path) -> None:
    image, _ = ball()
    write_volume(cohort / "air.nii.gz", image.with_array(image.array * 0))
    words = ("segment", cohort / "air.nii.gz", cohort / "model", cohort / "m.nii.gz")
    code, said = invoke(*words)
    assert code == 0
    assert "verdict: look (empty, scan)" in said
    assert "  empty: no voxel of ball was predicted" in said
    assert invoke(*words, "--strict")[0] == 7
    (cohort / "air.csv").write_text("case_id,image\na,a.nii.gz\nair,air.nii.gz\n")
    words = ("run", cohort / "air.csv", cohort / "model", "--out", cohort / "out")
    code, said = invoke(*words)
    assert code == 0, said
    assert "2 cases: 0 usable, 2 to look at (2 empty), 0 failed" in said
    assert "2 of 2 masks: empty; check that the model fits" in said
    assert invoke(*words, "--strict")[0] == 7
    lines = [json.loads(line) for line in (cohort / "out/events.jsonl").read_text().splitlines()]
    judged = {line["case_id"]: line for line in lines if line["event"] == "case_finished"}
    assert (judged["a"]["verdict"], judged["a"]["look_for"]) == ("look", ["empty"])
    assert (judged["air"]["verdict"], judged["air"]["look_for"]) == ("look", ["empty", "scan"])


def test_a_mask_never_replaces_its_scan(cohort: Path) -> None:
    before = (cohort / "a.nii.gz").read_bytes()
    code, said = invoke("segment", cohort / "a.nii.gz", cohort / "model", cohort / "a.nii.gz")
    assert (code, "is also the output" in said) == (4, True)
    assert (cohort / "a.nii.gz").read_bytes() == before


def test_a_rerun_says_how_many_cases_were_finished_before(cohort: Path) -> None:
    words = ("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out")
    assert invoke(*words)[0] == 3
    code, said = invoke(*words)
    assert code == 3
    assert "1 done, 1 failed (2 by an earlier run)" in said
    assert "1 x empty_file: b" in said
    assert "--retry-failed" in said
    assert invoke(*words, "--quiet") == (3, "")
    code, said = invoke("status", cohort / "out")
    assert code == 0
    assert "2 cases: 1 done, 1 failed, 0 running, 0 missing" in said
    code, said = invoke("status", cohort / "out", "--json")
    assert json.loads(said)["reasons"] == {"empty_file": 1}
    assert invoke("status", cohort)[0] == 4


def test_shards_are_run_and_merged(cohort: Path) -> None:
    words = ("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out")
    code, said = invoke(*words, "--shard", "1/2")
    assert code == 0
    assert "voxtile merge" in said
    code, said = invoke("merge", cohort / "out")
    assert code == 3
    assert "1 done, 0 failed, 1 missing of 2" in said
    assert "missing: b" in said
    assert "2 cases: 0 usable, 1 to look at (1 empty), 0 failed, 1 missing" in said
    assert (cohort / "out/report.html").exists()
    (cohort / "out/report.html").unlink()
    assert invoke("merge", cohort / "out", "--no-html")[0] == 3
    assert not (cohort / "out/report.html").exists()
    assert invoke(*words, "--shard", "1/3")[0] == 4
    assert invoke(*words, "--shard", "3/2")[0] == 2
    assert invoke("merge", cohort)[0] == 4


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who lives")
def test_an_interrupted_run_exits_with_130_and_can_be_continued(cohort: Path) -> None:
    rows = "".join(f"c{number:03d},a.nii.gz\n" for number in range(400))
    (cohort / "many.csv").write_text("case_id,image\n" + rows)
    program = "from voxtile.cli import main; main()"
    words = ("run", cohort / "many.csv", cohort / "model", "--out", cohort / "out")
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "1/400 c000" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "of 400 cases; run the same command again to go on" in said
    _, said = invoke("status", cohort / "out")
    assert "run the same command again to process the missing cases" in said
