"""Run cases on a Dask cluster: each Dask worker has one worker process of voxtile.

    run  ->  Dask scheduler  ->  Dask worker  ->  worker process  (`voxtile.batch.worker`)

A case that crashes, hangs or uses too much memory therefore ends only its worker
process, as on one machine, and never the Dask worker. The run folder and the
inputs are on a file system that all machines share.
"""

import hashlib
import logging
import pickle
import threading
import time
import tomllib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault, ModelError, Notice, UsageError
from voxtile.machine.files import regular
from voxtile.machine.memory import total_memory_mb
from voxtile.run_folder.case_report import CaseReport

from .events import Event, Listener
from .interrupt import Stop
from .pool import CHECK_EVERY_S, Assignment, Limits, Lost, WorkerPool
from .settings import Cluster, QueueSystem

# How long an answer from the scheduler may take.
_ANSWER_S = 30.0
# How long closing the connection to a scheduler may take.
_GOODBYE_S = 2.0
_INSTALL = 'install it with pip install "voxtile[distributed]"'


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What one Dask worker requests from a queue system; the section ``[cluster]``."""

    cores: int = 4
    memory: str = "16GB"
    walltime: str = "04:00:00"
    maximum: int = 8  # maximum number of jobs at once; never more jobs than cases
    queue: str | None = None
    gpus: int = 0
    directives: tuple[str, ...] = ()  # more lines for the queue system, in its syntax

    @classmethod
    def read(cls, path: Path) -> "JobSettings":
        """Read the section ``[cluster]`` of a TOML file.

        ValueError if the section is missing or has an unknown key.
        """
        try:
            section = tomllib.loads(regular(path).read_text("utf-8"))["cluster"]
            unknown = sorted(set(section) - set(cls.__slots__))
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} must be TOML with a section [cluster] ({error})") from error
        if unknown:
            raise UsageError(
                f"{path}: [cluster] has unknown {', '.join(unknown)}; it may have "
                f"{', '.join(cls.__slots__)}"
            )
        if "directives" in section:
            section["directives"] = tuple(section["directives"])
        return cls(**section)


@dataclass(frozen=True, slots=True)
class DaskPool:
    """Runs cases on a cluster, one at a time on each Dask worker."""

    _client: Any
    _job: bytes  # pickled
    _most: int  # maximum number of cases at once
    # Limits of one case, in s and MB; by default no time limit, and the Dask worker's memory.
    _limits: tuple[float | None, float | None]
    _stop: Stop
    _tell: Listener  # called with each event

    def run(self, assignments: Iterable[Assignment]) -> Generator[CaseReport | Lost]:
        """Run cases, and yield the outcome of each, as `WorkerPool.run` does."""
        waiting = deque(assignments)
        running: dict[Any, Assignment] = {}
        try:
            while waiting or running:
                if self._stop.requested:
                    raise KeyboardInterrupt
                if self._client.status != "running":
                    raise _scheduler_lost()
                while waiting and len(running) < self._room():
                    assignment = waiting.popleft()
                    running[self._submit(assignment)] = assignment
                for future in self._done(running):
                    yield self._outcome(future, running.pop(future))
        except BaseException:
            self._give_up(running)
            raise

    def end(self) -> None:
        """End the worker processes on all machines."""
        if self._client.status == "running":  # otherwise the machines cannot be reached
            with suppress(Exception):
                self._client.run(end_pool)

    def _submit(self, assignment: Assignment) -> Any:
        """Send one case to the cluster."""
        case, _ = assignment
        self._tell(Event("case_started", case.case_id))
        # Not pure: Dask must not return an earlier result for the same case.
        return self._client.submit(
            do_there, self._job, assignment, *self._limits, pure=False, retries=0
        )

    def _room(self) -> int:
        """Return how many cases may run at once."""
        workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        return min(workers, self._most)

    def _done(self, running: dict[Any, Assignment]) -> list[Any]:
        """Return the cases that have ended, after a short wait."""
        if not any(future.done() for future in running):
            time.sleep(CHECK_EVERY_S if not running else CHECK_EVERY_S / 4)
        return [future for future in running if future.done()]

    def _outcome(self, future: Any, assignment: Assignment) -> CaseReport | Lost:
        """Return the outcome of a case."""
        from distributed import KilledWorker

        try:
            outcome: CaseReport | Lost = future.result(timeout=_ANSWER_S)
            return outcome
        except (EnvironmentFault, ModelError, ValueError):
            raise
        except KilledWorker:
            case, _ = assignment
            sentence = "several Dask workers that had the case were lost, one after another"
            return Lost(case, Notice("worker_died", sentence), 0.0)
        except Exception as error:
            # The scheduler is gone, and the future with it.
            raise _scheduler_lost() from error

    def _give_up(self, running: dict[Any, Assignment]) -> None:
        """Cancel running cases, and end the processes that run them."""
        if self._client.status == "running":
            with suppress(Exception):
                self._client.cancel(list(running), force=True)
        self.end()


@contextmanager
def connected(cluster: Cluster | None, out: Path) -> Iterator[Any]:
    """Yield a Dask client while the block runs, or None without a cluster.

    Jobs of a queue system end with the block. EnvironmentFault if Dask is missing, or the
    scheduler does not answer.
    """
    if cluster is None:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        raise EnvironmentFault(f"Dask is not installed; {_INSTALL}") from error
    # A lost scheduler is reported in one sentence, without Dask's tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if cluster.scheduler is not None:
        try:
            client = distributed.Client(cluster.scheduler, timeout=_ANSWER_S)
        except TypeError as error:  # Dask found no certificates in its configuration
            raise EnvironmentFault(
                f"{cluster.scheduler} needs certificates; name them in Dask's configuration, for "
                "example with DASK_DISTRIBUTED__COMM__TLS__CA_FILE (docs/reliability.md)"
            ) from error
        except (OSError, TimeoutError, ValueError) as error:
            raise EnvironmentFault(
                f"the scheduler {cluster.scheduler} does not answer ({type(error).__name__}); "
                "start it with `dask scheduler`, and check the address and the certificates"
            ) from error
        try:
            yield client
        finally:
            client.close(timeout=_GOODBYE_S)
        return
    settings = JobSettings() if cluster.settings is None else JobSettings.read(cluster.settings)
    with (
        queue_cluster(cluster.queue_system or "slurm", settings, out) as jobs,
        distributed.Client(jobs) as client,
    ):
        jobs.adapt(minimum=0, maximum=settings.maximum)
        yield client


def queue_cluster(system: QueueSystem, settings: JobSettings, shared: Path) -> Any:
    """Return a dask-jobqueue cluster whose workers are jobs of a queue system.

    `shared` is a folder on a shared file system; it holds certificates during the run.
    """
    try:
        import dask_jobqueue
        from distributed.security import Security
    except ImportError as error:
        raise EnvironmentFault(f"dask-jobqueue is not installed; {_INSTALL}") from error
    kinds = {
        "slurm": (dask_jobqueue.SLURMCluster, f"--gres=gpu:{settings.gpus}"),
        "pbs": (dask_jobqueue.PBSCluster, f"-l ngpus={settings.gpus}"),
        "sge": (dask_jobqueue.SGECluster, f"-l gpu={settings.gpus}"),
    }
    kind, gpu = kinds[system]
    return kind(
        queue=settings.queue,
        cores=settings.cores,
        processes=1,
        memory=settings.memory,
        walltime=settings.walltime,
        job_extra_directives=[*([gpu] if settings.gpus else []), *settings.directives],
        # Everybody who reaches a Dask port can run code: this run has its own certificates.
        protocol="tls://",
        security=Security.temporary(),
        shared_temp_directory=str(shared),
    )


# The pool of this Dask worker, by the hash of its job; only the thread with the lock uses it.
_LOCK = threading.Lock()
_POOLS: dict[str, WorkerPool] = {}


def do_there(
    job: bytes, assignment: Assignment, timeout_s: float | None, memory_mb: float | None
) -> CaseReport | Lost:
    """Process one case in a Dask worker, which processes one at a time."""
    with _LOCK:
        pool = _pool(job, timeout_s, memory_mb)
        return next(pool.run([assignment]))


def end_pool() -> None:
    """End the worker process of this Dask worker, whatever it is doing."""
    for pool in list(_POOLS.values()):
        pool.end()


def _pool(job: bytes, timeout_s: float | None, memory_mb: float | None) -> WorkerPool:
    """Return the pool that has loaded the job; end the pool of another job."""
    from distributed import get_worker

    name = hashlib.sha256(job).hexdigest()
    if name not in _POOLS:
        end_pool()
        _POOLS.clear()
        worker = get_worker()
        share = getattr(worker.memory_manager, "memory_limit", None)
        limits = Limits(
            threads=worker.state.nthreads,
            memory_mb=memory_mb or (share / 1e6 if share else 0.9 * total_memory_mb()),
            timeout_s=timeout_s,
        )
        _POOLS[name] = WorkerPool(
            pickle.loads(job), 1, limits, Stop(at_once=False), tell=lambda event: None
        )
    return _POOLS[name]


def _scheduler_lost() -> EnvironmentFault:
    """Return the error for a lost scheduler."""
    return EnvironmentFault(
        "the Dask scheduler was lost; start it again, then run the same command, which processes "
        "only the missing cases"
    )
