"""Cases on a Dask cluster. Dask carries them; each Dask worker hosts a crew of one.

    run  ->  Dask scheduler  ->  Dask worker  ->  worker process  (`voxtile.batch.worker`)

So a case that crashes, hangs or eats memory ends its worker process and never
the Dask worker, and all that holds on one machine holds here. The run folder
and the inputs are on a file system that all machines share.
"""

import hashlib
import ipaddress
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
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from voxtile.errors import EnvironmentFault, ModelError, Notice, UsageError
from voxtile.machine.memory import total_memory_mb
from voxtile.run.case import Job
from voxtile.run_folder.case_report import CaseReport

from .crew import Assignment, Crew, Limits, Loss
from .events import Event, Listener
from .interrupt import Stop

QueueSystem = Literal["slurm", "pbs", "sge"]
# How often signals and new workers are looked at, in seconds.
_LOOK_EVERY_S = 0.2
# How long an answer from the scheduler may take.
_ANSWER_S = 30.0
# How long to wait for a scheduler to hear that the run is over.
_GOODBYE_S = 2.0
_INSTALL = 'install it with pip install "voxtile[distributed]"'


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a batch finds a Dask cluster, or how it starts one.

    Parameters
    ----------
    scheduler : str, optional
        Address, such as ``tls://head:8786``.
    queue_system : {"slurm", "pbs", "sge"}, optional
        Start Dask workers as jobs of this system instead.
    settings : Path, optional
        TOML with a section ``[cluster]`` for the jobs.
    insecure : bool
        Whether a scheduler on another host may be spoken to without TLS.
        Dask runs what it is sent: whoever reaches the port runs code.

    Raises
    ------
    ValueError
        If it is not one of the two, or not secure.
    """

    scheduler: str | None = None
    queue_system: QueueSystem | None = None
    settings: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.scheduler is None) == (self.queue_system is None):
            raise UsageError("a cluster is either --scheduler ADDRESS or --cluster SYSTEM")
        if self.scheduler is not None:
            _check_address(self.scheduler, self.insecure)


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What a queue system is asked for, for one Dask worker; the section ``[cluster]``.

    Parameters
    ----------
    cores : int
    memory : str
        Such as ``16GB``.
    walltime : str
        Such as ``04:00:00``.
    maximum : int
        Most jobs at once; as many are started as there are cases for.
    queue : str, optional
    gpus : int
    directives : tuple of str
        Further lines for the system, as it wants them.
    """

    cores: int = 4
    memory: str = "16GB"
    walltime: str = "04:00:00"
    maximum: int = 8
    queue: str | None = None
    gpus: int = 0
    directives: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "JobSettings":
        """Read the section ``[cluster]`` of a TOML file.

        Raises
        ------
        ValueError
            If there is none, or it has what is not known.
        """
        try:
            section = tomllib.loads(path.read_text("utf-8"))["cluster"]
            unknown = sorted(set(section) - set(cls.__slots__))
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} must be TOML with a section [cluster] ({error})") from error
        if unknown:
            raise UsageError(
                f"{path}: [cluster] has {', '.join(unknown)}; it may have "
                f"{', '.join(cls.__slots__)}"
            )
        if "directives" in section:
            section["directives"] = tuple(section["directives"])
        return cls(**section)


class DaskCrew:
    """Does cases on a cluster, one at a time on each Dask worker.

    Parameters
    ----------
    client : distributed.Client
    job : Job
    most : int or None
        Cases at once; None gives each Dask worker one.
    timeout_s, memory_mb : float, optional
        For one case; its Dask worker's memory unless given.
    stop : Stop
    tell : callable
        Gets what happens.
    """

    def __init__(
        self,
        client: Any,
        job: Job,
        *,
        most: int | None,
        timeout_s: float | None,
        memory_mb: float | None,
        stop: Stop,
        tell: Listener,
    ) -> None:
        self._client = client
        self._job = pickle.dumps(job)
        self._most = most
        self._limits = (timeout_s, memory_mb)
        self._stop = stop
        self._tell = tell

    def run(self, assignments: Iterable[Assignment]) -> Generator[CaseReport | Loss]:
        """Do cases, and yield what each came to; as `Crew.run`."""
        waiting = deque(assignments)
        flying: dict[Any, Assignment] = {}
        try:
            while waiting or flying:
                if self._stop.requested:
                    raise KeyboardInterrupt
                self._check_scheduler()
                while waiting and len(flying) < self._room():
                    assignment = waiting.popleft()
                    flying[self._submit(assignment)] = assignment
                for future in self._done(flying):
                    yield self._outcome(future, flying.pop(future))
        except BaseException:
            self._give_up(flying)
            raise

    def end(self) -> None:
        """End the worker processes on all machines."""
        if self._client.status == "running":  # else nobody would pass it on
            with suppress(Exception):
                self._client.run(end_crews)

    def _submit(self, assignment: Assignment) -> Any:
        """Send one case off."""
        case, _ = assignment
        self._tell(Event("case_started", case.case_id))
        # Not pure: Dask must not hand out an earlier result for the same case.
        return self._client.submit(
            do_there, self._job, assignment, *self._limits, pure=False, retries=0
        )

    def _room(self) -> int:
        """Return how many cases may fly."""
        workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        return workers if self._most is None else min(workers, self._most)

    def _done(self, flying: dict[Any, Assignment]) -> list[Any]:
        """Return the cases that have ended, after a moment's wait."""
        if not any(future.done() for future in flying):
            time.sleep(_LOOK_EVERY_S if not flying else _LOOK_EVERY_S / 4)
        return [future for future in flying if future.done()]

    def _outcome(self, future: Any, assignment: Assignment) -> CaseReport | Loss:
        """Return what a case came to."""
        from distributed import KilledWorker

        try:
            outcome: CaseReport | Loss = future.result(timeout=_ANSWER_S)
            return outcome
        except (EnvironmentFault, ModelError, ValueError):
            raise
        except KilledWorker:
            case, _ = assignment
            sentence = "the Dask workers that had the case were lost, one after the other"
            return Loss(case, Notice("worker_died", sentence), 0.0)
        except Exception as error:
            # The scheduler went away and took the future with it.
            raise _scheduler_lost() from error

    def _check_scheduler(self) -> None:
        """Find out whether the scheduler is still there."""
        if self._client.status != "running":
            raise _scheduler_lost()

    def _give_up(self, flying: dict[Any, Assignment]) -> None:
        """Let go of cases that are under way, and end the processes that do them."""
        if self._client.status == "running":
            with suppress(Exception):
                self._client.cancel(list(flying), force=True)
        self.end()


