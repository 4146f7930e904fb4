"""Make a run folder ready before the first case, and clean it afterwards."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import EnvironmentFault
from voxtile.export import clear_exports
from voxtile.machine.files import clear_temporary, remove, write_text
from voxtile.reading.nifti import channel_paths
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.shard import Shard

# Below this not even a few masks fit.
_LEAST_FREE_MB = 64.0


def prepare(
    folder: RunFolder, cases: Sequence[Case], shard: Shard | None, channels: Sequence[str]
) -> None:
    """Make the needed folders, try to write in each, and clean up after a killed run.

    Parameters
    ----------
    cases : sequence of Case
        Those of the shard.
    channels : sequence of str
        Those of the model.

    Raises
    ------
    EnvironmentFault
        If it cannot be written, or the disk is full.
    """
    for probe in folder.probes(shard):
        try:
            write_text(probe, "")
        finally:
            remove(probe)
    free_mb = shutil.disk_usage(folder.path).free / 1e6
    if free_mb < _LEAST_FREE_MB:
        raise EnvironmentFault(
            f"the disk of {folder.path} has {free_mb:.0f} MB free, and at least "
            f"{_LEAST_FREE_MB:.0f} MB are needed; make room, then run the same command again"
        )
    clear(folder, cases, shard, channels)


def clear(
    folder: RunFolder, cases: Iterable[Case], shard: Shard | None, channels: Sequence[str] = ()
) -> None:
    """Remove the temporary files of writers that were killed; for a shard only its own.

    The channels of the model name the images of a shard's cases.
    """
    if shard is None:
        clear_temporary(folder.path)
        for part in (folder.masks, folder.cases, *folder.optional):
            for inner, _, _ in os.walk(part):
                clear_temporary(Path(inner))
        return
    case_ids = {case.case_id for case in cases}
    for path in (folder.record, folder.mask, folder.picture):
        clear_temporary(path("").parent, {path(case_id).name for case_id in case_ids})
    images = [channel_paths(folder.image(case_id), channels) for case_id in case_ids]
    clear_temporary(folder.images, {path.name for paths in images for path in paths})
    clear_exports(folder.path, case_ids)
