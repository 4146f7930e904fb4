"""`voxtile evaluate`, `report` and `compare`."""

from pathlib import Path

from commands import invoke
from faulty import run_faulty, valid_cases

from voxtile.run_folder.lock import locked


def test_evaluate_scores_finished_masks(cohort: Path) -> None:
    (cohort / "masks").mkdir()
    (cohort / "masks/a.nii.gz").write_bytes((cohort / "l.nii.gz").read_bytes())
    words = ("--predictions", cohort / "masks", "--out", cohort / "out")
    code, said = invoke("evaluate", cohort / "good.csv", *words)
    assert code == 0, said
    assert "mean Dice 1.0000" in said


def test_a_report_is_written_again_and_runs_are_compared(cohort: Path) -> None:
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
    assert "label 1 is called 'ball' in one but 'label 1' in two; give it the same name" in said
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


def test_a_removed_record_is_missing_for_every_command(tmp_path: Path) -> None:
    manifest, out = valid_cases(tmp_path, 5), tmp_path / "out"
    run_faulty(manifest, out)
    run_faulty(manifest, tmp_path / "other")
    (out / "cases/c002.json").unlink()
    code, said = invoke("report", out)
    assert code == 3
    assert "4 done, 0 failed, 1 missing of 5" in said
    assert "missing: c002: not done yet, or its record was removed" in said
    code, said = invoke("compare", tmp_path / "other", out, "--out", tmp_path / "both")
    assert code == 3
    assert "out: 4 done, 0 failed, 1 missing of 5" in said
    code, said = invoke("export", out, "--to", "binary")
    assert code == 3
    assert "4 exported, 0 failed, 1 missing of 5 cases" in said
    with locked(out):
        for words in (("report", out), ("export", out, "--to", "binary")):
            code, said = invoke(*words)
            assert (code, "is in use by process" in said) == (6, True)
        code, said = invoke("compare", tmp_path / "other", out, "--out", tmp_path / "both")
        assert code == 3
        assert "out is being written by process" in said
