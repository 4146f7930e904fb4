"""Loop over the cases of a run: keep finished cases, run the others, retry those that were lost."""

import os
import pickle
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from voxtile.case import Case
from voxtile.errors import CaseError, EnvironmentFault, Notice, counted
from voxtile.machine.clock import now
from voxtile.machine.files import write_text
from voxtile.machine.processors import processor_count
from voxtile.report.methods import methods_text
from voxtile.report.tables import run_verdict, write_reports
from voxtile.run.job import Job
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport, failed_report
from voxtile.run_folder.facts import (
    NUMBER,
    forget_shards,
    newest,
    next_number,
    readable_facts,
    write_facts,
)

from . import agreement, folder, ledger
from .cluster import DaskPool
from .events import Event, Listener, ProgressFile, log_event
from .interrupt import Interrupted, Stop
from .pool import Assignment, Limits, Lost, WorkerPool
from .settings import BatchSettings
from .worker import do_case, may_succeed_later

# While cases run, the CSVs are rebuilt after so many seconds, or later if there are many reports:
# rebuilding takes at most this fraction of the time.
_TABLES_EVERY_S = 10.0
_TABLES_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outcome of a run.

    Parameters
    ----------
    out : Path
        The run folder.
    reports : tuple of CaseReport
        In the manifest's order.
    kept : int
        How many of these cases an earlier run had finished.
    not_run : int
        Cases that were not run because too many had failed.
    """

    out: Path
    reports: tuple[CaseReport, ...]
    kept: int = 0
    not_run: int = 0

    @property
    def failed(self) -> tuple[CaseReport, ...]:
        """Reports of the cases that failed."""
        return tuple(report for report in self.reports if report.status == "failed")


@dataclass(slots=True)
class CaseLoop:
    """A run that processes its cases, in a folder that it has locked."""

    _job: Job
    _cases: Sequence[Case]
    _batch: BatchSettings
    _stop: Stop
    _facts: dict[str, Any]
    _client: Any
    _manifest: str | None = None  # to keep in the folder, if the run listed its cases itself
    _reports: dict[str, CaseReport] = field(default_factory=dict)
    _listeners: list[Listener] = field(default_factory=list)
    _started: set[str] = field(default_factory=set)
    _next_tables: float = field(default_factory=lambda: time.monotonic() + _TABLES_EVERY_S)

    def run(
        self, on_case: Callable[[CaseReport, int, int], None] | None, on_event: Listener | None
    ) -> RunResult:
        """Process the cases that are not finished."""
        job, batch = self._job, self._batch
        again = self._take_over()
        self._facts[NUMBER] = next_number(job.folder)
        write_facts(job.folder, self._facts, batch.shard)
        if self._manifest is not None:
            write_text(job.folder.manifest, self._manifest)
        kept = len(self._reports)
        todo = [case for case in self._cases if case.case_id not in self._reports]
        self._listeners = [
            partial(log_event, job.folder.events(batch.shard)),
            ProgressFile(job.folder.progress(batch.shard), len(self._cases), kept),
        ]
        if on_event is not None:
            self._listeners.append(on_event)
        self._notify(Event("run_started", None, {"cases": len(self._cases), "kept": kept}))
        if again:
            self._notify(
                Event("done_again", None, {"cases": again, "why": agreement.again_line(again)})
            )
        failures = 0
        try:
            self._export_finished()
            with closing(self._work(todo)) as finishing:
                for report in finishing:
                    self._reports[report.case_id] = report
                    self._notify(Event("case_finished", report.case_id, report=report))
                    if on_case is not None:
                        on_case(report, len(self._reports), len(self._cases))
                    if time.monotonic() >= self._next_tables:
                        self._write_tables()
                    failures += report.status == "failed"
                    if batch.max_failures is not None and failures >= batch.max_failures:
                        break
        except KeyboardInterrupt:
            # A worker may have recorded a case whose report did not arrive.
            unreported = [case for case in todo if case.case_id in self._started]
            found = ledger.finished(job, unreported, retry_failed=batch.retry_failed)
            self._reports |= found.reports
            self._finish("interrupted")
            raise Interrupted(
                f"interrupted after {len(self._reports)} of {counted(len(self._cases), 'case')}; "
                "run the same command again to go on"
            ) from None
        except EnvironmentFault:
            # The same disk may refuse these writes too; the first error is reported.
            with suppress(EnvironmentFault):
                self._finish("interrupted")
            raise
        self._finish("run_finished")
        reports = self._in_order()
        return RunResult(job.out, reports, kept, len(self._cases) - len(reports))

    def _export_finished(self) -> None:
        """Write the exports that cases of an earlier run lack."""
        for case in self._cases if self._job.settings.exports else ():
            report = self._reports.get(case.case_id)
            if report is None or report.status == "failed":
                continue
            now = agreement.export_finished(self._job, case, report)
            if now != report:
                ledger.record(self._job.folder, now)
                self._reports[case.case_id] = now

    def _take_over(self) -> dict[str, str]:
        """Take over the finished cases; return why other cases of earlier runs run again."""
        job, batch = self._job, self._batch
        before = newest(readable_facts(job.folder))
        if batch.fresh:
            again = [
                case.case_id for case in self._cases if job.folder.record(case.case_id).exists()
            ]
            ledger.forget(job, self._cases)
            return dict.fromkeys(again, "--fresh")
        found = ledger.finished(
            job,
            self._cases,
            retry_failed=batch.retry_failed,
            earlier="" if before is None else before.settings_sha256,
            # Only records from version 0.1.0 may lack the digest of their content.
            sealed=before is None or before.seals_records,
        )
        finished = (name for name, report in found.reports.items() if report.status == "done")
        agreement.refuse_lost_probabilities(job.folder, finished, job.settings.exports)
        self._reports = found.reports
        return found.again

    def _work(self, todo: Sequence[Case]) -> Generator[CaseReport]:
        """Yield the report of each case, recorded."""
        if not todo:
            return
        if self._batch.in_process:
            yield from self._work_here(todo)
            return
        # On a cluster each Dask worker runs one case at a time, and more workers may join later.
        at_once = len(todo) if self._client is not None else self._batch.at_once
        lost = yield from self._in_pool(self._job, [(case, ()) for case in todo], at_once, 1)
        job = self._job
        for attempt in range(2, self._batch.retries + 2):
            # Each case runs alone, with half as many tiles at once as in the attempt before.
            job = replace(job, plans=tuple(plan.with_half_the_batch() for plan in job.plans))
            words = f"run at attempt {attempt}, alone and with half the batch of tiles, after "
            again = [(one.case, (Notice("retried", words + one.reason.code),)) for one in lost]
            lost = yield from self._in_pool(job, again, 1, attempt)

    def _in_pool(
        self, job: Job, assignments: Sequence[Assignment], at_once: int, attempt: int
    ) -> Generator[CaseReport, None, list[Lost]]:
        """Yield the reports of cases that workers process; return the cases to try again."""
        again: list[Lost] = []
        if not assignments:
            return again
        pool = self._new_pool(job, min(at_once, len(assignments)))
        try:
            with closing(pool.run(assignments)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, CaseReport) and not may_succeed_later(outcome):
                        yield outcome
                        continue
                    lost = self._as_lost(outcome)
                    reason = {"reason": str(lost.reason)}
                    self._notify(Event("case_lost", lost.case.case_id, reason))
                    if attempt <= self._batch.retries:
                        again.append(lost)
                    else:
                        yield self._record_failure(lost, attempt)
        finally:
            pool.end()
        return again

    def _work_here(self, todo: Sequence[Case]) -> Iterator[CaseReport]:
        """Run cases in this process."""
        segmenter = self._job.load()
        for case in todo:
            self._notify(Event("case_started", case.case_id, {"pid": os.getpid()}))

            def on_stage(stage: str, case_id: str = case.case_id) -> None:
                self._notify(Event("stage", case_id, {"stage": stage}))

            report = do_case(case, self._job, segmenter, Journal(on_stage))
            if may_succeed_later(report):  # this process makes no second attempt
                ledger.record(self._job.folder, report)
            yield report

    def _new_pool(self, job: Job, count: int) -> WorkerPool | DaskPool:
        """Return workers of this machine, or workers of the cluster."""
        batch = self._batch
        if self._client is not None:
            each = batch.timeout_s, batch.memory_mb
            job_bytes = pickle.dumps(job)
            return DaskPool(self._client, job_bytes, count, each, self._stop, self._notify)
        limits = Limits(
            threads=max(1, processor_count() // batch.at_once),
            memory_mb=batch.memory_of_one(count),
            timeout_s=batch.timeout_s,
        )
        return WorkerPool(job, count, limits, self._stop, self._notify, batch.devices)

    def _as_lost(self, outcome: CaseReport | Lost) -> Lost:
        """Return a lost case for an outcome that another attempt may improve."""
        if isinstance(outcome, Lost):
            return outcome
        case = next(case for case in self._cases if case.case_id == outcome.case_id)
        return Lost(case, outcome.reason or Notice("unexpected", ""), outcome.seconds)

    def _record_failure(self, lost: Lost, attempts: int) -> CaseReport:
        """Record a lost case as failed."""
        job, case = self._job, lost.case
        try:
            fingerprint = job.fingerprint(case)
        except CaseError:
            fingerprint = ""
        sentence = lost.reason.sentence + (f"; tried {attempts} times" if attempts > 1 else "")
        report = replace(
            failed_report(
                case,
                job.bundle.spec.labels,
                Notice(lost.reason.code, sentence),
                job.settings.measures,
            ),
            fingerprint=fingerprint,
            settings_sha256=job.settings_sha256,
            seconds=lost.seconds,
        )
        job.forget(case.case_id)
        ledger.record(job.folder, report)
        return report

    def _finish(self, kind: Literal["interrupted", "run_finished"]) -> None:
        """Remove temporary files, and bring tables and facts up to date."""
        run_folder, shard = self._job.folder, self._batch.shard
        folder.clear(run_folder, self._cases, shard, self._job.bundle.spec.channels)
        self._write_tables()
        failed = sum(report.status == "failed" for report in self._reports.values())
        counts = {"done": len(self._reports) - failed, "failed": failed}
        missing = len(self._cases) - len(self._reports)
        judged = {**counts, "verdict": run_verdict(self._in_order(), missing).dump()}
        if kind == "run_finished":
            ended = {**self._facts, "finished": now(), **judged}
            if shard is None:
                forget_shards(run_folder)
                ended["methods"] = methods_text(self._facts, self._in_order())
            write_facts(run_folder, ended, shard)
        self._notify(Event(kind, None, judged))

    def _write_tables(self) -> None:
        """Write the CSVs of all reports so far; for shards, a merge writes them."""
        if self._batch.shard is not None:
            return
        begin = time.monotonic()
        write_reports(self._job.out, self._in_order(), self._job.settings.by)
        end = time.monotonic()
        self._next_tables = end + max(_TABLES_EVERY_S, (end - begin) / _TABLES_SHARE)

    def _in_order(self) -> tuple[CaseReport, ...]:
        """Return the reports so far in the manifest's order."""
        ids = (case.case_id for case in self._cases)
        return tuple(self._reports[case_id] for case_id in ids if case_id in self._reports)

    def _notify(self, event: Event) -> None:
        """Pass an event to every listener."""
        if event.case_id is not None and event.kind == "case_started":
            self._started.add(event.case_id)
        elif event.case_id is not None and event.kind != "stage":
            self._started.discard(event.case_id)
        for listener in self._listeners:
            listener(event)
