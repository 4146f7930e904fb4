"""What is written on the command line -> values: tiles, spacings, splits, lists of words.

Everything that `typer` does not parse itself. A word that cannot be read is
refused with what it must look like.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxtile.batch.cluster import Cluster
    from voxtile.case import Split
    from voxtile.engines import Wish
    from voxtile.models.spec import Axis
    from voxtile.preparation.plan import PlanWish
    from voxtile.run_folder.shard import Shard
    from voxtile.scoring.score import Measures


def measures_of(nsd: str, lesions: bool) -> "Measures":
    """Return what ``--nsd`` and ``--lesions`` ask for."""
    from voxtile.scoring.score import Measures

    try:
        tolerances = tuple(float(part) for part in nsd.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--nsd {nsd!r} must be numbers of mm, such as 1,2") from None
    return Measures(nsd_mm=tolerances, lesions=lesions)


def plan_of(
    tile: str | None,
    overlap: float | None,
    batch: int | None,
    tta: str | None,
    max_memory: float | None,
    workers: int = 1,
) -> "PlanWish":
    """Return how planes shall be tiled; the memory is that of all workers."""
    from voxtile.preparation.plan import PlanWish

    return PlanWish(
        tile=tile_of(tile),
        overlap=overlap,
        flips=flips_of(tta),
        batch=batch,
        memory_mb=None if max_memory is None else max_memory / max(1, workers),
    )


def engine_of(engine: str, precision: str, device: str) -> "Wish":
    """Return what shall run the networks."""
    from typing import Any

    from voxtile.engines import Wish

    words: dict[str, Any] = {"engine": engine, "precision": precision, "device": device}
    return Wish(**words)  # which checks each of them


def flips_of(text: str | None) -> "tuple[Axis, ...] | None":
    """Return the axes of ``--tta``: none, flips for all, or some of R, A, S."""
    known: dict[str, Axis] = {"R": "R", "A": "A", "S": "S"}
    if text is None:
        return None
    if text == "none":
        return ()
    if text == "flips":
        return tuple(known.values())
    words = words_of(text) or ()
    if not words or not set(words) <= set(known):
        raise ValueError(f"--tta {text!r} must be none, flips, or some of R,A,S")
    return tuple(axis for axis in known.values() if axis in words)


def tile_of(text: str | None) -> tuple[int, int] | None:
    """Return ``256x256`` as two numbers."""
    if text is None:
        return None
    try:
        rows, columns = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ValueError(f"--tile {text!r} must look like 256x256") from None
    return rows, columns


def cluster_of(
    scheduler: str | None, system: str | None, settings: Path | None, insecure: bool
) -> "Cluster | None":
    """Return the cluster that was asked for."""
    from voxtile.batch.cluster import Cluster, queue_system

    if scheduler is None and system is None:
        return None
    return Cluster(scheduler, None if system is None else queue_system(system), settings, insecure)


def shard_of(text: str | None) -> "Shard | None":
    """Return the shard that was asked for; Slurm says which task of an array this is."""
    import os

    from voxtile.run_folder.shard import Shard

    return None if text is None else Shard.parse(text, os.environ)


def words_of(text: str | None) -> tuple[str, ...] | None:
    """Return ``a,b`` as words; an empty text has none."""
    if text is None:
        return None
    return tuple(text.split(",")) if text else ()


def spacing_of(text: str | None) -> tuple[float, ...] | None:
    """Return ``1,1,3`` as numbers."""
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--spacing {text!r} must be three numbers, such as 1,1,3") from None
    return x, y, z


def splits_of(text: str | None) -> "tuple[Split, ...]":
    """Return ``val,test`` as splits."""
    from typing import get_args

    from voxtile.case import Split

    if not text:
        return ()
    known = {split: split for split in get_args(Split)}
    wrong = [part for part in text.split(",") if part not in known]
    if wrong:
        raise ValueError(f"--split {wrong[0]!r} is not one of {', '.join(known)}")
    return tuple(known[part] for part in text.split(","))
