"""Join the shards of a run: their reports become one ``report.csv``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.errors import ManifestError
from voxtile.machine.files import remove, write_json
from voxtile.run_folder.case_report import CaseReport, read_case_report
from voxtile.run_folder.facts import KEY
from voxtile.run_folder.lock import locked

from . import folder
from .ledger import record_path
from .tables import Tables

# What must be the same in every shard: all that decides a result.
_DECISIVE = (
    "voxtile",
    "manifest",
    "model",
    "plan",
    "engine",
    "settings",
    "labels",
    "case_ids",
    KEY,
)


@dataclass(frozen=True, slots=True)
class Merged:
    """What the shards came to.

    Parameters
    ----------
    total, done, failed : int
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
        If it holds no shards, or shards of different runs.
    EnvironmentFault
        If a shard is running.
    """
    paths = sorted(out.glob("run-*-of-*.json"))
    if not paths:
        raise ManifestError(
            [f"{out} holds no shards (run-i-of-n.json); run some with `voxtile run --shard i/n`"]
        )
    with locked(out):
        facts = [_facts(path) for path in paths]
        _check(paths, facts)
        folder.clear(out, (), None)
        reports: dict[str, CaseReport] = {}
        missing = []
        for case_id in facts[0]["case_ids"]:
            try:
                report = read_case_report(record_path(out, case_id))
            except (OSError, ValueError):
                missing.append(case_id)
                continue
            # An earlier run of the folder may have had another model or manifest.
            if report.settings_sha256 == facts[0][KEY]:
                reports[case_id] = report
            else:
                missing.append(case_id)
        by = tuple(dict.fromkeys(column for fact in facts for column in fact["by"]))
        Tables(out, facts[0]["case_ids"], by).write(reports)
        failed = sum(report.status == "failed" for report in reports.values())
        merged = Merged(len(facts[0]["case_ids"]), len(reports) - failed, failed, tuple(missing))
        counts = {"done": merged.done, "failed": merged.failed, "missing": len(missing)}
        write_json(
            out / "run.json", {**facts[0], "by": by, "shard": None, "shards": len(paths), **counts}
        )
        return merged


def refuse_mixed(out: Path, count: int) -> None:
    """Refuse shards of another count than those a folder has.

    Raises
    ------
    ManifestError
        With what to do.
    """
    for path in sorted(out.glob("run-*-of-*.json")):
        other = path.stem.rpartition("-")[2]
        if other != str(count):
            raise ManifestError(
                [
                    f"{out} holds shards of {other}, not of {count}: the cases would be divided "
                    f"in two ways; pass --shard i/{other}, or run once without --shard"
                ]
            )


def forget_shards(out: Path) -> None:
    """Remove what says that a folder holds shards: a run of all cases has taken them over."""
    for path in sorted(out.glob("run-*-of-*.json")):
        remove(path)


def _facts(path: Path) -> dict[str, Any]:
    """Return what a shard says of its run."""
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        return {key: facts[key] for key in (*_DECISIVE, *facts)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError([f"{path} cannot be read ({error}); run its shard again"]) from error


def _check(paths: list[Path], facts: list[dict[str, Any]]) -> None:
    """Refuse shards that do not belong together."""
    problems = [
        f"{path} has another {key} than {paths[0].name}; run its shard again with the same command"
        for path, fact in zip(paths, facts, strict=True)
        for key in _DECISIVE
        if _without_batch(fact[key]) != _without_batch(facts[0][key])
    ]
    if problems:
        raise ManifestError(problems)


def _without_batch(fact: Any) -> Any:
    """Return a fact; of a plan without the batch, which changes no result."""
    if isinstance(fact, dict):
        return {key: value for key, value in fact.items() if key != "batch"}
    return fact
