"""A manifest, a model and a folder in; masks, reports and what they came to, out."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from voxtile.case import Case, read_manifest
from voxtile.engines import CALLABLE, Model, choose_engine
from voxtile.errors import CaseError, EnvironmentFault, ManifestError, Notice
from voxtile.inference.segmenter import make_plans
from voxtile.machine.clock import now
from voxtile.machine.files import write_json
from voxtile.machine.memory import free_memory_mb
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.preparation.plan import PLANNED_SHARE, PlanWish
from voxtile.report.tables import check_columns
from voxtile.run.case import Job, RunSettings
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport, failed_report
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.lock import locked
from voxtile.run_folder.shard import Shard
from voxtile.scoring.columns import is_column
from voxtile.version import __version__

from . import folder, ledger
from .cluster import DaskCrew, connected
from .crew import Crew, Limits, Loss
from .events import Event, EventLog, Listener, News
from .interrupt import Interrupted, Stop, listening
from .merge import forget_shards, refuse_mixed
from .settings import BatchSettings, machine_cores
from .tables import Tables
from .worker import MENDABLE, do_case

_PACKAGES = ("numpy", "scipy", "nibabel", "pydicom", "highdicom", "isal", "keras", "tensorflow")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to.

    Parameters
    ----------
    out : Path
        The run folder.
    reports : tuple of CaseReport
        In the manifest's order.
    kept : int
        How many of them were there before.
    not_run : int
        Cases that were left when too many had failed.
    """

    out: Path
    reports: tuple[CaseReport, ...]
    kept: int = 0
    not_run: int = 0

    @property
    def failed(self) -> tuple[CaseReport, ...]:
        """Cases that failed."""
        return tuple(report for report in self.reports if report.status == "failed")


def run_manifest(
    manifest: str | Path,
    model: str | Path | Bundle,
    out: str | Path,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    batch: BatchSettings | None = None,
    models: Sequence[Model] | None = None,
    on_case: Callable[[CaseReport, int, int], None] | None = None,
    on_event: Listener | None = None,
) -> RunResult:
    """Segment and score every case of a manifest that is not done yet.

    Parameters
    ----------
    manifest : str or Path
    model : str, Path or Bundle
        Name of a shipped bundle, folder of another, or a loaded one.
    out : str or Path
        Run folder; made where it is missing. Cases that it has, from the same
        inputs, model and settings, are kept.
    root : str or Path, optional
        Where the manifest's relative paths begin.
    settings : RunSettings, optional
        How a case is treated; changes results.
    batch : BatchSettings, optional
        How many run at once, and what one may cost; changes no result. Unless
        given, one after the other in this process.
    models : sequence of callables, optional
        To run instead of the bundle's networks, one for each. For workers,
        functions that a module defines.
    on_case : callable, optional
        Called with each finished report, its number from 1 (kept cases come
        first), and how many there will be.
    on_event : callable, optional
        Called with each `voxtile.batch.events.Event`.

    Returns
    -------
    RunResult
        A case that fails is a report with a reason; it never stops the rest.

    Raises
    ------
    ManifestError
        If the manifest has problems; nothing was run.
    ModelError
        If the bundle is refused; nothing was run.
    EnvironmentFault
        If results cannot be written, or another run holds the folder.
    KeyboardInterrupt
        If it was told to stop; running it again goes on.
    """
    settings = settings or RunSettings()
    batch = batch or BatchSettings()
    out = Path(out)
    everything = chosen_cases(manifest, root, settings)
    if batch.cluster is not None:  # other machines have another current folder
        out, everything = out.absolute(), tuple(map(_anywhere, everything))
    cases = everything if batch.shard is None else batch.shard.of(everything)
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    if batch.cluster is not None:
        bundle = _found_anywhere(bundle)
    job = Job(
        bundle=bundle,
        plans=make_plans(bundle, with_memory(settings.plan, batch), known=models is None),
        settings=settings,
        out=out,
        engine=CALLABLE if models is not None else choose_engine(bundle, settings.engine),
        models=None if models is None else tuple(models),
        cases_sha256=_cases_sha256(Path(manifest), everything),
    )
    facts = _facts(job, Path(manifest), everything, batch.shard)
    with (
        locked(out, batch.shard),
        listening(at_once=batch.in_process) as stop,
        _client(batch, out) as client,
    ):
        if batch.shard is not None:
            refuse_mixed(out, batch.shard.count)
        folder.prepare(out, cases, batch.shard, bundle.spec.channels)
        return _Drive(job, cases, batch, stop, facts, client).run(on_case, on_event)


