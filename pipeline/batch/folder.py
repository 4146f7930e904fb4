"""Make a run folder ready before the first case, and clean it afterwards."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.export import clear_exports, clear_shared_exports, exported_paths
from voxtile.machine.files import clear_temporary, remove, temporary_for, write_text
from voxtile.reading.nifti import channel_paths
from voxtile.run_folder.facts import readable_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.protection import is_remainder, refuse_tables, refuse_unnamed
from voxtile.run_folder.shard import Shard

# With less free space, not even a few masks fit.
_LEAST_FREE_MB = 64.0


def refuse_others(
    folder: RunFolder, cases: Sequence[Case], shard: Shard | None, channels: Sequence[str]
) -> None:
    """Raise ManifestError if files would be replaced that another program wrote, with their paths.

    `cases` are the cases of the shard, `channels` are the channels of the model.
    """

    def paths(case_id: str) -> Iterable[Path]:
        yield from (folder.record(case_id), folder.mask(case_id), folder.picture(case_id))
        yield from channel_paths(folder.image(case_id), channels)
        yield from exported_paths(folder.path, case_id)

    refuse_unnamed(folder, [case.case_id for case in cases], paths)
    if shard is None:
        refuse_tables(folder)


def prepare(
    folder: RunFolder, cases: Sequence[Case], shard: Shard | None, channels: Sequence[str]
) -> None:
    """Make the needed folders, try to write in each, and clean up after a killed run.

    `cases` are the cases of the shard, `channels` are the channels of the model. EnvironmentFault
    if the folder cannot be written, or the disk is full.
    """
    for probe in folder.probes(shard):
        if os.path.lexists(probe) and not is_remainder(probe):
            raise ManifestError(f"{probe} would be replaced by a write test; move it away")
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
    """Remove the temporary files that killed writers left; for a shard, only those of its cases.

    Temporary files of other programs are not removed. The names of the images
    contain the channels of the model.
    """
    case_ids = {case.case_id for case in cases}
    named: list[tuple[Path, ...]] = []
    if shard is None:
        case_ids.update(path.stem for path in folder.records())
        for facts in readable_facts(folder):
            case_ids.update(facts.case_ids)
            named += [channel_paths(folder.image(one), facts.channels) for one in facts.case_ids]
        _clear_shared(folder)
        for part in folder.page_files.glob("*/"):
            clear_temporary(part, {f"{case_id}.js" for case_id in case_ids})
    for path in (folder.record, folder.mask, folder.picture):
        clear_temporary(path("").parent, {path(case_id).name for case_id in case_ids})
    named += [channel_paths(folder.image(case_id), channels) for case_id in case_ids]
    clear_temporary(folder.images, {path.name for paths in named for path in paths})
    clear_exports(folder.path, case_ids)


def _clear_shared(folder: RunFolder) -> None:
    """Remove the temporary files of the files that all cases share, such as tables and page."""
    for part in (folder.path, folder.masks, folder.cases, folder.page_files):
        found = {temporary_for(path) for path in part.glob(".*.tmp")}
        clear_temporary(part, {name for name in found if name and folder.is_shared(name)})
    clear_shared_exports(folder.path)
