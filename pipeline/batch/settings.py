"""How a batch runs; nothing here changes a result."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxtile.machine.memory import total_memory_mb
from voxtile.run_folder.shard import Shard

if TYPE_CHECKING:
    from .cluster import Cluster


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How many cases run at once, what one may cost, and what is done again.

    Parameters
    ----------
    workers : int or None
        Worker processes; 0 counts as 1. None runs the cases in this process,
        for tests and notebooks: a crash then ends it, and there are no limits.
    timeout_s : float, optional
        Longest that a case may take.
    memory_mb : float, optional
        Most memory of a worker; unless given, the machine's divided by the
        workers.
    retries : int
        How often a case is tried again after its worker was lost; alone, with
        half the batch.
    max_failures : int, optional
        Stop when this many cases have failed.
    retry_failed : bool
        Whether cases that failed before are tried again.
    fresh : bool
        Whether everything is done again.
    shard : Shard, optional
        Only this part of the manifest.
    cluster : Cluster, optional
        Where to run instead of in workers of this machine.

    Raises
    ------
    ValueError
        If a number makes no sense.
    """

    workers: int | None = None
    timeout_s: float | None = None
    memory_mb: float | None = None
    retries: int = 1
    max_failures: int | None = None
    retry_failed: bool = False
    fresh: bool = False
    shard: Shard | None = None
    cluster: "Cluster | None" = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers {self.workers} must be at least 0")
        if self.retries < 0:
            raise ValueError(f"retries {self.retries} must be at least 0")
        for name in ("timeout_s", "memory_mb", "max_failures"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} {value} must be more than 0")

    @property
    def in_process(self) -> bool:
        """Whether cases run in this process."""
        return self.workers is None and self.cluster is None

    def memory_of_one(self, workers: int) -> float:
        """Return the most memory of one of so many workers, in MB (10^6 bytes)."""
        return self.memory_mb or 0.9 * total_memory_mb() / workers
