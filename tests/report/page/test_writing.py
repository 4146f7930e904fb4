"""Writing the page: side files, chosen cases, and commands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import invoke
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.drive import run_manifest
from voxtile.errors import ManifestError
from voxtile.machine.json_objects import sealed
from voxtile.report.page import parse_cases, write_page
from voxtile.run.evaluation import evaluate
from voxtile.run_folder.case_report import read_run
from voxtile.writing.nifti import write_mask, write_volume


def write(folder: Path, **choices):
    return write_page(folder / "out", read_run(folder / "out").reports, **choices)


def test_the_page_of_a_run_shows_what_its_model_saw(tmp_path: Path) -> None:
    image = ball()[0]
    write_volume(tmp_path / "pet.nii.gz", image.with_array(np.zeros_like(image.array)))
    write_volume(tmp_path / "ct.nii.gz", image)
    manifest = tmp_path / "cases.csv"
    manifest.write_text("case_id,image_pet,image_ct\nc,pet.nii.gz,ct.nii.gz\n")
    bundle = make_bundle(channels=("ct",))
    run_manifest(manifest, bundle, tmp_path / "out", models=[threshold_model])
    assert write(tmp_path, manifest=manifest).pictured == ("c",)
    volumes = (tmp_path / "out/report_files/volumes/c.js").read_text()
    assert "channel ct of 2" in volumes


def test_pictures_are_made_retained_replaced_and_removed(run_folder: Path) -> None:
    manifest = run_folder / "cases.csv"
    assert write(run_folder).pictured == ()
    assert write(run_folder, manifest=manifest, cases="worst:2").pictured == ("c2", "c0")
    volumes = run_folder / "out/report_files/volumes"
    made = (volumes / "c2.js").stat().st_mtime_ns
    assert write(run_folder, manifest=manifest, cases="all").pictured == ("c2", "c0", "c1")
    assert (volumes / "c2.js").stat().st_mtime_ns == made
    (run_folder / "c0.nii.gz").unlink()
    assert len(write(run_folder).pictured) == 3
    case = run_folder / "out/cases/c2.json"
    case.write_text(json.dumps(sealed({**json.loads(case.read_text()), "fingerprint": "other"})))
    assert write(run_folder).pictured == ("c0", "c1")
    assert not (volumes / "c2.js").exists()
    assert write(run_folder, cases="none").pictured == ()
    assert not (run_folder / "out/report_files").exists()


def test_a_case_that_cannot_be_shown_is_named_and_the_others_go_on(run_folder: Path) -> None:
    (run_folder / "c2.nii.gz").write_bytes(b"nonsense")
    facts = write(run_folder, manifest=run_folder / "cases.csv")
    assert facts.pictured == ("c0", "c1")
    assert [case_id for case_id, _ in facts.problems] == ["c2"]


def test_the_page_uses_the_pictures_that_the_run_drew(run_folder: Path) -> None:
    write(run_folder, manifest=run_folder / "cases.csv", cases="worst:1")
    text = (run_folder / "out/report.html").read_text()
    data = re.search(r'id="report-data">(.*?)</script>', text)
    assert data is not None
    cases = json.loads(data[1])["cases"]
    assert [(case["id"], case["pictures"]) for case in cases][:2] == [("c2", True), ("c0", False)]
    assert all(case["montage"] == f"qc/{case['id']}.png" for case in cases)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"run\.json cannot be read"):
        write_page(tmp_path, [])


@pytest.mark.parametrize(("text", "count"), [("all", None), ("none", 0), ("worst:7", 7)])
def test_cases_are_chosen_by_worst_all_or_none(text, count) -> None:
    assert parse_cases(text) == count


@pytest.mark.parametrize("text", ["worst", "worst:", "worst:-1", "best:3", "worst:1e3", ""])
def test_other_choices_of_cases_are_refused(text) -> None:
    with pytest.raises(ValueError, match="must be worst:N, such as worst:20, or all, or none"):
        parse_cases(text)


def test_evaluate_writes_a_page_with_the_given_masks(cohort: Path) -> None:
    (cohort / "masks").mkdir()
    (cohort / "masks/a.nii.gz").write_bytes((cohort / "l.nii.gz").read_bytes())
    words = ("--predictions", cohort / "masks", "--out", cohort / "out")
    code, said = invoke("evaluate", cohort / "good.csv", *words)
    assert (code, " with pictures: patient data" in said) == (0, True)


def test_pictures_of_an_evaluation_follow_changed_masks_and_scans(
    run_folder: Path,
) -> None:
    manifest, masks, out = run_folder / "cases.csv", run_folder / "out/masks", run_folder / "scored"

    def pictured(given: bool = True, cases: str = "all") -> list[str]:
        reports = read_run(out).reports
        told = {"manifest": manifest, "predictions": masks} if given else {}
        return sorted(write_page(out, reports, cases=cases, **told).pictured)

    evaluate(manifest, masks, out)
    assert pictured() == ["c0", "c1", "c2"]
    made = {path: path.read_bytes() for path in (out / "report_files/volumes").iterdir()}
    times = {path: path.stat().st_mtime_ns for path in made}
    assert pictured() == ["c0", "c1", "c2"]
    assert {path: path.stat().st_mtime_ns for path in made} == times

    # Another prediction of a case, scored: its picture goes, though nobody asks for a new one.
    _, truth = ball()
    write_mask(masks / "c1.nii.gz", truth.with_array(np.roll(truth.array, 2, axis=0)))
    evaluate(manifest, masks, out)
    assert pictured(given=False) == ["c0", "c2"]
    assert pictured() == ["c0", "c1", "c2"]
    # Another reference.
    write_mask(run_folder / "c1_label.nii.gz", truth.with_array(np.roll(truth.array, 3, axis=0)))
    evaluate(manifest, masks, out)
    assert pictured(given=False) == ["c0", "c2"]
    # Another scan, which only a manifest can tell.
    image, _ = ball()
    write_volume(run_folder / "c0.nii.gz", image.with_array(image.array[::-1]))
    assert pictured(given=False) == ["c0", "c2"]
    assert pictured(cases="worst:1") == ["c2"]
    # A mask that was changed after it was scored is not shown as the one that was.
    write_mask(masks / "c0.nii.gz", truth.with_array(np.roll(truth.array, 1, axis=0)))
    facts = write_page(
        out, read_run(out).reports, manifest=manifest, predictions=masks, cases="all"
    )
    assert dict(facts.problems).keys() == {"c0"}
    assert "c0.nii.gz is not the mask that was scored" in dict(facts.problems)["c0"]


def test_commands_write_the_page(cohort: Path) -> None:
    out = cohort / "out"
    words = ("run", cohort / "good.csv", cohort / "model", "--out", out)
    assert invoke(*words, "--no-html")[0] == 0
    assert not (out / "report.html").exists()
    code, said = invoke(*words)
    assert code == 0
    assert " with pictures: patient data" in said
    assert (out / "report_files/volumes/a.js").exists()
    code, said = invoke("report", out, "--cases", "none")
    assert (code, (out / "report_files").exists()) == (0, False)
    code, said = invoke("report", out, "--manifest", cohort / "good.csv", "--single-file")
    assert code == 0
    assert (out / "report.html").stat().st_size > 3e6
    assert not (out / "report_files").exists()
    assert invoke("report", out, "--cases", "best")[0] == 2
