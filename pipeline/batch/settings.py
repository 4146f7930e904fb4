"""How a batch runs. Nothing here changes a result."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxtile.errors import UsageError
from voxtile.machine.memory import total_memory_mb
from voxtile.run_folder.shard import Shard

if TYPE_CHECKING:
    from .cluster import Cluster


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How many cases run at once, what one case may use, and what is done again.

    Parameters
    ----------
    workers : int or None
        How many worker processes run cases at the same time.

        0 counts as 1. None runs the cases in this process, for tests and notebooks: a crash then
        ends it, and there are no limits.
    timeout_s : float, optional
        Longest time that a case may take, in seconds (default: no limit).
    memory_mb : float, optional
        Most memory that a worker may use, in MB (default: 90 % of the machine's, shared by the
        workers).
    retries : int
        How often a case is tried again after its worker died.

        It then runs alone, with half as many tiles at once.
    max_failures : int, optional
        Stop when this many cases have failed.
    retry_failed : bool
        Run cases again that failed before.
    fresh : bool
        Run all cases again, finished ones too.
    shard : Shard, optional
        Run only this part of the manifest.
    cluster : Cluster, optional
        Where to run instead of in workers of this machine.

    Raises
    ------
    UsageError
        If a number is out of range.
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
            raise UsageError(f"workers {self.workers} must be at least 0")
        if self.retries < 0:
            raise UsageError(f"retries {self.retries} must be at least 0")
        for name in ("timeout_s", "memory_mb", "max_failures"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} {value} must be more than 0")

    @property
    def in_process(self) -> bool:
        """Whether cases run in this process."""
        return self.workers is None and self.cluster is None

    def memory_of_one(self, workers: int) -> float:
        """Return the most memory of one of so many workers, in MB (10^6 bytes)."""
        return self.memory_mb or 0.9 * total_memory_mb() / workers
