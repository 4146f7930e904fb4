"""Join the shards of a run: their records become one ``report.csv``."""

from pathlib import Path

from voxtile.errors import ManifestError
from voxtile.report.methods import methods_text
from voxtile.report.tables import run_verdict, write_reports
from voxtile.run_folder.case_report import Records, collect
from voxtile.run_folder.facts import (
    NUMBER,
    newest,
    next_number,
    read_shards,
    readable_facts,
    write_facts,
)
from voxtile.run_folder.layout import RunFolder
from voxtile.run_folder.lock import locked
from voxtile.run_folder.protection import refuse_tables

from .folder import clear


def merge_shards(out: Path) -> Records:
    """Write the CSVs and ``run.json`` of a folder that shards have filled.

    Shards may be merged before all are done, and again later. ManifestError if the folder holds
    no shards, shards of different runs, or a table that is not from voxtile; EnvironmentFault if
    a shard is running.
    """
    folder = RunFolder(out)
    read_shards(folder)  # before the lock, which would create the folder
    with locked(out):
        shards = read_shards(folder)
        refuse_tables(folder)
        first = shards[0]
        clear(folder, (), None)
        latest = newest(readable_facts(folder))
        if (
            latest is not None
            and latest.number > max(shard.number for shard in shards)
            and latest.settings_sha256 != first.settings_sha256
        ):
            raise ManifestError(
                f"{latest.path} is of a later run than the shards; run the manifest again"
            )
        found = collect(folder, first)
        by = tuple(dict.fromkeys(column for shard in shards for column in shard.by))
        write_reports(out, found.reports, by)
        done, failed = len(found.reports) - found.failed, found.failed
        missing = len(found.missing)
        verdict = run_verdict(found.reports, missing).dump()
        counts = {"done": done, "failed": failed, "missing": missing, "verdict": verdict}
        counts["methods"] = methods_text(first.content, found.reports)
        facts = {**first.content, "by": by, "shard": None, "shards": len(shards), **counts}
        if first.seals_records:
            facts[NUMBER] = next_number(folder)
        write_facts(folder, facts, seal=first.seals_records)
        return found
