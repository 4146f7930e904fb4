"""Manage worker processes: give them cases, receive reports, replace lost workers.

A worker that dies, or exceeds its time or memory, loses only its current case.
This worker is replaced, and the other workers continue.
"""

import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ModelError, Notice, UsageError
from voxtile.machine.processes import Child
from voxtile.run.job import Job
from voxtile.run_folder.case_report import CaseReport

from .events import Event, Listener
from .interrupt import Stop

# How often limits and signals are checked, in seconds.
CHECK_EVERY_S = 0.2
# How long a worker may take to start and load its networks.
_START_S = 600.0
# The run gives up after so many failed starts in a row.
_MOST_FAILED_STARTS = 3
# How long an interrupted run waits for writes to end, in seconds.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use."""

    threads: int  # processors of one worker
    memory_mb: float  # in MB (10^6 bytes)
    timeout_s: float | None = None  # for one case, without loading the networks


@dataclass(frozen=True, slots=True)
class Lost:
    """A case whose worker was lost after so many seconds."""

    case: Case
    reason: Notice
    seconds: float


Assignment = tuple[Case, tuple[Notice, ...]]


class _Worker:
    """A worker process and its current case."""

    def __init__(self, job: bytes, limits: Limits, device: str) -> None:
        self.device = device
        try:
            self.child = Child("voxtile.batch.worker", limits.threads)
        except OSError as error:
            raise EnvironmentFault(
                f"a worker cannot be started ({error.strerror}); use fewer --workers"
            ) from error
        self.ready = False
        self.case: Case | None = None
        self.stage = "start"
        self.begin = time.monotonic()
        with suppress(OSError):  # a dead worker is noticed when its messages are read
            self.child.line.send_bytes(job)

    @property
    def seconds(self) -> float:
        """Seconds since its case began; without a case, since the worker was started."""
        return time.monotonic() - self.begin

    def give(self, assignment: Assignment) -> None:
        """Give the worker a case."""
        self.case, _ = assignment
        self.stage = "start"
        self.begin = time.monotonic()
        with suppress(OSError):
            self.child.line.send(assignment)

    def memory_mb(self) -> float:
        """Return its resident memory in MB (10^6 bytes), or 0 if the system does not report it."""
        try:
            pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, IndexError, ValueError):
            return 0.0