@contextmanager
def connected(cluster: Cluster, out: Path) -> Iterator[Any]:
    """Yield a Dask client while the block runs; jobs that were started end with it.

    Raises
    ------
    EnvironmentFault
        If Dask is missing, or the scheduler does not answer.
    """
    try:
        import distributed
    except ImportError as error:
        raise EnvironmentFault(f"Dask is not installed; {_INSTALL}") from error
    # A lost scheduler is said in one sentence, not in Dask's own tracebacks.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if cluster.scheduler is not None:
        try:
            client = distributed.Client(cluster.scheduler, timeout=_ANSWER_S)
        except TypeError as error:  # Dask found no certificates in its configuration
            raise EnvironmentFault(
                f"{cluster.scheduler} needs certificates; name them in Dask's configuration, such "
                "as DASK_DISTRIBUTED__COMM__TLS__CA_FILE (docs/reliability.md)"
            ) from error
        except (OSError, TimeoutError, ValueError) as error:
            raise EnvironmentFault(
                f"the scheduler {cluster.scheduler} does not answer ({type(error).__name__}); "
                "start it with dask scheduler, and check address and certificates"
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


def queue_system(name: str) -> QueueSystem:
    """Return the queue system of a name.

    Raises
    ------
    ValueError
        If it is not known.
    """
    known: dict[str, QueueSystem] = {system: system for system in get_args(QueueSystem)}
    if name not in known:
        raise UsageError(f"--cluster {name!r} must be one of {', '.join(known)}")
    return known[name]


def queue_cluster(system: QueueSystem, settings: JobSettings, shared: Path) -> Any:
    """Return a dask-jobqueue cluster whose workers are jobs of a queue system.

    Parameters
    ----------
    system : {"slurm", "pbs", "sge"}
    settings : JobSettings
    shared : Path
        Folder that all machines see; certificates go there while it runs.
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
        # Whoever reaches a Dask port runs code: certificates are made for this run alone.
        protocol="tls://",
        security=Security.temporary(),
        shared_temp_directory=str(shared),
    )


# The crew of this Dask worker, and the one thread that may use it.
_LOCK = threading.Lock()
_CREWS: dict[str, Crew] = {}


def do_there(
    job: bytes, assignment: Assignment, timeout_s: float | None, memory_mb: float | None
) -> CaseReport | Loss:
    """Do one case; runs in a Dask worker, one at a time."""
    with _LOCK:
        crew = _crew(job, timeout_s, memory_mb)
        return next(crew.run([assignment]))


def end_crews() -> None:
    """End the worker processes of this Dask worker, whatever they are doing."""
    for crew in list(_CREWS.values()):
        crew.end()


def _crew(job: bytes, timeout_s: float | None, memory_mb: float | None) -> Crew:
    """Return the crew that has loaded the job; one for another job is ended."""
    from distributed import get_worker

    name = hashlib.sha256(job).hexdigest()
    if name not in _CREWS:
        end_crews()
        _CREWS.clear()
        worker = get_worker()
        share = getattr(worker.memory_manager, "memory_limit", None)
        limits = Limits(
            threads=worker.state.nthreads,
            memory_mb=memory_mb or (share / 1e6 if share else 0.9 * total_memory_mb()),
            timeout_s=timeout_s,
        )
        _CREWS[name] = Crew(
            pickle.loads(job), 1, limits, Stop(at_once=False), tell=lambda event: None
        )
    return _CREWS[name]


def _scheduler_lost() -> EnvironmentFault:
    """Return the error of a scheduler that is gone."""
    return EnvironmentFault(
        "the Dask scheduler was lost; start it again, then run the same command: it does what is "
        "missing"
    )


def _check_address(address: str, insecure: bool) -> None:
    """Refuse an address that is none, or that is open to others."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or parts.port is None:
        raise UsageError(f"--scheduler {address!r} must look like tls://HOST:PORT")
    if parts.scheme == "tls" or insecure:
        return
    try:
        loopback = ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        loopback = parts.hostname == "localhost"
    if not loopback:
        raise UsageError(
            f"--scheduler {address!r} is not encrypted, and whoever reaches it can run code; use "
            "tls://, or say --insecure on a network that you trust"
        )