class _Drive:
    """One run over its cases, in a folder that it holds."""

    def __init__(
        self,
        job: Job,
        cases: Sequence[Case],
        batch: BatchSettings,
        stop: Stop,
        facts: dict[str, Any],
        client: Any,
    ) -> None:
        self._client = client
        self._job = job
        self._cases = cases
        self._batch = batch
        self._stop = stop
        self._facts = facts
        self._tables = Tables(job.out, [case.case_id for case in cases], job.settings.by)
        self._reports: dict[str, CaseReport] = {}
        self._listeners: list[Listener] = []
        self._begun: set[str] = set()

    def run(
        self,
        on_case: Callable[[CaseReport, int, int], None] | None,
        on_event: Listener | None,
    ) -> RunResult:
        """Do what is missing."""
        job, batch = self._job, self._batch
        write_json(self._facts_path, self._facts)
        if batch.fresh:
            ledger.forget(job, self._cases)
        self._reports = ledger.finished(job, self._cases, retry_failed=batch.retry_failed)
        kept = len(self._reports)
        todo = [case for case in self._cases if case.case_id not in self._reports]
        suffix = "" if batch.shard is None else f"-{batch.shard}"
        self._listeners = [
            EventLog(job.out / f"events{suffix}.jsonl"),
            News(job.out / f"running{suffix}.json", len(self._cases), kept),
        ]
        if on_event is not None:
            self._listeners.append(on_event)
        self._tell(Event("run_started", None, {"cases": len(self._cases), "kept": kept}))
        failures = 0
        try:
            with closing(self._work(todo)) as finishing:
                for report in finishing:
                    self._reports[report.case_id] = report
                    self._tell(Event("case_finished", report.case_id, report=report))
                    if on_case is not None:
                        on_case(report, len(self._reports), len(self._cases))
                    if batch.shard is None:
                        self._tables.refresh(self._reports)
                    failures += report.status == "failed"
                    if batch.max_failures is not None and failures >= batch.max_failures:
                        break
        except KeyboardInterrupt:
            # Workers may have recorded what they could no longer tell.
            unheard = [case for case in todo if case.case_id in self._begun]
            self._reports |= ledger.finished(job, unheard, retry_failed=batch.retry_failed)
            self._finish("interrupted")
            raise Interrupted(
                f"interrupted: {len(self._reports)} of {len(self._cases)} cases are done or have "
                "failed; run the same command again to go on"
            ) from None
        except EnvironmentFault:
            # The same disk may refuse these too; the first error is the one to tell.
            with suppress(EnvironmentFault):
                self._finish("interrupted")
            raise
        self._finish("run_finished")
        return self._result(kept)

    def _work(self, todo: Sequence[Case]) -> Generator[CaseReport]:
        """Yield the report of each case, recorded."""
        if not todo:
            return
        if self._batch.in_process:
            yield from self._work_here(todo)
            return
        # On a cluster each Dask worker has one case, however many workers come.
        at_once = len(todo) if self._client is not None else max(1, self._batch.workers or 1)
        lost: list[Loss] = []
        with (
            self._crew(self._job, min(at_once, len(todo))) as crew,
            closing(crew.run((case, ()) for case in todo)) as outcomes,
        ):
            for outcome in outcomes:
                if isinstance(outcome, CaseReport) and not _mendable(outcome):
                    yield outcome
                elif self._batch.retries:
                    lost.append(self._as_loss(outcome))
                else:
                    yield self._give_up(self._as_loss(outcome))
        yield from self._retry(lost)

    def _work_here(self, todo: Sequence[Case]) -> Iterator[CaseReport]:
        """Do cases in this process."""
        segmenter = self._job.load()
        for case in todo:
            self._tell(Event("case_started", case.case_id, {"pid": os.getpid()}))

            def on_stage(stage: str, case_id: str = case.case_id) -> None:
                self._tell(Event("stage", case_id, {"stage": stage}))

            report = do_case(case, self._job, segmenter, Journal(on_stage))
            if _mendable(report):
                ledger.record(self._job.out, report)
            yield report

    def _retry(self, lost: Sequence[Loss]) -> Iterator[CaseReport]:
        """Try lost cases again, each alone and with half the batch each time."""
        plans = self._job.plans
        for attempt in range(1, self._batch.retries + 1):
            if not lost:
                return
            plans = tuple(plan.with_half_the_batch() for plan in plans)
            job = replace(self._job, plans=plans)
            again = [(loss.case, (_retried(loss, attempt + 1),)) for loss in lost]
            lost = []
            with self._crew(job, 1) as crew, closing(crew.run(again)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, CaseReport) and not _mendable(outcome):
                        yield outcome
                    elif attempt < self._batch.retries:
                        lost.append(self._as_loss(outcome))
                    else:
                        yield self._give_up(self._as_loss(outcome), attempt + 1)

    @contextmanager
    def _crew(self, job: Job, count: int) -> Iterator[Crew | DaskCrew]:
        """Yield workers, which end with the block."""
        crew = self._new_crew(job, count)
        try:
            yield crew
        finally:
            crew.end()

    def _new_crew(self, job: Job, count: int) -> Crew | DaskCrew:
        """Return workers that share the machine, or those of the cluster."""
        batch = self._batch
        if self._client is not None:
            return DaskCrew(
                self._client,
                job,
                most=count,
                timeout_s=batch.timeout_s,
                memory_mb=batch.memory_mb,
                stop=self._stop,
                tell=self._tell,
            )
        limits = Limits(
            threads=max(1, machine_cores() // max(1, batch.workers or 1)),
            memory_mb=batch.memory_of_one(count),
            timeout_s=batch.timeout_s,
        )
        return Crew(job, count, limits, self._stop, self._tell)

    def _as_loss(self, outcome: CaseReport | Loss) -> Loss:
        """Return what another try may mend, and tell of it."""
        if isinstance(outcome, CaseReport):
            case = next(case for case in self._cases if case.case_id == outcome.case_id)
            reason = outcome.reason or Notice("unexpected", "")
            outcome = Loss(case, reason, outcome.seconds)
        self._tell(Event("case_lost", outcome.case.case_id, {"reason": str(outcome.reason)}))
        return outcome

    def _give_up(self, loss: Loss, tries: int = 1) -> CaseReport:
        """Record a lost case as failed."""
        job, case = self._job, loss.case
        try:
            fingerprint = job.fingerprint(case)
        except CaseError:
            fingerprint = ""
        sentence = loss.reason.sentence + (f"; tried {tries} times" if tries > 1 else "")
        report = failed_report(
            case,
            job.bundle.spec.labels,
            Notice(loss.reason.code, sentence),
            measures=job.settings.measures,
            fingerprint=fingerprint,
            settings_sha256=job.settings_sha256,
            seconds=loss.seconds,
        )
        job.forget(case.case_id)
        ledger.record(job.out, report)
        return report

    def _finish(self, kind: Literal["interrupted", "run_finished"]) -> None:
        """Leave the folder as it should be found."""
        out, shard = self._job.out, self._batch.shard
        folder.clear(out, self._cases, shard, self._job.bundle.spec.channels)
        if shard is None:
            self._tables.write(self._reports)
        failed = sum(report.status == "failed" for report in self._reports.values())
        counts = {"done": len(self._reports) - failed, "failed": failed}
        if kind == "run_finished":
            if shard is None:
                forget_shards(out)
            write_json(self._facts_path, {**self._facts, "finished": now(), **counts})
        self._tell(Event(kind, None, counts))

    def _result(self, kept: int) -> RunResult:
        """Return what the run came to."""
        reports = tuple(
            self._reports[case.case_id] for case in self._cases if case.case_id in self._reports
        )
        return RunResult(self._job.out, reports, kept, len(self._cases) - len(reports))

    def _tell(self, event: Event) -> None:
        """Tell every listener."""
        if event.case_id is not None and event.kind == "case_started":
            self._begun.add(event.case_id)
        elif event.case_id is not None and event.kind != "stage":
            self._begun.discard(event.case_id)
        for listener in self._listeners:
            listener(event)

    @property
    def _facts_path(self) -> Path:
        """Where what is run is written down."""
        shard = self._batch.shard
        return self._job.out / ("run.json" if shard is None else f"run-{shard}.json")


@contextmanager
def _client(batch: BatchSettings, out: Path) -> Iterator[Any]:
    """Yield a Dask client where the batch has a cluster, else None."""
    if batch.cluster is None:
        yield None
        return
    with connected(batch.cluster, out) as client:
        yield client


def chosen_cases(
    manifest: str | Path, root: str | Path | None, settings: RunSettings
) -> tuple[Case, ...]:
    """Return the manifest's cases of the splits that were asked for."""
    cases = read_manifest(manifest, root=root, reserved=is_column)
    check_columns(settings.by, cases)
    if settings.splits:
        cases = tuple(case for case in cases if case.split in settings.splits)
        if not cases:
            raise ManifestError([f"{manifest} has no case of split {', '.join(settings.splits)}"])
    return cases


def with_memory(wish: PlanWish, batch: BatchSettings) -> PlanWish:
    """Return what was asked for, with a share of the memory that is free for each worker."""
    if wish.memory_mb is not None or batch.cluster is not None:  # other machines have their own
        return wish
    return replace(wish, memory_mb=PLANNED_SHARE * free_memory_mb() / max(1, batch.workers or 1))


def _anywhere(case: Case) -> Case:
    """Return a case whose files are found from any current folder."""
    return replace(
        case,
        images=tuple((channel, path.absolute()) for channel, path in case.images),
        label=None if case.label is None else case.label.absolute(),
    )


def _cases_sha256(manifest: Path, cases: Iterable[Case]) -> str:
    """Return the hash of a manifest and of the cases that were chosen from it."""
    parts = [content_hash(manifest), *(case.case_id for case in cases)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _facts(job: Job, manifest: Path, cases: Iterable[Case], shard: Shard | None) -> dict[str, Any]:
    """Return what ``run.json`` says."""
    case_ids = [case.case_id for case in cases]
    return {
        "voxtile": __version__,
        "started": now(),
        "manifest": {"file": manifest.name, "sha256": content_hash(manifest)},
        "cases": len(case_ids),
        "shard": None if shard is None else {"index": shard.index, "count": shard.count},
        "model": {
            "name": job.bundle.name,
            "sha256": job.bundle.sha256,
            "channels": list(job.bundle.spec.channels),
        },
        "plan": [plan.decisive() for plan in job.plans],
        "memory_mb": None if job.plans[0].memory_mb is None else round(job.plans[0].memory_mb),
        "engine": job.engine.facts(),
        "settings": job.settings.decisive(),
        "by": list(job.settings.by),
        "settings_sha256": job.settings_sha256,
        "labels": [label.model_dump(mode="json") for label in job.bundle.spec.labels],
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "case_ids": case_ids,
    }


def _version(package: str) -> str | None:
    """Return the installed version of a package, such as TensorFlow where JAX computes."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _mendable(report: CaseReport) -> bool:
    """Whether another try, alone and with half the batch, may do better."""
    return report.reason is not None and report.reason.code in MENDABLE


def _found_anywhere(bundle: Bundle) -> Bundle:
    """Return a bundle whose folders are found from any current folder."""
    return replace(
        bundle,
        folder=bundle.folder.absolute(),
        others=tuple(map(_found_anywhere, bundle.others)),
    )


def _retried(loss: Loss, attempt: int) -> Notice:
    """Return what the report of a case says that was tried again."""
    return Notice(
        "retried",
        f"done at try {attempt}, alone and with half the batch, after {loss.reason.code}",
    )
