"""Which cases are done, and which count: by fingerprint, mask, settings and manifest."""

from pathlib import Path

import numpy as np
import pytest
from faulty import (
    events,
    results,
    run_faulty,
    valid_cases,
)
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.drive import run_manifest
from voxtile.batch.merge import merge_shards
from voxtile.batch.settings import BatchSettings
from voxtile.batch.status import read_status
from voxtile.errors import ManifestError
from voxtile.export.finished import finished_cases
from voxtile.preparation.plan import PlanWish
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import read_run
from voxtile.run_folder.shard import Shard
from voxtile.writing.nifti import write_volume


def started(out: Path) -> list[str]:
    """Cases that were begun, over all runs of a folder."""
    return [event["case_id"] for event in events(out, "case_started")]


OTHER = RunSettings(plan=PlanWish(overlap=0.1))
FRESH = BatchSettings(fresh=True)


def counted_cases(out: Path) -> list[list[str]]:
    """Case ids of a folder by each of those who count its records."""
    return [
        [report.case_id for report in read_run(out).reports],
        [case.case_id for case in finished_cases(out)],
    ]


def test_a_rerun_does_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 5)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    before = results(out)
    assert run_faulty(manifest, out).kept == 5
    assert len(started(out)) == 5
    image, _ = ball()
    write_volume(tmp_path / "c000.nii.gz", image.with_array(image.array + np.int16(3)))
    (out / "masks/c001.nii.gz").unlink()
    (out / "masks/c002.nii.gz").write_bytes(b"cut short")
    (out / "cases/c003.json").write_text('{"case_id": "c003", "status": "done"')
    run_faulty(manifest, out)
    assert started(out)[5:] == ["c000", "c001", "c002", "c003"]
    after = results(out)
    assert {name for name in after if after[name] != before[name]} == {"c000.json"}


def test_only_settings_that_change_the_result_invalidate(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    assert run_faulty(manifest, out, settings=RunSettings(plan=PlanWish(batch=3))).kept == 2
    assert run_faulty(manifest, out, BatchSettings(workers=2)).kept == 2
    with pytest.raises(ManifestError, match=r"2 finished cases .* plan of tiles \(.*overlap"):
        run_faulty(manifest, out, settings=OTHER)
    assert run_faulty(manifest, out, FRESH, settings=OTHER).kept == 0
    other = make_bundle(weighting="constant")
    with pytest.raises(ManifestError, match=r"to be run again: model \w{4}… -> \w{4}…; .*--fresh"):
        run_manifest(manifest, other, out, models=[threshold_model])
    assert run_manifest(manifest, other, out, models=[threshold_model], batch=FRESH).kept == 0


def test_extras_of_the_manifest_are_brought_up_to_date_without_running(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 2)
    run_faulty(manifest, tmp_path / "out")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0] + ",site", lines[1] + ",A", lines[2] + ",B"]))
    result = run_faulty(manifest, tmp_path / "out")
    assert result.kept == 2
    assert [report.extras for report in result.reports] == [{"site": "A"}, {"site": "B"}]
    assert (tmp_path / "out/report.csv").read_text().splitlines()[1].endswith(",A")


def test_failed_cases_are_not_done_again_unless_retry_failed_is_given(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 3)
    sound = (tmp_path / "c001.nii.gz").read_bytes()
    (tmp_path / "c001.nii.gz").write_bytes(sound[:-9])
    out = tmp_path / "out"
    assert len(run_faulty(manifest, out).failed) == 1
    assert run_faulty(manifest, out).kept == 3
    assert len(run_faulty(manifest, out, BatchSettings(retry_failed=True)).failed) == 1
    assert started(out)[3:] == ["c001"]
    (tmp_path / "c001.nii.gz").write_bytes(sound)
    assert run_faulty(manifest, out).failed == ()


def test_cases_that_only_an_earlier_model_has_done_are_not_counted(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 4)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2), fresh=True), settings=OTHER)
    status = read_status(out)
    assert (status.done, status.missing) == (2, ("c001", "c003"))
    assert [report.case_id for report in read_run(out).reports] == ["c000", "c002"]
    merged = merge_shards(out)
    assert (len(merged.reports), tuple(merged.missing)) == (2, ("c001", "c003"))
    rows = (out / "report.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["case_id", "c000", "c002"]
    # Those of the earlier settings are still there, but never mixed with the others.
    with pytest.raises(ManifestError, match="2 finished cases to be run again: plan of tiles"):
        run_faulty(manifest, out)
    assert run_faulty(manifest, out, settings=OTHER).kept == 2
    assert read_status(out).done == 4


def test_a_folder_with_cases_of_an_earlier_model_only_has_nothing_to_report(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    sooner = manifest.with_name("sooner.csv")
    sooner.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    run_faulty(sooner, out, FRESH, settings=OTHER)
    assert [report.case_id for report in read_run(out).reports] == ["c000"]
    assert [case.case_id for case in finished_cases(out)] == ["c000"]
    (out / "cases/c000.json").unlink()
    with pytest.raises(ManifestError, match="only those of an earlier one with another model"):
        read_run(out)


def test_a_withdrawn_patient_is_not_counted(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 3)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    assert run_faulty(manifest, out).kept == 2
    assert counted_cases(out) == [["c000", "c001"]] * 2
    assert run_faulty(manifest, out).kept == 2
    assert len(started(out)) == 3


def test_cases_of_a_split_that_ran_before_are_not_counted(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 3)
    lines = manifest.read_text().splitlines()
    splits = ["split", "val", "test", "test"]
    manifest.write_text("\n".join(map(",".join, zip(lines, splits, strict=True))))
    out = tmp_path / "out"
    run_faulty(manifest, out, settings=RunSettings(splits=("val",)))
    run_faulty(manifest, out, settings=RunSettings(splits=("test",)))
    assert counted_cases(out) == [["c001", "c002"]] * 2
    # Those of both are taken over by a run of all.
    assert run_faulty(manifest, out).kept == 3
    assert counted_cases(out) == [["c000", "c001", "c002"]] * 2
