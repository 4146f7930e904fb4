"""The settings of a batch. None of them changes a result."""

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from voxtile.engines.options import Wish
from voxtile.errors import UsageError
from voxtile.run_folder.shard import Shard

QueueSystem = Literal["slurm", "pbs", "sge"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Dask cluster that runs already, or that a queue system starts.

    ValueError if not exactly one of `scheduler` and `queue_system` is given, or the connection is
    not secure.

    Parameters
    ----------
    scheduler : str, optional
        Run on the Dask cluster with this scheduler: tls://HOST:PORT.
    queue_system : {"slurm", "pbs", "sge"}, optional
        Start Dask workers as jobs of slurm, pbs or sge.
    settings : Path, optional
        TOML file with a section cluster: queue, memory, walltime, ...
    insecure : bool
        Allow a scheduler on another host without TLS.

        Dask runs the code that it receives: everybody who can reach the port can run code.
    """

    scheduler: str | None = None
    queue_system: QueueSystem | None = None
    settings: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.scheduler is None) == (self.queue_system is None):
            raise UsageError("pass either --scheduler ADDRESS or --cluster SYSTEM, and not both")
        if self.scheduler is not None:
            _check_address(self.scheduler, self.insecure)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How many cases run at once, what one case may use, and which cases run again.

    Parameters
    ----------
    workers : int or None
        How many worker processes run cases at the same time.

        0 counts as 1. None runs the cases in this process, for tests and notebooks: a crash then
        ends this process, and there are no limits.
    timeout_s : float, optional
        Longest time that a case may take, in seconds (default: no limit).
    devices : tuple of int
        Numbers of the GPUs that run the cases, with at least one worker per GPU (default: only the
        device of --device).
    memory_mb : float, optional
        Maximum memory of one worker, in MB (default: 90 % of the machine's memory, divided by the
        number of workers).
    retries : int
        How often a case is tried again after its worker died.

        The case then runs alone, with half as many tiles at once.
    max_failures : int, optional
        Stop when this many cases have failed.
    retry_failed : bool
        Run cases again that failed before.
    fresh : bool
        Run all cases again, finished ones too.
    shard : Shard, optional
        Run only this part of the manifest.
    cluster : Cluster, optional
        The cluster to run on, instead of workers on this machine.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    workers: int | None = None
    timeout_s: float | None = None
    devices: tuple[int, ...] = ()
    memory_mb: float | None = None
    retries: int = 1
    max_failures: int | None = None
    retry_failed: bool = False
    fresh: bool = False
    shard: Shard | None = None
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers {self.workers} must be at least 0")
        if self.retries < 0:
            raise UsageError(f"retries {self.retries} must be at least 0")
        if len(set(self.devices)) < len(self.devices) or min(self.devices, default=0) < 0:
            raise UsageError(f"devices {self.devices} must be different numbers of at least 0")
        if self.devices and self.cluster is not None:
            raise UsageError(
                "--devices is for GPUs of this machine; on a cluster, give each job one GPU and "
                "use --device gpu"
            )
        for name in ("timeout_s", "memory_mb", "max_failures"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} {value} must be more than 0")

    @property
    def in_process(self) -> bool:
        """Whether cases run in this process."""
        return self.workers is None and self.cluster is None and not self.devices

    @property
    def at_once(self) -> int:
        """How many cases run at the same time on this machine."""
        return max(1, self.workers or 0, len(self.devices))

    def engine(self, wish: Wish) -> Wish:
        """Return the options of the engine, with the first of several GPUs.

        Raises
        ------
        UsageError
            If the options name another device.
        """
        if not self.devices:
            return wish
        if wish.device != "auto":
            raise UsageError(f"--device {wish.device} and --devices exclude each other; give one")
        return replace(wish, device=f"gpu:{self.devices[0]}")

    def memory_of_one(self, workers: int) -> float:
        """Return the maximum memory of each of so many workers, in MB (10^6 bytes)."""
        from voxtile.machine.memory import total_memory_mb

        return self.memory_mb or 0.9 * total_memory_mb() / workers


def _check_address(address: str, insecure: bool) -> None:
    """Refuse an address that is not valid, or not secure."""
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
            f"--scheduler {address!r} is not encrypted, and everybody who reaches it can run code; "
            "use tls://, or pass --insecure on a network that you trust"
        )
