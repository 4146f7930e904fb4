"""Join the shards of a run: their records become one ``report.csv``."""

from dataclasses import dataclass
from pathlib import Path

from voxtile.report.tables import write_reports
from voxtile.run_folder.case_report import CaseReport, read_case_report
from voxtile.run_folder.facts import read_shards, write_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import refuse_tables

from .folder import clear


@dataclass(frozen=True, slots=True)
class Merged:
    """How many cases the shards have done, and which are missing.

    Parameters
    ----------
    missing : tuple of str
        Cases that no shard has done yet.
    """

    total: int
    done: int
    failed: int
    missing: tuple[str, ...]


def merge_shards(out: Path) -> Merged:
    """Write the CSVs and ``run.json`` of a folder that shards have filled.

    Parameters
    ----------
    out : Path
        The run folder. It may be merged before all shards are done, and again
        after.

    Raises
    ------
    ManifestError
        If it holds no shards, shards of different runs, or a table that is
        not from voxtile.
    EnvironmentFault
        If a shard is running.
    """
    folder = RunFolder(out)
    read_shards(folder)  # before the lock, which would make the folder
    with locked(out):
        shards = read_shards(folder)
        refuse_tables(folder)
        first = shards[0]
        clear(folder, (), None)
        reports: list[CaseReport] = []
        missing = []
        for case_id in first.case_ids:
            try:
                report = read_case_report(folder.record(case_id))
            except (OSError, ValueError):
                missing.append(case_id)
                continue
            # An earlier run of the folder may have had another model or manifest.
            if report.settings_sha256 == first.settings_sha256:
                reports.append(report)
            else:
                missing.append(case_id)
        by = tuple(dict.fromkeys(column for shard in shards for column in shard.by))
        write_reports(out, reports, by)
        failed = sum(report.status == "failed" for report in reports)
        merged = Merged(len(first.case_ids), len(reports) - failed, failed, tuple(missing))
        counts = {"done": merged.done, "failed": merged.failed, "missing": len(missing)}
        facts = {**first.content, "by": by, "shard": None, "shards": len(shards), **counts}
        write_facts(folder, facts)
        return merged
