"""A batch: what is done stays done, what is lost is one case, and workers change nothing."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faulty import (
    DEADLY,
    DEADLY_ONCE,
    GREEDY,
    HANGING,
    SOUND,
    events,
    make_cases,
    results,
    run_faulty,
    sound_cases,
    temporary_files,
)
from phantoms import ball, make_bundle, threshold_model

from voxtile.batch.display import Display, result_lines
from voxtile.batch.drive import run_manifest
from voxtile.batch.folder import clear
from voxtile.batch.merge import merge_shards
from voxtile.batch.settings import BatchSettings
from voxtile.batch.status import read_status, status_lines
from voxtile.case import Case
from voxtile.engines import Wish, choose_engine
from voxtile.errors import EnvironmentFault, ManifestError, ModelError
from voxtile.export.finished import finished_cases
from voxtile.models.bundle import load_bundle
from voxtile.preparation.plan import PlanWish
from voxtile.run.case import RunSettings
from voxtile.run_folder.case_report import read_case_reports
from voxtile.run_folder.shard import Shard
from voxtile.writing.nifti import write_volume


def started(out: Path) -> list[str]:
    """Cases that were begun, over all runs of a folder."""
    return [event["case_id"] for event in events(out, "case_started")]


def test_results_do_not_depend_on_workers(tmp_path: Path) -> None:
    manifest = make_cases(
        tmp_path, {**{f"c{number}": SOUND for number in range(5)}, "broken": SOUND}
    )
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    run_faulty(manifest, tmp_path / "here")
    expected = results(tmp_path / "here")
    assert len(expected) == 5 + 6 + 2
    for workers in (1, 3):
        out = tmp_path / f"workers{workers}"
        result = run_faulty(manifest, out, BatchSettings(workers=workers))
        assert [report.case_id for report in result.reports][-1] == "broken"
        assert results(out) == expected
        assert temporary_files(out) == []


def test_a_rerun_does_only_what_is_missing_or_changed(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 5)
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
    manifest = sound_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    assert run_faulty(manifest, out, settings=RunSettings(plan=PlanWish(batch=3))).kept == 2
    assert run_faulty(manifest, out, BatchSettings(workers=2)).kept == 2
    assert run_faulty(manifest, out, settings=RunSettings(plan=PlanWish(overlap=0.1))).kept == 0
    assert run_faulty(manifest, out, BatchSettings(fresh=True)).kept == 0
    other = make_bundle(weighting="constant")
    assert run_manifest(manifest, other, out, models=[threshold_model]).kept == 0


def test_extras_of_the_manifest_are_brought_up_to_date_without_running(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 2)
    run_faulty(manifest, tmp_path / "out")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0] + ",site", lines[1] + ",A", lines[2] + ",B"]))
    result = run_faulty(manifest, tmp_path / "out")
    assert result.kept == 2
    assert [report.extras for report in result.reports] == [{"site": "A"}, {"site": "B"}]
    assert (tmp_path / "out/report.csv").read_text().splitlines()[1].endswith(",A")


def test_failed_cases_are_kept_until_asked_for(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 3)
    sound = (tmp_path / "c001.nii.gz").read_bytes()
    (tmp_path / "c001.nii.gz").write_bytes(sound[:-9])
    out = tmp_path / "out"
    assert len(run_faulty(manifest, out).failed) == 1
    assert run_faulty(manifest, out).kept == 3
    assert len(run_faulty(manifest, out, BatchSettings(retry_failed=True)).failed) == 1
    assert started(out)[3:] == ["c001"]
    (tmp_path / "c001.nii.gz").write_bytes(sound)
    assert run_faulty(manifest, out).failed == ()


def test_each_kind_of_fault_costs_only_its_own_case(tmp_path: Path) -> None:
    faults = {"deadly": DEADLY, "once": DEADLY_ONCE, "greedy": GREEDY}
    sound = {f"c{number}": SOUND for number in range(6)}
    manifest = make_cases(tmp_path, {**faults, **sound})
    out = tmp_path / "out"
    batch = BatchSettings(workers=2, memory_mb=500)
    result = run_faulty(manifest, out, batch)
    reports = {report.case_id: report for report in result.reports}
    assert {name for name, report in reports.items() if report.status == "done"} == {
        "once",
        *sound,
    }
    reasons = {name: str(reports[name].reason) for name in ("deadly", "greedy")}
    assert reasons["deadly"].startswith("worker_died: the worker process died in stage infer (SIG")
    assert reasons["greedy"].startswith("out_of_memory: the worker held")
    assert all("tried 2 times" in reason for reason in reasons.values())
    assert [notice.code for notice in reports["once"].warnings] == ["retried"]
    assert "after worker_died" in reports["once"].warnings[0].sentence
    lost = [event["case_id"] for event in events(out, "case_lost")]
    assert sorted(lost) == sorted([*faults, "deadly", "greedy"])
    assert temporary_files(out) == []
    assert run_faulty(manifest, out, batch).kept == 9


def test_a_hang_ends_with_its_time(tmp_path: Path) -> None:
    manifest = make_cases(tmp_path, {"hanging": HANGING, "sound": SOUND})
    batch = BatchSettings(workers=2, timeout_s=2, retries=0)
    result = run_faulty(manifest, tmp_path / "out", batch)
    assert [report.case_id for report in result.failed] == ["hanging"]
    reason = str(result.failed[0].reason)
    assert reason.startswith("timeout: stage infer was still running after 2 s")


def test_without_retries_the_first_loss_is_final(tmp_path: Path) -> None:
    manifest = make_cases(tmp_path, {"once": DEADLY_ONCE})
    result = run_faulty(manifest, tmp_path / "out", BatchSettings(workers=1, retries=0))
    assert "SIGSEGV" in str(result.failed[0].reason)
    again = BatchSettings(workers=1, retries=0, retry_failed=True)
    assert run_faulty(manifest, tmp_path / "out", again).failed == ()


@pytest.mark.parametrize("workers", [None, 1])
def test_too_many_failures_stop_the_batch(tmp_path: Path, workers) -> None:
    manifest = sound_cases(tmp_path, 6)
    for number in (1, 2):
        (tmp_path / f"c00{number}.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    result = run_faulty(manifest, out, BatchSettings(workers=workers, max_failures=1))
    assert (len(result.reports), result.not_run) == (2, 4)
    assert len((out / "report.csv").read_text().splitlines()) == 3
    result = run_faulty(manifest, out, BatchSettings(workers=workers))
    assert (result.kept, len(result.failed), result.not_run) == (2, 2, 0)


def test_a_model_that_workers_cannot_have_is_refused_at_once(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 1)
    with pytest.raises(ValueError, match="cannot be sent to workers"):
        run_manifest(
            manifest,
            make_bundle(),
            tmp_path / "out",
            models=[lambda tiles: tiles],
            batch=BatchSettings(workers=1),
        )


def test_a_network_that_cannot_be_loaded_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.keras cannot be read"):
        run_manifest(
            sound_cases(tmp_path, 1),
            make_bundle(),
            tmp_path / "out",
            batch=BatchSettings(workers=1),
        )


def test_shards_make_the_same_as_one_run(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 7)
    run_faulty(manifest, tmp_path / "whole")
    out = tmp_path / "out"
    for index in (1, 3):
        run_faulty(manifest, out, BatchSettings(shard=Shard(index, 3)))
        assert not (out / "report.csv").exists()
    merged = merge_shards(out)
    assert (merged.done, merged.missing) == (5, ("c001", "c004"))
    with pytest.raises(ManifestError, match="holds shards of 3, not of 4"):
        run_faulty(manifest, out, BatchSettings(shard=Shard(1, 4)))
    run_faulty(manifest, out, BatchSettings(shard=Shard(2, 3)))
    assert merge_shards(out).missing == ()
    assert results(out) == results(tmp_path / "whole")
    assert run_faulty(manifest, out).kept == 7
    assert not list(out.glob("run-*"))


def test_shards_of_different_runs_are_not_merged(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 4)
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="holds no shards"):
        merge_shards(tmp_path)
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))
    run_faulty(
        manifest,
        out,
        BatchSettings(shard=Shard(2, 2)),
        settings=RunSettings(plan=PlanWish(overlap=0.1)),
    )
    with pytest.raises(ManifestError, match=r"another plan than run-1-of-2\.json"):
        merge_shards(out)


OTHER = RunSettings(plan=PlanWish(overlap=0.1))


def test_cases_that_only_an_earlier_model_has_done_count_for_nobody(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 4)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)), settings=OTHER)
    status = read_status(out)
    assert (status.done, status.missing) == (2, ("c001", "c003"))
    assert [report.case_id for report in read_case_reports(out)] == ["c000", "c002"]
    merged = merge_shards(out)
    assert (merged.done, merged.missing) == (2, ("c001", "c003"))
    rows = (out / "report.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["case_id", "c000", "c002"]
    # Nothing is lost: with the earlier settings they still hold.
    assert run_faulty(manifest, out).kept == 2
    assert read_status(out).done == 4


def test_a_folder_of_an_earlier_model_alone_has_nothing_to_report(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    sooner = manifest.with_name("sooner.csv")
    sooner.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    run_faulty(sooner, out, settings=OTHER)
    assert [report.case_id for report in read_case_reports(out)] == ["c000"]
    assert [case.case_id for case in finished_cases(out)] == ["c000"]
    (out / "cases/c000.json").unlink()
    with pytest.raises(ManifestError, match="only those of an earlier one with another model"):
        read_case_reports(out)


def counted(out: Path) -> list[list[str]]:
    """Case ids of a folder by each of those who count its records."""
    return [
        [report.case_id for report in read_case_reports(out)],
        [case.case_id for case in finished_cases(out)],
    ]


def test_a_patient_who_was_withdrawn_counts_for_nobody(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 3)
    out = tmp_path / "out"
    run_faulty(manifest, out)
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    assert run_faulty(manifest, out).kept == 2
    assert counted(out) == [["c000", "c001"]] * 2
    assert run_faulty(manifest, out).kept == 2
    assert len(started(out)) == 3


def test_a_split_that_ran_before_counts_for_nobody(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 3)
    lines = manifest.read_text().splitlines()
    splits = ["split", "val", "test", "test"]
    manifest.write_text("\n".join(map(",".join, zip(lines, splits, strict=True))))
    out = tmp_path / "out"
    run_faulty(manifest, out, settings=RunSettings(splits=("val",)))
    run_faulty(manifest, out, settings=RunSettings(splits=("test",)))
    assert counted(out) == [["c001", "c002"]] * 2
    # Those of both are taken over by a run of all.
    assert run_faulty(manifest, out).kept == 3
    assert counted(out) == [["c000", "c001", "c002"]] * 2


def test_a_case_of_an_earlier_manifest_is_missing_until_its_shard_has_run(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 3)
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
    assert merge_shards(out).missing == ("c001",)
    assert counted(out) == [["c000"]] * 2
    run_faulty(manifest, out, BatchSettings(shard=Shard(2, 2)))
    assert merge_shards(out).missing == ()
    assert counted(out) == [["c000", "c001"]] * 2
    # Only what had changed was done again.
    assert '"c000"' not in (out / "events-1-of-2.jsonl").read_text()
    assert '"c001"' in (out / "events-2-of-2.jsonl").read_text()


def left_by_a_killed_run(out: Path, case_id: str) -> list[Path]:
    """Make temporary files of a case wherever a writer may have been killed."""
    entities = f"sub-{case_id}"
    places = [
        f"cases/{case_id}.json",
        f"masks/{case_id}.nii.gz",
        f"qc/{case_id}.png",
        f"images/{case_id}.nii.gz",
        f"exports/seg.nrrd/{case_id}.seg.nrrd",
        f"exports/dicom-seg/{case_id}.dcm",
        f"exports/glb/{case_id}.glb",
        f"exports/binary/{case_id}/1_ball.nii.gz",
        f"exports/bids/{entities}/anat/{entities}_desc-threshold_dseg.nii.gz",
    ]
    paths = [out / Path(place).parent / f".{Path(place).name}.abcd1234.tmp" for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"patient data")
    return paths


def test_what_a_killed_run_left_of_its_cases_is_removed(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 2)
    out = tmp_path / "out"
    own, others = (left_by_a_killed_run(out, name) for name in ("c000", "c001"))
    run_faulty(manifest, out, BatchSettings(shard=Shard(1, 2)))
    assert not any(path.exists() for path in own)
    assert all(path.exists() for path in others)
    (out / "report_files/volumes").mkdir(parents=True)
    (out / "report_files/volumes/.c001.js.abcd1234.tmp").touch()
    run_faulty(manifest, out)
    assert temporary_files(out) == []


def test_images_that_a_killed_shard_left_are_removed_by_their_channels(tmp_path: Path) -> None:
    case = Case("c", (("ct", tmp_path), ("pet", tmp_path)))
    for name in ("c_ct", "c_pet", "c", "other_ct"):
        path = tmp_path / f"images/.{name}.nii.gz.abcd1234.tmp"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    clear(tmp_path, [case], Shard(1, 2), ("ct", "pet"))
    left = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert left == [".c.nii.gz.abcd1234.tmp", ".other_ct.nii.gz.abcd1234.tmp"]


def test_shards_that_are_joined_are_summarised_by_the_columns_that_were_asked_for(
    tmp_path: Path,
) -> None:
    manifest = sound_cases(tmp_path, 4)
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


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/8", {}, Shard(2, 8)),
        (
            "auto",
            {
                "SLURM_ARRAY_TASK_ID": "3",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_MAX": "3",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            Shard(4, 4),
        ),
    ],
)
def test_a_shard_is_named_or_found(text, environment, expected) -> None:
    assert Shard.parse(text, environment) == expected


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "auto", "a/b"])
def test_a_shard_that_makes_no_sense_is_refused(text) -> None:
    with pytest.raises(ValueError, match="shard"):
        Shard.parse(text, {"SLURM_ARRAY_TASK_ID": "3"})


def test_shards_divide_the_cases() -> None:
    items = list(range(23))
    parts = [Shard(index, 5).of(items) for index in range(1, 6)]
    assert sorted(item for part in parts for item in part) == items


def test_status_says_what_there_is(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 4)
    (tmp_path / "c001.nii.gz").write_bytes(b"")
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="no run folder"):
        read_status(tmp_path)
    seen = []

    def look(report, number, count) -> None:
        seen.append(read_status(out))

    run_faulty(manifest, out, on_case=look)
    assert [(status.done, status.failed, len(status.missing)) for status in seen] == [
        (1, 0, 3),
        (1, 1, 2),
        (2, 1, 1),
        (3, 1, 0),
    ]
    assert all("process" in status.runs[0] for status in seen)
    status = read_status(out)
    assert (status.total, status.done, status.reasons, status.runs) == (4, 3, {"empty_file": 1}, ())
    (out / "cases/c003.json").unlink()
    lines = list(status_lines(read_status(out)))
    assert lines[0] == "4 cases: 2 done, 1 failed, 0 running, 1 missing"
    assert "  missing: c003" in lines
    assert "the same command again" in lines[-1]


def test_status_answers_without_anything_heavy() -> None:
    code = (
        "import sys, voxtile.batch.status; "
        "print([m for m in ('numpy', 'pandas', 'keras', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_events_tell_the_stages_and_survive_a_torn_line(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 2)
    out = tmp_path / "out"
    run_faulty(manifest, out, BatchSettings(workers=1))
    finished = events(out, "case_finished")
    assert {"read", "infer", "write"} <= set(finished[0]["timings_s"])
    with (out / "events.jsonl").open("a") as file:
        file.write('{"time": "2026')
    run_faulty(manifest, out)
    lines = (out / "events.jsonl").read_text().splitlines()
    broken = [line for line in lines if not line.endswith("}")]
    assert len(broken) == 1
    assert json.loads(lines[-1])["event"] == "run_finished"


class Screen:
    """Remembers what a bar would show."""

    def __init__(self) -> None:
        self.total, self.words, self.lines = 0.0, [], []

    def begin(self, stage: str, total: float) -> None:
        self.total = total

    def at(self, completed: float, words: str) -> None:
        self.words.append(words)

    def line(self, words: str) -> None:
        self.lines.append(words)


def test_the_display_shows_what_runs_and_what_failed(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 3)
    (tmp_path / "c001.nii.gz").write_bytes(b"")
    screen = Screen()
    run_faulty(manifest, tmp_path / "out", on_event=Display(screen))
    assert screen.total == 3
    assert "0/3  c000 infer" in screen.words
    assert screen.words[-1] == "3/3    1 failed"
    (failed,) = screen.lines
    assert "2/3 c001" in failed
    assert "failed  empty_file" in failed


def test_the_result_names_reasons_and_the_slowest(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 9)
    for number in range(7):
        (tmp_path / f"c00{number}.nii.gz").write_bytes(b"")
    result = run_faulty(manifest, tmp_path / "out")
    lines = list(result_lines(result))
    assert lines[0] == "2 done, 7 failed"
    assert lines[1] == "  7 x empty_file: c000, c001, c002, c003, c004, and 2 more"
    assert lines[2].startswith("slowest: c00")
    assert "--retry-failed" in lines[3]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    manifest = sound_cases(tmp_path, 1)
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (out / "masks/c000.nii.gz").symlink_to(victim)
    (out / "report.csv").symlink_to(victim)
    run_faulty(manifest, out)
    assert victim.read_text() == "precious"
    (out / "events.jsonl").unlink()
    (out / "events.jsonl").symlink_to(victim)
    with pytest.raises(EnvironmentFault, match=r"events.jsonl cannot be written"):
        run_faulty(manifest, out)
    assert victim.read_text() == "precious"


def test_a_full_disk_is_found_before_the_first_case(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(EnvironmentFault, match="has 1 MB free, and at least 64 MB are needed"):
        run_faulty(sound_cases(tmp_path, 1), tmp_path / "out")


def test_the_engine_is_named_without_keras_as_keras_names_it() -> None:
    from voxtile.models.backend import keras

    facts = choose_engine(load_bundle("hippocampus"), Wish(engine="keras")).decisive()
    assert facts["keras"] == keras.__version__
    assert facts["backend"] == keras.backend.backend()
    assert (facts["precision"], facts["device"]) == ("float32", "cpu")


def test_wrong_limits_are_refused() -> None:
    for settings, message in (
        ({"workers": -1}, "workers -1"),
        ({"retries": -1}, "retries -1"),
        ({"timeout_s": 0}, "timeout_s 0"),
        ({"max_failures": 0}, "max_failures 0"),
    ):
        with pytest.raises(ValueError, match=message):
            BatchSettings(**settings)


def test_a_terminal_that_wants_no_colour_gets_none() -> None:
    program = (
        "import time; from voxtile.batch.display import displayed\n"
        "from voxtile.batch.events import Event\n"
        "with displayed(shown=True) as display:\n"
        "    display(Event('run_started', None, {'cases': 2, 'kept': 1})); time.sleep(0.3)\n"
    )
    said = {}
    for value in ("", "1"):
        main, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": value}
        subprocess.run(
            [sys.executable, "-c", program], stderr=terminal, env=environment, check=True
        )
        os.close(terminal)
        said[value] = os.read(main, 65536).decode()
        os.close(main)
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert "cases" in said["1"]
    assert colour.search(said[""])
    assert not colour.search(said["1"])
