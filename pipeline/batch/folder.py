"""A run folder that is fit to be written to, found out before the first case."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.files import clear_temporary, remove, write_text

from .shard import Shard

_PARTS = ("masks", "cases")
# Made when the first picture is; nothing depends on it.
_OPTIONAL = ("qc",)
# Below this not even a few masks fit.
_LEAST_FREE_MB = 64.0


def prepare(out: Path, cases: Iterable[Case], shard: Shard | None) -> None:
    """Make the folder's parts, try to write in each, and clear what a killed run left.

    Raises
    ------
    EnvironmentFault
        If it cannot be written, or the disk is full.
    """
    for folder in (out, *(out / part for part in _PARTS)):
        probe = folder / (".probe" if shard is None else f".probe-{shard}")
        try:
            write_text(probe, "")
        finally:
            remove(probe)
    free_mb = shutil.disk_usage(out).free / 1e6
    if free_mb < _LEAST_FREE_MB:
        raise EnvironmentFault(
            f"the disk of {out} has {free_mb:.0f} MB free, and at least {_LEAST_FREE_MB:.0f} MB "
            "are needed; make room, then run the same command again"
        )
    clear(out, cases, shard)


def refuse_run(out: Path) -> None:
    """Refuse the folder of a segmentation run, whose records anything else would destroy.

    Raises
    ------
    ManifestError
        With what to do.
    """
    for path in (out / "run.json", *sorted(out.glob("run-*-of-*.json"))):
        try:
            facts = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ManifestError(
                [f"{path} cannot be read, so {out} may hold a run; name another folder with --out"]
            ) from error
        if "model" in facts:
            raise ManifestError(
                [
                    f"{out} holds a segmentation run ({path.name}), whose records would be lost; "
                    "name another folder with --out"
                ]
            )


def clear(out: Path, cases: Iterable[Case], shard: Shard | None) -> None:
    """Remove the temporary files of writers that were killed; of a shard only its own."""
    if shard is None:
        for folder in (out, *(out / part for part in (*_PARTS, *_OPTIONAL))):
            clear_temporary(folder)
        return
    names = {f"{case.case_id}{ending}" for case in cases for ending in (".json", ".nii.gz", ".png")}
    for part in (*_PARTS, *_OPTIONAL):
        clear_temporary(out / part, names)