class WorkerPool:
    """Several workers that share the cases of a run.

    At most `count` workers run at once. `tell` is called with each event. The workers are spread
    over the GPUs with the numbers `devices`; if it is empty, they use the job's device. ValueError
    if the job's models cannot be sent to another process.
    """

    def __init__(
        self,
        job: Job,
        count: int,
        limits: Limits,
        stop: Stop,
        tell: Listener,
        devices: Sequence[int] = (),
    ) -> None:
        names = [f"gpu:{number}" for number in devices] or [job.engine.device]
        try:
            self._jobs = {
                name: pickle.dumps(replace(job, engine=replace(job.engine, device=name)))
                for name in names
            }
        except Exception as error:  # pickle raises errors of many types
            raise ValueError(
                f"the models cannot be sent to workers ({error}); pass functions that a module "
                "defines, or run in this process with workers=None"
            ) from error
        self._count = count
        self._limits = limits
        self._stop = stop
        self._tell = tell
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def run(self, assignments: Iterable[Assignment]) -> Generator[CaseReport | Lost]:
        """Run cases, and yield the outcome of each, in the order in which they end.

        The workers stay alive for more cases, unless the caller closes the
        iterator early or an error ends the run.

        KeyboardInterrupt if a signal stopped the run; EnvironmentFault if results cannot be
        written, or workers cannot start; ModelError or ValueError if a network, or a model that was
        passed in, cannot be loaded.
        """
        waiting = deque(assignments)
        try:
            while waiting or any(worker.case is not None for worker in self._workers):
                if self._stop.requested:
                    yield from self._last_reports()
                    raise KeyboardInterrupt
                self._fill(waiting)
                yield from self._receive(CHECK_EVERY_S)
                yield from self._enforce_limits()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.child.end()
        self._workers.clear()

    def _fill(self, waiting: deque[Assignment]) -> None:
        """Start missing workers, and give a case to each idle one."""
        busy = sum(worker.case is not None for worker in self._workers)
        wanted = min(self._count, busy + len(waiting))
        while len(self._workers) < wanted:
            used = Counter(worker.device for worker in self._workers)
            device = min(self._jobs, key=used.__getitem__)
            self._workers.append(_Worker(self._jobs[device], self._limits, device))
        for worker in self._workers:
            if waiting and worker.ready and worker.case is None:
                assignment = waiting.popleft()
                worker.give(assignment)
                self._tell(Event("case_started", assignment[0].case_id, {"pid": worker.child.pid}))

    def _receive(self, timeout_s: float) -> Iterator[CaseReport | Lost]:
        """Receive messages of the workers, and yield the outcomes among them."""
        lines = {worker.child.line: worker for worker in self._workers}
        for line in wait(list(lines), timeout_s):
            worker = lines[line]  # type: ignore[index]  # wait returns what it was given
            try:
                kind, content = worker.child.line.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                yield from self._died(worker)
                continue
            outcome = self._message(worker, kind, content)
            if outcome is not None:
                yield outcome

    def _message(self, worker: _Worker, kind: str, content: Any) -> CaseReport | None:
        """Handle one message; return the report that it contains, if any."""
        if kind == "ready":
            worker.ready = True
            self._failed_starts = 0
        elif kind == "stage" and worker.case is not None:
            worker.stage = content
            self._tell(Event("stage", worker.case.case_id, {"stage": content}))
        elif kind == "report":
            worker.case = None
            report: CaseReport = content
            return report
        elif kind == "fault":
            raise EnvironmentFault(content)
        elif kind == "unfit":
            if isinstance(content, ModelError | EnvironmentFault):
                raise content
            raise UsageError(
                f"a worker cannot load the models ({content}); define them in a module that it "
                "can import, not in the main script, or run in this process with workers=None"
            )
        return None

    def _died(self, worker: _Worker) -> Iterator[Lost]:
        """Remove a worker that ended by itself, and yield the case that was lost with it."""
        self._workers.remove(worker)
        how = worker.child.how_it_died()
        if worker.case is not None:
            yield self._lost(
                worker, "worker_died", f"the worker process died in stage {worker.stage} ({how})"
            )
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise EnvironmentFault(
                    f"{self._failed_starts} workers in a row ended while loading the model "
                    f"({how}); check memory with `voxtile doctor`, or use fewer --workers"
                )

    def _enforce_limits(self) -> Iterator[Lost]:
        """End the workers that exceed their time or memory."""
        for worker in list(self._workers):
            if not worker.ready:
                if worker.seconds > _START_S:
                    raise EnvironmentFault(
                        f"a worker did not load the model within {_START_S:g} s; check the disk "
                        "with `voxtile doctor`"
                    )
                continue
            if worker.case is None:
                continue
            memory_mb = worker.memory_mb()
            if memory_mb > self._limits.memory_mb:
                self._remove(worker)
                yield self._lost(
                    worker,
                    "out_of_memory",
                    f"the worker used {memory_mb:.0f} MB in stage {worker.stage}, more than its "
                    f"limit of {self._limits.memory_mb:.0f} MB; use a smaller --batch, fewer "
                    "--workers, or more memory",
                )
            elif self._limits.timeout_s is not None and worker.seconds > self._limits.timeout_s:
                self._remove(worker)
                yield self._lost(
                    worker,
                    "timeout",
                    f"stage {worker.stage} was still running {self._limits.timeout_s:g} s after "
                    "the case began; if the case is only slow, allow more with --timeout",
                )

    def _lost(self, worker: _Worker, code: str, sentence: str) -> Lost:
        """Return a `Lost` for the case of a worker."""
        if worker.case is None:
            raise RuntimeError("a worker without a case cannot lose one")
        return Lost(worker.case, Notice(code, sentence), worker.seconds)

    def _remove(self, worker: _Worker) -> None:
        """End a worker."""
        self._workers.remove(worker)
        worker.child.end()

    def _last_reports(self) -> Iterator[CaseReport]:
        """Yield the reports of cases whose files were being written when the run was stopped."""
        deadline = time.monotonic() + _GRACE_S
        writing = ("write", "verify", "score")
        while any(worker.case is not None and worker.stage in writing for worker in self._workers):
            if time.monotonic() > deadline:
                return
            for outcome in self._receive(CHECK_EVERY_S):
                if isinstance(outcome, CaseReport):
                    yield outcome
