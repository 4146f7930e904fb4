"""A run folder that is fit to be written to, found out before the first case."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import EnvironmentFault
from voxtile.export import clear_exports
from voxtile.machine.files import clear_temporary, remove, write_text
from voxtile.reading.nifti import channel_paths
from voxtile.run_folder.shard import Shard

_PARTS = ("masks", "cases")
# Made when the first file is; nothing depends on them.
_OPTIONAL = ("qc", "images", "exports", "report_files")
# Below this not even a few masks fit.
_LEAST_FREE_MB = 64.0


def prepare(out: Path, cases: Sequence[Case], shard: Shard | None, channels: Sequence[str]) -> None:
    """Make the folder's parts, try to write in each, and clear what a killed run left.

    `channels` are those of the model.

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
    clear(out, cases, shard, channels)


def clear(
    out: Path, cases: Iterable[Case], shard: Shard | None, channels: Sequence[str] = ()
) -> None:
    """Remove the temporary files of writers that were killed; of a shard only its own.

    `channels` are those of the model, which name a shard's images.
    """
    if shard is None:
        clear_temporary(out)
        for part in (*_PARTS, *_OPTIONAL):
            for folder, _, _ in os.walk(out / part):
                clear_temporary(Path(folder))
        return
    case_ids = {case.case_id for case in cases}
    names = {f"{name}{ending}" for name in case_ids for ending in (".json", ".nii.gz", ".png")}
    for part in (*_PARTS, "qc"):
        clear_temporary(out / part, names)
    images = [channel_paths(Path(f"{name}.nii.gz"), channels) for name in case_ids]
    clear_temporary(out / "images", {path.name for paths in images for path in paths})
    clear_exports(out, case_ids)
