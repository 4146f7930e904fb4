"""Worker processes, from the side of the run: hand out cases, take reports, notice losses.

A worker that dies, exceeds its time or its memory costs the one case it was
at. It is replaced, and the others never know.
"""

import os
import pickle
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ModelError, Notice
from voxtile.machine.processes import Child
from voxtile.run.case import Job
from voxtile.run_folder.case_report import CaseReport

from .events import Event, Listener
from .interrupt import Stop

# How often limits and signals are looked at, in seconds.
_LOOK_EVERY_S = 0.2
# How long a worker may take to start and load its networks.
_START_S = 600.0
# Starts in a row that come to nothing before the run gives up.
_MOST_VAIN_STARTS = 3
# What a run that is interrupted waits for writes that are under way.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use.

    Parameters
    ----------
    threads : int
        Processors of one worker.
    memory_mb : float
    timeout_s : float or None
        For one case; loading the networks is not counted.
    """

    threads: int
    memory_mb: float
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A case whose worker was lost.

    Parameters
    ----------
    case : Case
    reason : Notice
    seconds : float
        That it had been running.
    """

    case: Case
    reason: Notice
    seconds: float


Assignment = tuple[Case, tuple[Notice, ...]]


class _Worker:
    """A worker process and what it is doing."""

    def __init__(self, job: bytes, limits: Limits) -> None:
        try:
            self.child = Child("voxtile.batch.worker", limits.threads)
        except OSError as error:
            raise EnvironmentFault(f"a worker cannot be started ({error.strerror})") from error
        self.ready = False
        self.case: Case | None = None
        self.stage = "start"
        self.begin = time.monotonic()
        with suppress(OSError):  # its death is noticed where the line is read
            self.child.line.send_bytes(job)

    @property
    def seconds(self) -> float:
        """Seconds since its case began, or since it was started."""
        return time.monotonic() - self.begin

    def give(self, assignment: Assignment) -> None:
        """Let it begin a case."""
        self.case, _ = assignment
        self.stage = "start"
        self.begin = time.monotonic()
        with suppress(OSError):
            self.child.line.send(assignment)

    def memory_mb(self) -> float:
        """Return its resident memory in MB (10^6 bytes), or 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, IndexError, ValueError):
            return 0.0


class Crew:
    """Some workers that do cases together.

    Parameters
    ----------
    job : Job
    count : int
        Workers at once.
    limits : Limits
    stop : Stop
    tell : callable
        Gets what happens.

    Raises
    ------
    ValueError
        If the job's models cannot be sent to another process.
    """

    def __init__(self, job: Job, count: int, limits: Limits, stop: Stop, tell: Listener) -> None:
        try:
            self._job = pickle.dumps(job)
        except Exception as error:  # pickle raises almost anything
            raise ValueError(
                f"the models cannot be sent to workers ({error}); pass functions that a module "
                "defines, or run in this process with workers=None"
            ) from error
        self._count = count
        self._limits = limits
        self._stop = stop
        self._tell = tell
        self._workers: list[_Worker] = []
        self._vain_starts = 0

    def run(self, assignments: Iterable[Assignment]) -> Generator[CaseReport | Loss]:
        """Do cases, and yield what each came to, in the order they end.

        Workers stay for the next cases, unless the caller has seen enough and
        closes the iterator, or something stops the run.

        Raises
        ------
        KeyboardInterrupt
            If the run was told to stop.
        EnvironmentFault
            If results cannot be written, or workers cannot start.
        ModelError, ValueError
            If a network cannot be loaded, or a model that was given.
        """
        waiting = deque(assignments)
        try:
            while waiting or any(worker.case is not None for worker in self._workers):
                if self._stop.requested:
                    yield from self._last_reports()
                    raise KeyboardInterrupt
                self._fill(waiting)
                yield from self._hear(_LOOK_EVERY_S)
                yield from self._end_offenders()
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.child.end()
        self._workers.clear()

    def _fill(self, waiting: deque[Assignment]) -> None:
        """Start workers that are missing, and give each idle one a case."""
        busy = sum(worker.case is not None for worker in self._workers)
        wanted = min(self._count, busy + len(waiting))
        while len(self._workers) < wanted:
            self._workers.append(_Worker(self._job, self._limits))
        for worker in self._workers:
            if waiting and worker.ready and worker.case is None:
                assignment = waiting.popleft()
                worker.give(assignment)
                self._tell(Event("case_started", assignment[0].case_id, {"pid": worker.child.pid}))

    def _hear(self, timeout_s: float) -> Iterator[CaseReport | Loss]:
        """Take what the workers say."""
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
        """Take one message; return a report when it is one."""
        if kind == "ready":
            worker.ready = True
            self._vain_starts = 0
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
            raise ValueError(
                f"a worker cannot load the models ({content}); define them in a module that it "
                "can import, not in the main script, or run in this process with workers=None"
            )
        return None

    def _died(self, worker: _Worker) -> Iterator[Loss]:
        """Yield the loss of a worker that ended by itself."""
        self._workers.remove(worker)
        how = worker.child.how_it_died()
        if worker.case is not None:
            yield self._loss(
                worker, "worker_died", f"the worker process died in stage {worker.stage} ({how})"
            )
        elif not worker.ready:
            self._vain_starts += 1
            if self._vain_starts >= _MOST_VAIN_STARTS:
                raise EnvironmentFault(
                    f"{self._vain_starts} workers in a row ended while they were loading the "
                    f"model ({how}); check memory with `voxtile doctor`, or use fewer --workers"
                )

    def _end_offenders(self) -> Iterator[Loss]:
        """End the workers that take too long or too much."""
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
                yield self._loss(
                    worker,
                    "out_of_memory",
                    f"the worker held {memory_mb:.0f} MB in stage {worker.stage}, more than its "
                    f"share of {self._limits.memory_mb:.0f} MB; use a smaller --batch, fewer "
                    "--workers, or more memory",
                )
            elif self._limits.timeout_s is not None and worker.seconds > self._limits.timeout_s:
                self._remove(worker)
                yield self._loss(
                    worker,
                    "timeout",
                    f"stage {worker.stage} was still running after {self._limits.timeout_s:g} s "
                    "for the case; allow more with --timeout if that is not a hang",
                )

    def _loss(self, worker: _Worker, code: str, sentence: str) -> Loss:
        """Return the loss of a worker's case."""
        if worker.case is None:
            raise RuntimeError("a worker without a case has nothing to lose")
        return Loss(worker.case, Notice(code, sentence), worker.seconds)

    def _remove(self, worker: _Worker) -> None:
        """End a worker and forget it."""
        self._workers.remove(worker)
        worker.child.end()

    def _last_reports(self) -> Iterator[CaseReport]:
        """Yield the reports of cases that were being written when the run was told to stop."""
        deadline = time.monotonic() + _GRACE_S
        writing = ("write", "verify", "score")
        while any(worker.case is not None and worker.stage in writing for worker in self._workers):
            if time.monotonic() > deadline:
                return
            for outcome in self._hear(_LOOK_EVERY_S):
                if isinstance(outcome, CaseReport):
                    yield outcome
