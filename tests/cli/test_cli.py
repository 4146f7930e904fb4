"""The command line: fast to answer, and each kind of trouble has its exit code."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from phantoms import ball

from voxtile.reading.nifti import read_nifti


def test_help_answers_at_once() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[1:] = ['--help']; from voxtile.cli import main; main()",
    ]
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begin)
    assert "Exit codes" in done.stdout
    assert min(seconds) < 0.5


def test_nothing_heavy_is_imported_for_the_command_line() -> None:
    code = (
        "import sys, voxtile.cli; print([m for m in ('numpy', 'pandas', 'keras', 'pydicom', "
        "'nibabel', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_run_ends_well(cohort: Path) -> None:
    code, said = invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")
    assert code == 0, said
    assert "1 done, 0 failed" in said
    assert "ball: mean Dice" in said
    assert (cohort / "out/report.csv").exists()


def test_some_failed_is_3_and_says_why(cohort: Path) -> None:
    code, said = invoke("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out")
    assert code == 3
    assert "failed  empty_file: bad.nii.gz has 0 bytes" in said


def test_a_bad_manifest_is_4_and_nothing_runs(cohort: Path) -> None:
    code, said = invoke("run", cohort / "wrong.csv", cohort / "model", "--out", cohort / "out")
    assert code == 4
    assert "line 3: case_id 'a' is already on line 2" in said
    assert "line 3: image 'none.nii.gz' does not exist" in said
    assert not (cohort / "out").exists()


def test_a_refused_model_is_5(cohort: Path) -> None:
    code, said = invoke("run", cohort / "good.csv", "nothere", "--out", cohort / "out")
    assert code == 5
    assert "shipped" in said
    (cohort / "model/n.keras").write_bytes(b"")
    assert invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")[0] == 5


def test_an_unwritable_folder_is_6(cohort: Path) -> None:
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
def test_wrong_words_are_2(cohort: Path, words, message) -> None:
    code, said = invoke(
        "run", cohort / "good.csv", cohort / "model", "--out", cohort / "out", *words
    )
    assert code == 2
    assert message in said


def test_segment_one_scan(cohort: Path) -> None:
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


def test_a_mask_never_replaces_its_scan(cohort: Path) -> None:
    before = (cohort / "a.nii.gz").read_bytes()
    code, said = invoke("segment", cohort / "a.nii.gz", cohort / "model", cohort / "a.nii.gz")
    assert (code, "a.nii.gz is the scan itself" in said) == (2, True)
    assert (cohort / "a.nii.gz").read_bytes() == before


def test_evaluate_scores_masks(cohort: Path) -> None:
    (cohort / "masks").mkdir()
    (cohort / "masks/a.nii.gz").write_bytes((cohort / "l.nii.gz").read_bytes())
    words = ("--predictions", cohort / "masks", "--out", cohort / "out")
    code, said = invoke("evaluate", cohort / "good.csv", *words)
    assert code == 0, said
    assert "mean Dice 1.0000" in said


def test_reports_are_made_again_and_runs_compared(cohort: Path) -> None:
    (cohort / "scanned.csv").write_text("case_id,image,label,scanner\na,a.nii.gz,l.nii.gz,X\n")
    one, two, words = cohort / "one", cohort / "two", ("--nsd", "3", "--lesions")
    code, said = invoke(
        "run", cohort / "scanned.csv", cohort / "model", "--out", one, "--no-qc", *words
    )
    assert code == 0, said
    masks = ("--predictions", one / "masks", "--out", two, "--by", "scanner")
    code, said = invoke("evaluate", cohort / "scanned.csv", *masks, *words)
    assert code == 0, said
    code, said = invoke("compare", one, two, "--out", cohort / "both")
    assert code == 4
    assert "label 1 is 'ball' in one but 'label 1' in two; give the same names, as" in said
    masks = (*masks, "--labels", cohort / "model/spec.json")
    assert invoke("evaluate", cohort / "scanned.csv", *masks, *words)[0] == 0
    assert not (one / "qc").exists()
    assert "lesion_f1" in (two / "summary.csv").read_text()
    assert "nsd_3mm" in (cohort / "one/report.csv").read_text()
    assert ",scanner,X" in (cohort / "two/summary.csv").read_text()
    before = (cohort / "one/report.csv").read_bytes()
    (cohort / "one/report.csv").unlink()
    code, said = invoke("report", cohort / "one", "--by", "scanner")
    assert (code, said.count("mean Dice")) == (0, 1), said
    assert (cohort / "one/report.csv").read_bytes() == before
    assert ",scanner,X" in (cohort / "one/summary.csv").read_text()
    code, said = invoke("report", cohort / "one", "--by", "scaner")
    assert code == 4
    assert "cannot summarise by 'scaner'; the manifest has split, group, scanner" in said
    code, said = invoke("compare", cohort / "one", cohort / "two", "--out", cohort / "both")
    assert code == 0, said
    assert "two - one, ball, dice: +0.0000" in said
    assert (cohort / "both/comparison.csv").exists()
    code, said = invoke("compare", cohort / "one", cohort, "--out", cohort / "both")
    assert code == 4
    assert "is not a run folder" in said


def test_models_lists_what_is_shipped() -> None:
    assert invoke("models")[0] == 0


@pytest.mark.parametrize("case_id", ["../evil", "/evil", "a/b", "..", "con trol", "a\tb"])
def test_an_id_that_leaves_the_folder_is_4_and_writes_nothing(cohort: Path, case_id: str) -> None:
    before = sorted(cohort.rglob("*"))
    (cohort / "good.csv").write_text(f"case_id,image\n{case_id},a.nii.gz\n")
    code, said = invoke("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out")
    assert code == 4
    assert "because it names files" in said
    assert sorted(cohort.rglob("*")) == before


def test_a_rerun_says_what_was_done_before(cohort: Path) -> None:
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
    assert invoke(*words, "--shard", "1/3")[0] == 4
    assert invoke(*words, "--shard", "3/2")[0] == 2
    assert invoke("merge", cohort)[0] == 4


def test_doctor_says_what_there_is(cohort: Path) -> None:
    code, said = invoke("doctor", "--out", cohort)
    assert code == 0, said
    for words in ("tensorflow", "memory free", "can be written", "cores"):
        assert words in said
    (cohort / "file").touch()
    code, said = invoke("doctor", "--out", cohort / "file")
    assert code == 6
    assert "BAD" in said


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who lives")
def test_ctrl_c_is_130_and_the_same_command_goes_on(cohort: Path) -> None:
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
    assert "run the same command again to do the missing cases" in said
