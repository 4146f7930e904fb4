"""Read, write and compare ``run.json``: what was run, by a run, a shard or an evaluation.

Records of cases stay when another run writes the same folder. A later run with
another model or manifest takes over the records that still hold and does the
other cases again, one by one. Until it ends, records of both runs are in
``cases/``, and records of cases that the later run does not have stay there.
A reader of the folder therefore leaves out the records that the newest run has
neither written nor taken over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from voxtile.errors import ManifestError
from voxtile.machine.clock import now
from voxtile.machine.files import remove, write_json
from voxtile.machine.json_objects import ANY_KEY, read_object
from voxtile.version import __version__

from .layout import RunFolder
from .shard import Shard

if TYPE_CHECKING:  # `status` answers without NumPy and pydantic
    from voxtile.models.spec import Label
    from voxtile.reading.scan import ReadPolicy

_Parsed = TypeVar("_Parsed")
KEY = "settings_sha256"
_SHAPE = {
    "voxtile": str,
    "started": str,
    "finished": str,
    "manifest": {"file": str, "sha256": str},
    "model": {"name": str, "sha256": str, "channels": [str]},
    "engine": dict,
    "settings": {
        "policy": {"volume": (int, NoneType), ANY_KEY: (str, NoneType)},
        "label_map": {ANY_KEY: int},
    },
    "by": [str],
    "labels": [{"value": int, "name": str, "color": str}],
    "case_ids": [str],
    KEY: str,
}
# What must be equal in all shards of a run: all that decides a result.
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
class RunFacts:
    """The content of ``run.json``, or of the same file of a shard.

    Parameters
    ----------
    path : Path
    content : mapping
        As it was written. Earlier versions wrote fewer keys, and an evaluation
        has no `model`.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def started(self) -> str:
        """Time at which the run began, UTC, ISO 8601; empty if not recorded."""
        return str(self.content.get("started", ""))

    @property
    def settings_sha256(self) -> str:
        """Hash that the records of this run have as well; empty if not recorded."""
        return str(self.content.get(KEY, ""))

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Cases that were chosen from the manifest, those of other shards too."""
        return tuple(self.content.get("case_ids", ()))

    @property
    def by(self) -> tuple[str, ...]:
        """Columns that the run summarised by."""
        return tuple(self.content.get("by", ()))

    @property
    def is_segmentation(self) -> bool:
        """Whether a model was run; an evaluation runs none."""
        return "model" in self.content

    @property
    def model_name(self) -> str:
        """Name of the bundle; empty for an evaluation."""
        return str(self.content.get("model", {}).get("name", ""))

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the model; empty for an evaluation, and if not recorded."""
        return tuple(self.content.get("model", {}).get("channels", ()))

    def label_map(self) -> dict[int, int]:
        """Return the reference values that the run renamed.

        Raises
        ------
        ManifestError
            If one is not a whole number.
        """
        label_map = self.content.get("settings", {}).get("label_map", {})
        return self._valid(lambda: {int(old): new for old, new in label_map.items()}, "label_map")

    def labels(self) -> "tuple[Label, ...]":
        """Return the labels that the run scored; empty if not recorded.

        Raises
        ------
        ManifestError
            If one is not a valid label.
        """
        from voxtile.models.spec import Label

        labels = self.content.get("labels", ())
        return self._valid(lambda: tuple(map(Label.model_validate, labels)), "labels")

    def policy(self) -> "ReadPolicy":
        """Return how the run read its scans, without choices that only another version knows.

        Raises
        ------
        ManifestError
            If a choice has a value that this version does not know.
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

    Parameters
    ----------
    path : Path
    advice : str
        What to do if it cannot be used; ends the message of the error.

    Raises
    ------
    ManifestError
        If it cannot be read, or is not what a run writes.
    """
    try:
        return _read(path)
    except OSError as error:
        raise _unusable(path, str(error.strerror), advice) from error
    except ValueError as error:
        raise _unusable(path, str(error), advice) from error


