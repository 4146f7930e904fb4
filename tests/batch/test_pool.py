"""A worker that dies, hangs or uses too much memory costs one case."""

import pickle
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty import (
    DEADLY,
    DEADLY_ONCE,
    GREEDY,
    HANGING,
    VALID,
    events,
    make_cases,
    run_faulty,
    temporary_files,
    valid_cases,
)
from phantoms import make_bundle

from voxtile.batch import pool as module
from voxtile.batch.drive import run_manifest
from voxtile.batch.pool import Limits, WorkerPool
from voxtile.batch.settings import BatchSettings
from voxtile.engines import Engine
from voxtile.errors import ModelError, UsageError
from voxtile.run.job import Job, RunSettings


def test_a_case_that_kills_its_worker_or_uses_too_much_memory_fails_alone(tmp_path: Path) -> None:
    faults = {"deadly": DEADLY, "once": DEADLY_ONCE, "greedy": GREEDY}
    sound = {f"c{number}": VALID for number in range(6)}
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
    assert reasons["greedy"].startswith("out_of_memory: the worker used")
    assert all("tried 2 times" in reason for reason in reasons.values())
    assert [notice.code for notice in reports["once"].warnings] == ["retried"]
    assert "after worker_died" in reports["once"].warnings[0].sentence
    lost = [event["case_id"] for event in events(out, "case_lost")]
    assert sorted(lost) == sorted([*faults, "deadly", "greedy"])
    assert temporary_files(out) == []
    assert run_faulty(manifest, out, batch).kept == 9


def test_a_case_that_hangs_fails_after_its_timeout(tmp_path: Path) -> None:
    manifest = make_cases(tmp_path, {"hanging": HANGING, "sound": VALID})
    batch = BatchSettings(workers=2, timeout_s=2, retries=0)
    result = run_faulty(manifest, tmp_path / "out", batch)
    assert [report.case_id for report in result.failed] == ["hanging"]
    reason = str(result.failed[0].reason)
    assert reason.startswith("timeout: stage infer was still running 2 s after the case")


def test_without_retries_a_case_fails_when_its_worker_is_first_lost(tmp_path: Path) -> None:
    manifest = make_cases(tmp_path, {"once": DEADLY_ONCE})
    result = run_faulty(manifest, tmp_path / "out", BatchSettings(workers=1, retries=0))
    assert "SIGSEGV" in str(result.failed[0].reason)
    again = BatchSettings(workers=1, retries=0, retry_failed=True)
    assert run_faulty(manifest, tmp_path / "out", again).failed == ()


def test_a_model_that_cannot_be_sent_to_workers_is_refused_at_once(tmp_path: Path) -> None:
    manifest = valid_cases(tmp_path, 1)
    with pytest.raises(ValueError, match="cannot be sent to workers"):
        run_manifest(
            manifest,
            make_bundle(),
            tmp_path / "out",
            models=[lambda tiles: tiles],
            batch=BatchSettings(workers=1),
        )


class Unreadable:
    """A model that no other process can read; the error quotes a patient."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("DOE^JANE",)


def test_a_model_that_workers_cannot_read_is_named_by_the_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"cannot load the models \(ValueError at worker.py line \d+\); define"
    ) as caught:
        run_manifest(
            valid_cases(tmp_path, 1),
            make_bundle(),
            tmp_path / "out",
            models=[Unreadable()],
            batch=BatchSettings(workers=1),
        )
    assert "DOE" not in str(caught.value)


def test_a_network_that_cannot_be_loaded_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.keras cannot be read"):
        run_manifest(
            valid_cases(tmp_path, 1),
            make_bundle(),
            tmp_path / "out",
            batch=BatchSettings(workers=1),
        )


def test_workers_are_spread_over_the_cards_also_after_one_was_lost(monkeypatch, tmp_path) -> None:
    jobs = {}

    def started(job, limits, device):
        jobs[device] = pickle.loads(job)
        return SimpleNamespace(device=device, ready=False, case=None)

    monkeypatch.setattr(module, "_Worker", started)
    job = Job(make_bundle(), (), RunSettings(), tmp_path, Engine("keras", device="gpu:1"))
    pool = WorkerPool(job, 4, Limits(1, 100.0), None, print, devices=(1, 3))
    waiting = deque([("case", ())] * 9)
    pool._fill(waiting)
    assert Counter(worker.device for worker in pool._workers) == {"gpu:1": 2, "gpu:3": 2}
    assert {name: each.engine.device for name, each in jobs.items()} == {n: n for n in jobs}
    assert jobs["gpu:1"].settings_sha256 == jobs["gpu:3"].settings_sha256
    del pool._workers[[worker.device for worker in pool._workers].index("gpu:3")]
    pool._fill(waiting)
    assert Counter(worker.device for worker in pool._workers) == {"gpu:1": 2, "gpu:3": 2}


def test_a_worker_starts_without_what_only_tables_and_training_need() -> None:
    code = (
        "import sys, voxtile.batch.worker; "
        "print([m for m in ('pandas', 'keras', 'skimage', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
