"""Read, write and compare ``run.json``: what was run, by a run, a shard or an evaluation.

Records of cases are retained when another run writes to the same folder. A later
run with another model or manifest takes over the records that are still valid and
processes the other cases again, one by one. Until it ends, ``cases/`` holds records
of both runs. Records of cases that the later run does not have remain there. So a
reader of the folder ignores the records that the newest run has neither written
nor taken over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from voxtile.errors import ManifestError
from voxtile.machine.clock import now
from voxtile.machine.files import remove, write_json
from voxtile.machine.json_objects import ANY_KEY, SEAL, check_seal, read_object, sealed
from voxtile.version import __version__

from .layout import RunFolder
from .shard import Shard

if TYPE_CHECKING:  # `status` does not import NumPy or pydantic
    from voxtile.models.spec import Label
    from voxtile.reading.scan import ReadPolicy

_Parsed = TypeVar("_Parsed")
KEY = "settings_sha256"
# Hashes of the manifests that runs kept in the folder (`kept_manifest.py`).
KEPT = "kept_manifests"
# Numbers the runs of a folder, because clocks of machines differ and may be set back.
NUMBER = "number"
_MOST_RUNS = 10**9
_SHAPE = {
    "voxtile": str,
    "started": str,
    "finished": str,
    "manifest": {"file": str, "sha256": str},
    "model": {"name": str, "sha256": str, "channels": [str], "citations": [str]},
    "engine": dict,
    "settings": {
        "policy": {
            "volume": (int, str, NoneType),
            "pixel_mm": [float],
            ANY_KEY: (str, NoneType),
        },
        "label_map": {ANY_KEY: int},
        "thresholds": {ANY_KEY: float},
    },
    "by": [str],
    "cases": int,
    NUMBER: int,
    "labels": [{"value": int, "name": str, "color": str}],
    "case_ids": [str],
    KEY: str,
    KEPT: [str],
    "methods": str,
    "verdict": {
        "line": str,
        "usable": int,
        "look": {ANY_KEY: int},
        "failed": int,
        "common": {ANY_KEY: int},
    },
}
# The keys that must be equal in all shards of a run, because they decide results.
_DECISIVE = (
    "voxtile", "manifest", "model", "plan", "engine", "settings", "labels", "case_ids", KEY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The content of ``run.json``, or of the same file of a shard.

    A value is empty if it was not recorded: earlier versions recorded less,
    and an evaluation has no model.
    """

    path: Path
    content: Mapping[str, Any]  # everything that was recorded
    number: int  # greater than the numbers of earlier runs in the folder; 0 for version 0.1.0
    started: str  # UTC, ISO 8601
    settings_sha256: str  # hash that the records of this run have too
    # Cases that were chosen from the manifest, including those of other shards.
    case_ids: tuple[str, ...]
    by: tuple[str, ...]  # columns that the run summarised by
    model: str  # name of the bundle
    channels: tuple[str, ...]  # channels of the model

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; ValueError if no run can have written it."""
        content = read_object(path, _SHAPE)
        # Version 0.1.0 wrote neither digest nor number. Damage to one of them leaves the other.
        if not check_seal(content) and NUMBER in content:
            raise ValueError("its digest is missing")
        if not 0 <= content.get(NUMBER, 0) <= _MOST_RUNS:
            raise ValueError(f"{NUMBER} must be 0 to {_MOST_RUNS}")
        model = content.get("model", {})
        return cls(
            path,
            content,
            number=content.get(NUMBER, 0),
            started=content.get("started", ""),
            settings_sha256=content.get(KEY, ""),
            case_ids=tuple(content.get("case_ids", ())),
            by=tuple(content.get("by", ())),
            model=model.get("name", ""),
            channels=tuple(model.get("channels", ())),
        )

    @property
    def is_segmentation(self) -> bool:
        """Whether a model was run; an evaluation does not run a model."""
        return "model" in self.content

    @property
    def seals_records(self) -> bool:
        """Whether the records of this run hold digests; records of version 0.1.0 do not."""
        return SEAL in self.content

    def label_map(self) -> dict[int, int]:
        """Return the reference values that the run renamed; ManifestError if not valid."""
        renamed = self.content.get("settings", {}).get("label_map", {})
        return self._valid(lambda: {int(old): new for old, new in renamed.items()}, "label_map")

    def labels(self) -> "tuple[Label, ...]":
        """Return the labels that the run scored; ManifestError if not valid."""
        from voxtile.models.spec import Label

        labels = self.content.get("labels", ())
        return self._valid(lambda: tuple(map(Label.model_validate, labels)), "labels")

    def policy(self) -> "ReadPolicy":
        """Return how the run read its scans; ManifestError if not valid.

        Choices that only another version knows are left out.
        """
        from voxtile.reading.scan import ReadPolicy

        choices = self.content.get("settings", {}).get("policy", {})
        known = {name: choices[name] for name in choices if name in ReadPolicy.__dataclass_fields__}
        return self._valid(lambda: ReadPolicy(**known), "policy")

    def _valid(self, parse: Callable[[], _Parsed], key: str) -> _Parsed:
        """Return a parsed value, or say which key is not valid."""
        try:
            return parse()
        except ValueError as error:
            raise _unusable(self.path, f"{key} is not valid", "run the manifest again") from error


def read_facts(path: Path, advice: str) -> RunFacts:
    """Read ``run.json`` or ``run-i-of-n.json``.

    `advice` is the end of the error message: what to do if the file cannot be used. ManifestError
    if the file cannot be read, or no run can have written it.
    """
    try:
        return RunFacts.read(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unusable(path, reason, advice) from error


def readable_facts(folder: RunFolder) -> Iterator[RunFacts]:
    """Yield the readable facts of a folder; a file may disappear while another run writes."""
    for path in folder.all_facts():
        try:
            yield RunFacts.read(path)
        except (OSError, ValueError):
            continue


def strict_facts(folder: RunFolder) -> list[RunFacts]:
    """Return the facts of a folder.

    ManifestError if a file is damaged, because it may be the file of the newest run.
    """
    found = []
    for path in folder.all_facts():
        try:
            found.append(read_facts(path, "run the same manifest again"))
        except ManifestError as error:
            # A run of all cases may have replaced the files of shards.
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    return found


def newest(facts: Iterable[RunFacts]) -> RunFacts | None:
    """Return the facts of the run that began last; None if no run recorded its settings."""
    recorded = list(facts)
    hashed = [one for one in recorded if one.settings_sha256] or recorded
    # If several runs began in the same second, the last one is returned.
    return max(reversed(hashed), key=lambda one: (one.number, one.started), default=None)


def next_number(folder: RunFolder) -> int:
    """Return the number of a run that begins now in a folder."""
    return 1 + max((one.number for one in readable_facts(folder)), default=0)


def new_facts(manifest: Path, manifest_sha256: str, cases: int) -> dict[str, Any]:
    """Return the first keys of the facts, which every run and evaluation has."""
    return {
        "voxtile": __version__,
        "started": now(),
        "manifest": {"file": manifest.name, "sha256": manifest_sha256},
        "cases": cases,
    }


def write_facts(
    folder: RunFolder, facts: Mapping[str, Any], shard: Shard | None = None, *, seal: bool = True
) -> None:
    """Write ``run.json``, or the same file of a shard; facts from version 0.1.0 are not sealed."""
    write_json(folder.facts(shard), sealed(facts) if seal else facts)


def read_shards(folder: RunFolder) -> list[RunFacts]:
    """Read the facts of all shards of a folder.

    ManifestError if there is no shard, a shard cannot be read, or the shards are of different runs.
    """
    paths = folder.shard_facts()
    if not paths:
        raise ManifestError(
            f"{folder.path} holds no shards (run-i-of-n.json); run some with "
            "`voxtile run --shard i/n`"
        )
    advice = "run its shard again"
    shards = [read_facts(path, advice) for path in paths]
    for shard in shards:
        missing = [key for key in _DECISIVE if key not in shard.content]
        if missing:
            raise _unusable(shard.path, f"it lacks {', '.join(missing)}", advice)
    first = shards[0]
    problems = [
        f"{shard.path} differs from {first.path.name} in {key}; {_how_to_agree(key, shard, first)}"
        for shard in shards
        for key in _differing(shard, first)
    ]
    if problems:
        raise ManifestError(problems)
    return shards


def _differing(shard: RunFacts, first: RunFacts) -> list[str]:
    """Return the keys in which shards differ; the key of their hash only if no other differs."""
    keys = [key for key in _DECISIVE if shard.content[key] != first.content[key]]
    if "engine" in keys and not _engine(shard) - _engine(first):
        keys.remove("engine")  # another reason for the same engine, or another GPU
    return [key for key in keys if key != KEY] or keys


def _engine(facts: RunFacts) -> set[tuple[str, str]]:
    """Return the facts about an engine that change results, as pairs."""
    return {
        (key, str(value).partition(":")[0] if key == "device" else str(value))
        for key, value in facts.content["engine"].items()
        if key != "reason"
    }


def _how_to_agree(key: str, shard: RunFacts, first: RunFacts) -> str:
    """Return what to do about a shard that differs from the first."""
    if key != "engine":
        return "run its shard again with the same command and --fresh"
    now, wanted = _engine(shard) - _engine(first), _engine(first) - _engine(shard)
    changed = ", ".join(
        f"{name} {dict(wanted).get(name)} and {dict(now).get(name)}"
        for name in sorted(dict(wanted | now))
    )
    engine = first.content["engine"]
    options = " ".join(
        f"--{name} {str(engine[name]).partition(':')[0]}"
        for name in ("engine", "precision", "device")
        if name in engine
    )
    return f"they have {changed}; run its shard again with {options} --fresh"


def refuse_mixed(folder: RunFolder, count: int) -> None:
    """Raise ManifestError if a folder holds shards of a division into another number of shards."""
    for path in folder.shard_facts():
        other = path.stem.rpartition("-")[2]
        if other != str(count):
            raise ManifestError(
                f"{folder.path} holds shards of {other}, not of {count}; pass --shard "
                f"i/{other}, or run once without --shard"
            )


def forget_shards(folder: RunFolder) -> None:
    """Remove the facts of shards: a run of all cases has taken over their records."""
    for path in folder.shard_facts():
        remove(path)


def refuse_run(folder: RunFolder) -> None:
    """Raise ManifestError for the folder of a segmentation run, whose records would be lost."""
    for path in folder.all_facts():
        facts = read_facts(path, f"{folder.path} may hold a run, so name another folder with --out")
        if facts.is_segmentation:
            raise ManifestError(
                f"{folder.path} holds a segmentation run ({path.name}), whose records would "
                "be lost; name another folder with --out"
            )


def _unusable(path: Path, reason: str, advice: str) -> ManifestError:
    """Return the error for a file of facts that cannot be used."""
    return ManifestError(f"{path} cannot be read ({reason}); {advice}")