def readable_facts(folder: RunFolder) -> Iterator[RunFacts]:
    """Yield the facts of a folder that can be read; a file may disappear while a run goes on."""
    for path in folder.all_facts():
        try:
            yield _read(path)
        except (OSError, ValueError):
            continue


def newest_settings(facts: Iterable[RunFacts]) -> str | None:
    """Return the settings hash of the run that began last; None if no run recorded one."""
    recorded = [one for one in facts if one.started and one.settings_sha256]
    # The last of several that began in the same second.
    newest = max(reversed(recorded), key=lambda one: one.started, default=None)
    return None if newest is None else newest.settings_sha256


def current_settings(folder: RunFolder) -> str | None:
    """Return the hash of the settings of the newest run in a folder.

    Returns
    -------
    str or None
        Hexadecimal; of everything that decides a case's result beside its
        inputs, of the manifest, and of the cases that were chosen from it.
        None if no run recorded one, so that all records count.
    """
    return newest_settings(readable_facts(folder))


def new_facts(manifest: Path, manifest_sha256: str, cases: int) -> dict[str, Any]:
    """Return what the facts of every run and evaluation begin with."""
    return {
        "voxtile": __version__,
        "started": now(),
        "manifest": {"file": manifest.name, "sha256": manifest_sha256},
        "cases": cases,
    }


def write_facts(folder: RunFolder, facts: Mapping[str, Any], shard: Shard | None = None) -> None:
    """Write ``run.json``, or the same file of a shard."""
    write_json(folder.facts(shard), facts)


def read_shards(folder: RunFolder) -> list[RunFacts]:
    """Read the facts of all shards of a folder.

    Raises
    ------
    ManifestError
        If there is no shard, one cannot be read, or they are of different
        runs.
    """
    paths = folder.shard_facts()
    if not paths:
        raise ManifestError(
            [
                f"{folder.path} holds no shards (run-i-of-n.json); run some with "
                "`voxtile run --shard i/n`"
            ]
        )
    advice = "run its shard again"
    shards = [read_facts(path, advice) for path in paths]
    for shard in shards:
        missing = [key for key in _DECISIVE if key not in shard.content]
        if missing:
            raise _unusable(shard.path, f"it lacks {', '.join(missing)}", advice)
    first = shards[0]
    problems = [
        f"{shard.path} has another {key} than {first.path.name}; run its shard again with the "
        "same command"
        for shard in shards
        for key in _DECISIVE
        if shard.content[key] != first.content[key]
    ]
    if problems:
        raise ManifestError(problems)
    return shards


def refuse_mixed(folder: RunFolder, count: int) -> None:
    """Refuse to run a shard of `count` in a folder that holds shards of another count.

    Raises
    ------
    ManifestError
        With what to do.
    """
    for path in folder.shard_facts():
        other = path.stem.rpartition("-")[2]
        if other != str(count):
            raise ManifestError(
                [
                    f"{folder.path} holds shards of {other}, not of {count}, which divide the "
                    f"cases differently; pass --shard i/{other}, or run once without --shard"
                ]
            )


def forget_shards(folder: RunFolder) -> None:
    """Remove the facts of shards: a run of all cases has taken over their records."""
    for path in folder.shard_facts():
        remove(path)


def refuse_run(folder: RunFolder) -> None:
    """Refuse the folder of a segmentation run, whose records anything else would destroy.

    Raises
    ------
    ManifestError
        With what to do.
    """
    for path in folder.all_facts():
        facts = read_facts(path, f"{folder.path} may hold a run, so name another folder with --out")
        if facts.is_segmentation:
            raise ManifestError(
                [
                    f"{folder.path} holds a segmentation run ({path.name}), whose records would "
                    "be lost; name another folder with --out"
                ]
            )


def _read(path: Path) -> RunFacts:
    """Read a file of facts."""
    return RunFacts(path, read_object(path, _SHAPE))


def _unusable(path: Path, reason: str, advice: str) -> ManifestError:
    """Return the error for a file of facts that cannot be used."""
    return ManifestError([f"{path} cannot be read ({reason}); {advice}"])
