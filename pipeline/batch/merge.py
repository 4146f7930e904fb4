"""Join the shards of a run: their records become one ``report.csv``."""

from dataclasses import dataclass
from pathlib import Path

from voxtile.errors import ManifestError
from voxtile.report.tables import write_reports
from voxtile.run_folder.case_report import collect
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


@dataclass(frozen=True, slots=True)
class Merged:
    """How many cases the shards have done, and which are missing."""

    total: int
    done: int
    failed: int
    # Each case without a record that counts, and why; empty if no shard has done it yet.
    reasons: dict[str, str]

    @property
    def missing(self) -> tuple[str, ...]:
        """The cases that are missing."""
        return tuple(self.reasons)


def merge_shards(out: Path) -> Merged:
    """Write the CSVs and ``run.json`` of a folder that shards have filled.

    It may be merged before all shards are done, and again after. ManifestError if it holds no
    shards, shards of different runs, or a table that is not from voxtile; EnvironmentFault if a
    shard is running.
    """
    folder = RunFolder(out)
    read_shards(folder)  # before the lock, which would make the folder
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
        failed = sum(report.status == "failed" for report in found.reports)
        merged = Merged(
            len(first.case_ids), len(found.reports) - failed, failed, dict(found.missing)
        )
        counts = {"done": merged.done, "failed": merged.failed, "missing": len(merged.missing)}
        facts = {**first.content, "by": by, "shard": None, "shards": len(shards), **counts}
        if first.seals_records:
            facts[NUMBER] = next_number(folder)
        write_facts(folder, facts, seal=first.seals_records)
        return merged
