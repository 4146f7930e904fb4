"""Shards, merged, are one run."""

import json
from pathlib import Path

import pytest
from faulty import (
    results,
    run_faulty,
    valid_cases,
)

from voxtile.batch.merge import merge_shards
from voxtile.batch.settings import BatchSettings
from voxtile.batch.status import read_status
from voxtile.errors import ManifestError
from voxtile.export.finished import finished_cases
from voxtile.preparation.plan import PlanWish
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import read_run
from voxtile.run_folder.shard import Shard


def counted_cases(out: Path) -> list[list[str]]:
    """Case ids of a folder by each of those who count its records."""
    return [
        [report.case_id for report in read_run(out).reports],
        [case.case_id for case in finished_cases(out)],
    ]


def test_merged_shards_equal_one_run(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 7)
    run_faulty(manifest, tmp_path / "whole")
    out = tmp_path / "out"
    for index in (1, 3):
        run_faulty(manifest, out, BatchSettings(shard=Shard(index, 3)))
        assert not (out / "report.csv").exists()
    merged = merge_shards(out)
    assert (len(merged.reports), tuple(merged.missing)) == (5, ("c001", "c004"))
    with pytest.raises(ManifestError, match="holds shards of 3, not of 4"):
        run_faulty(manifest, out, BatchSettings(shard=Shard(1, 4)))
    run_faulty(manifest, out, BatchSettings(shard=Shard(2, 3)))
    assert tuple(merge_shards(out).missing) == ()
    assert results(out) == results(tmp_path / "whole")
    verdicts = [
        json.loads((one / "run.json").read_text())["verdict"] for one in (out, tmp_path / "whole")
    ]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0]["line"] == "7 cases: 7 usable, 0 to look at, 0 failed"
    assert run_faulty(manifest, out).kept == 7
    assert not list(out.glob("run-*"))


def test_shards_of_different_runs_are_not_merged(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 4)
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="holds no shards"):
        merge_shards(tmp_path)
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))
    run_faulty(
        manifest,
        out,
        BatchSettings(shard=Shard(2, 2), fresh=True),
        settings=RunSettings(plan=PlanWish(overlap=0.1)),
    )
    with pytest.raises(ManifestError, match=r"differs from run-1-of-2\.json in plan"):
        merge_shards(out)


def test_a_case_of_an_earlier_manifest_is_missing_until_its_shard_has_run(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 3)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    # The scan of c001 was another, and c002 is withdrawn.
    lines = manifest.read_text().splitlines()
    corrected = [*lines[:2], lines[2].replace("c001.nii.gz", "c002.nii.gz")]
    manifest.write_text("\n".join(corrected))
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))
    status = read_status(out)
    assert (status.total, status.done, status.missing) == (2, 1, ("c001",))
    with pytest.raises(ManifestError, match="an earlier run than its shards; run `voxtile merge`"):
        finished_cases(out)
    assert tuple(merge_shards(out).missing) == ("c001",)
    assert counted_cases(out) == [["c000"]] * 2
    run_faulty(manifest, out, BatchSettings(shard=Shard(2, 2)))
    assert tuple(merge_shards(out).missing) == ()
    assert counted_cases(out) == [["c000", "c001"]] * 2
    # Only what had changed was done again.
    assert '"c000"' not in (out / "events-1-of-2.jsonl").read_text()
    assert '"c001"' in (out / "events-2-of-2.jsonl").read_text()


def test_merged_shards_are_summarised_by_the_chosen_columns(
    tmp_path: Path,
) -> None:
    manifest = valid_cases(tmp_path, 4)
    lines = manifest.read_text().splitlines()
    sites = ["site", "A", "A", "B", "B"]
    manifest.write_text("\n".join(map(",".join, zip(lines, sites, strict=True))))
    by_site = RunSettings(by=("site",))
    run_faulty(manifest, tmp_path / "whole", settings=by_site)
    for index in (1, 2):
        shard = BatchSettings(shard=Shard(index, 2))
        run_faulty(manifest, tmp_path / "out", shard, settings=by_site)
    merge_shards(tmp_path / "out")
    assert "site,B" in (tmp_path / "out/summary.csv").read_text()
    assert results(tmp_path / "out") == results(tmp_path / "whole")
