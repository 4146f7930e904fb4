"""The options of commands, most of them made from the value objects that they fill.

    ReadPolicy.missing_slices  ->  --missing-slices <refuse|interpolate>  [default: refuse]

Name, type, default and allowed values come from the field, and the help is the first paragraph of
the field's entry in the docstring. `_OPTIONS` holds what the command line spells differently.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    cast,
    get_args,
    get_origin,
)

import typer

from voxtile.batch.settings import BatchSettings, Cluster
from voxtile.engines.options import Wish
from voxtile.errors import UsageError
from voxtile.manifest.build_options import BidsChoice, BuildOptions
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy, volume_choice
from voxtile.run.settings import RunSettings
from voxtile.scoring.measures import Measures
from voxtile.training.options import FoldOptions, TrainOptions
from voxtile.training.recipe.recipe import Recipe

from .output import explained

if TYPE_CHECKING:
    from voxtile.case import Split
    from voxtile.manifest.label_list import LabelList
    from voxtile.models.spec import Axis
    from voxtile.run_folder.shard import Shard

# Headings in the help.
MANY_CASES = "Many cases"
_NETWORK = "The network"
_CHOICES = "Choices (default: by rule, docs/training.md)"
_PLAIN = "Options"  # what typer writes above options without a heading

_EMPTY: Any = inspect.Parameter.empty
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True)
class Shown:
    """What a run shows to people and programs.

    Parameters
    ----------
    html : bool
        Write report.html, the page for people.
    as_json : bool
        Print one JSON object, for programs.
    quiet : bool
        Print nothing but errors.
    """

    html: bool = True
    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """How an option differs from its parameter or field. It is written in the annotation."""

    help: str = ""  # by default the description of the field
    name: str = ""  # without the leading dashes
    # From the text of the option to the value of the parameter; raises UsageError.
    read: Callable[[Any], Any] | None = None
    form: str = ""  # what the text of the option looks like, for the help
    given: type = str  # type of the argument of `read`
    default: Any = _EMPTY
    least: float | None = None
    most: float | None = None
    panel: str = ""

    def shown(self, one: inspect.Parameter) -> inspect.Parameter:
        """Return the parameter that typer makes the option from."""
        default = self.default_of(one)
        if self.read and default is not _EMPTY and not isinstance(default, str):
            default = None
        kind: Any = self.given if self.read else _choices(get_args(one.annotation)[0])
        name = f"--{self.name or one.name.replace('_', '-')}"
        option = typer.Option(
            name if default is not True else f"{name}/--no{name[1:]}",
            help=f"{self.help} Written as {self.form}." if self.form else self.help,
            min=self.least,
            max=self.most,
            show_default=default is not False,
            metavar="<str>" if self.given == list[str] else None,
            rich_help_panel=self.panel or None,
        )
        annotation: Any = Annotated[kind if default is not None else kind | None, option]
        return one.replace(default=default, annotation=annotation)

    def default_of(self, one: inspect.Parameter) -> Any:
        """Return the value of the parameter if the option is not given."""
        return self.default if one.default is _EMPTY else one.default


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose value objects are options, and whose errors are exit codes.

    A parameter annotated with a class in `_OPTIONS` becomes one option for each field. A parameter
    whose annotation holds an `Option`, or only a help text, becomes that option.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    reads: dict[str, tuple[Callable[[Any], Any], Any]] = {}
    for part in (part for one in signature.parameters.values() for part in _parts(one)):
        (about,) = getattr(part.annotation, "__metadata__", ("",))
        option = Option(about) if isinstance(about, str) else about
        if isinstance(option, Option):
            if option.read is not None:
                reads[part.name] = option.read, option.default_of(part)
            part = option.shown(part)
        parameters.append(part)

    @wraps(command)
    def called(**given: Any) -> None:
        with explained():
            for name, (read, default) in reads.items():
                given[name] = default if given[name] is None else read(given[name])
            whole = signature.parameters.values()
            command(**{one.name: _filled(one, one.name, given) for one in whole})

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _parts(one: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """Yield the parameters of the options that fill a parameter; its name begins their names."""
    if one.annotation not in _OPTIONS:
        yield one.replace(kind=_KEYWORD)
        return
    for part in _OPTIONS[one.annotation]:
        yield from _parts(part.replace(name=f"{one.name}_{part.name}"))


def _filled(one: inspect.Parameter, name: str, given: dict[str, Any]) -> Any:
    """Return the value of a parameter; None for an optional one if none of its options is given."""
    if one.annotation not in _OPTIONS:
        return given[name]
    parts = {
        part.name: _filled(part, f"{name}_{part.name}", given) for part in _OPTIONS[one.annotation]
    }
    return None if one.default is None and not any(parts.values()) else one.annotation(**parts)


def descriptions(cls: type) -> dict[str, str]:
    """Return the first paragraph of each entry under Parameters in a class's docstring."""
    section = (inspect.getdoc(cls) or "").partition("Parameters\n----------\n")[2]
    entries = re.findall(r"^(\w.*) : .*\n((?: +\S.*(?:\n|$))+)", section, re.MULTILINE)
    return {name: " ".join(text.replace("``", "").split()) for name, text in entries}


def _choices(kind: Any) -> Any:
    """Return a type that typer accepts: several Literal types become one, and None is removed."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    parts = tuple(part for part in parts if part is not NoneType)
    if all(get_origin(part) is Literal for part in parts):
        return Literal[tuple(value for part in parts for value in get_args(part))]
    return parts[0]


def _options_of(
    cls: Any, panel: str = "", *, others: bool = True, **spelled: Any
) -> tuple[inspect.Parameter, ...]:
    """Return a parameter for each field of a value object that is an option."""
    # `spelled` has an Option, a whole annotation, or the value object for a field. A field with
    # None is left out; without `others`, a field that `spelled` does not name is left out too.
    about, made = descriptions(cls), []
    for field in fields(cls):
        option = spelled.get(field.name, Option() if others else None)
        kind: Any = field.type
        if get_origin(option) is Annotated:
            kind, option = get_args(option)
        if option is None:
            continue
        if not isinstance(option, Option):
            whole = option if isinstance(option, type) else Annotated[kind, option]
            made.append(
                inspect.Parameter(field.name, _KEYWORD, default=field.default, annotation=whole)
            )
            continue
        default = field.default if option.default is _EMPTY else option.default
        if option.read and default and isinstance(default, tuple):
            default = ",".join(f"{value:g}" for value in default)
        option = replace(
            option,
            help=option.help or about[field.name],
            name=option.name or field.name.replace("_", "-"),
            panel=option.panel or panel,
        )
        kind = Annotated[Any if option.read else kind, option]
        made.append(inspect.Parameter(field.name, _KEYWORD, default=default, annotation=kind))
    return tuple(made)


def for_each_worker(plan: PlanWish, workers: int) -> PlanWish:
    """Return a plan with the memory of one worker; `plan` has that of all workers together."""
    if plan.memory_mb is None:
        return plan
    return replace(plan, memory_mb=plan.memory_mb / max(1, workers))


# Text -> values. A text that cannot be read is refused with an example of what is needed.


def words(text: str) -> tuple[str, ...]:
    """Return ``a,b`` as words; an empty text has no words."""
    return tuple(text.split(",")) if text else ()


def _reader(option: str, form: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `convert` with an error that shows the needed form if it cannot read a text."""

    def read(text: str) -> Any:
        try:
            return convert(text)
        except ValueError:
            raise UsageError(f"--{option} {text!r} must {form}") from None

    return read


class Budget(NamedTuple):
    """A budget of a training run; with ``+`` it is for a finished model."""

    amount: float
    more: bool

    @classmethod
    def of(cls, text: str) -> "Budget":
        """Return ``60`` or ``+60`` as a budget."""
        return cls(float(text), text.strip().startswith("+"))


def _numbers(text: str, mark: str, *kinds: type) -> tuple[Any, ...]:
    """Return ``1,1,3`` as numbers."""
    return tuple(kind(part) for kind, part in zip(kinds, text.split(mark), strict=True))


def _pairs(text: str, mark: str, kinds: tuple[type, type]) -> list[tuple[Any, Any]]:
    """Return ``2:1,3:1`` as pairs."""
    pairs = [part.split(mark) for part in words(text)]
    return [(kinds[0](one.strip()), kinds[1](other)) for one, other in pairs]


_shares = _reader(
    "fractions", "look like train=0.7,val=0.3", lambda text: _pairs(text, "=", (str, float))
)
_labels = _reader("label-map", "look like 2:1,3:1", lambda text: _pairs(text, ":", (int, int)))
_tile = _reader("tile", "look like 256x256", lambda text: _numbers(text.lower(), "x", int, int))
_spacing = _reader(
    "spacing",
    "be three numbers, such as 1,1,3, or native",
    lambda text: text if text == "native" else _numbers(text, ",", *[float] * 3),
)
_volume = _reader("volume", "be a number from 0, or a value such as b=1000", volume_choice)
_devices = _reader("devices", "be numbers, such as 0,1", lambda text: tuple(map(int, words(text))))
_tolerances = _reader(
    "nsd",
    "be numbers of mm, such as 1,2",
    lambda text: tuple(float(part) for part in text.split(",") if part.strip()),
)


def fractions(text: str) -> dict[str, float]:
    """Return ``train=0.7,val=0.3`` as a mapping."""
    pairs = _shares(text)
    if len(dict(pairs)) < len(pairs):
        raise UsageError(f"--fractions {text!r} names a part twice")
    return dict(pairs)


def label_map(text: str) -> dict[int, int]:
    """Return ``2:1,3:1`` as a mapping."""
    pairs = _labels(text)
    if not all(0 <= value <= 65535 for pair in pairs for value in pair):
        raise UsageError(f"--label-map {text!r}: values must be 0 to 65535")
    return dict(pairs)


def thresholds(texts: list[str]) -> dict[str, float]:
    """Return ``liver=0.4`` and others as a mapping."""
    found: dict[str, float] = {}
    for text in texts:
        label, mark, number = text.rpartition("=")
        with suppress(ValueError):
            if mark and label not in found:
                found[label] = float(number)
                continue
        twice = "names a label twice" if label in found else "must look like liver=0.4"
        raise UsageError(f"--threshold {text!r} {twice}")
    return found


def splits(text: str) -> "tuple[Split, ...]":
    """Return ``val,test`` as splits."""
    from voxtile.case import Split

    for part in words(text):
        if part not in get_args(Split):
            raise UsageError(f"--split {part!r} is not one of {', '.join(get_args(Split))}")
    return cast("tuple[Split, ...]", words(text))


def nifti_path(path: Path) -> Path:
    """Return the path of a NIfTI file to write."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise UsageError(f"{path.name!r} must end in .nii or .nii.gz")
    return path


def label_list(path: Path | None, *outputs: Path) -> "LabelList | None":
    """Return the labels of a JSON or CSV file, which no output may replace; None without a file."""
    from voxtile.manifest.label_list import read_labels
    from voxtile.run_folder.protection import Input, protect

    if path is None:
        return None
    protect([Input("the labels", path)], *outputs)
    return read_labels(path)


def ignored_value(given: int | None, found: "LabelList") -> int | None:
    """Return the value of --ignore, or else that of the file of --labels; they may not differ."""
    if given is not None and found.ignore not in (None, given):
        raise UsageError(
            f"--ignore is {given}, but the file of --labels ignores {found.ignore}; leave one out"
        )
    return given or found.ignore


def _mirrored(text: str) -> "tuple[Axis, ...]":
    """Return the axes of ``--tta``: none, flips for all, or some of R, A, S."""
    chosen = {"none": (), "flips": ("R", "A", "S")}.get(text, text.split(","))
    if not set(chosen) <= {"R", "A", "S"}:
        raise UsageError(f"--tta {text!r} must be none, flips, or some of R,A,S")
    return tuple(axis for axis in get_args(Literal["R", "A", "S"]) if axis in chosen)


def _shard(text: str) -> "Shard":
    """Return the shard ``i/n``, or the one of this task of a Slurm array."""
    import os

    from voxtile.run_folder.shard import Shard

    return Shard.parse(text, os.environ)


# Options and arguments that several commands share.


def argument(about: str) -> Any:
    """Return an argument with its help, and without its default."""
    return typer.Argument(help=about, show_default=False)


Scans = Annotated[Path, argument("Manifest (CSV of cases), or a folder or file of scans.")]
Manifest = Annotated[Path, argument("CSV of cases.")]
SomeCases = Annotated[Path | None, argument("CSV of cases (default: a phantom).")]
Model = Annotated[
    str,
    argument(
        "Name of a model (voxtile models list), or a model folder. Several are separated by "
        "commas; their predictions are averaged."
    ),
]
OneModel = Annotated[str, argument("Name of a model, or a model folder.")]
Root = Annotated[
    Path | None,
    Option(
        "Folder that the manifest's relative paths start from (default: its own).", default=None
    ),
]
Out = Annotated[Path, "Folder for the results."]
By = Annotated[
    tuple[str, ...],
    Option("Summarise by these columns too, such as scanner,sex.", read=words, default=()),
]
Html = Annotated[bool, Option("Write report.html, the page for people.", default=True)]
Strict = Annotated[bool, Option("End with exit code 7 if a mask must be looked at.", default=False)]
AsJson = Annotated[bool, Option("Print JSON, for programs.", name="json", default=False)]
Splits = Annotated[
    "tuple[Split, ...]",
    Option("Only cases of these splits, such as val or val,test.", read=splits, default=()),
]
LabelMap = Annotated[
    dict[int, int],
    Option("Rename values of the references, such as 2:1,3:1.", read=label_map, default={}),
]
Thresholds = Annotated[
    dict[str, float],
    Option(
        "Smallest probability of a label, by its name or value, instead of the model's; may be "
        "given several times.",
        name="threshold",
        read=thresholds,
        form="liver=0.4",
        given=list[str],
        default={},
        panel=_NETWORK,
    ),
]
Labels = Annotated[
    Path | None,
    Option(
        'Values and names of the labels: JSON {"1": "liver"} or CSV value,name,color. Values such '
        "as 2;3 are merged.",
        default=None,
    ),
]


class RecipeChoices(dict[str, Any]):
    """The choices of a recipe that were given as options; None for each that was not given."""


_OPTIONS: dict[Any, tuple[inspect.Parameter, ...]] = {
    ReadPolicy: _options_of(ReadPolicy, volume=Option(read=_volume), pixel_mm=None),
    PlanWish: _options_of(
        PlanWish,
        _NETWORK,
        tile=Option(read=_tile, form="256x256"),
        overlap=Option(least=0, most=0.95),
        flips=Option(
            name="tta", read=_mirrored, form="none, flips (all axes), or axes such as A,S"
        ),
        batch=Option(least=1),
        memory_mb=Option(
            "Memory to plan with, for all workers together, in MB (default: 70 % of free memory).",
            name="max-memory",
            least=1,
        ),
    ),
    Wish: _options_of(Wish, _NETWORK),
    Measures: _options_of(
        Measures,
        nsd_mm=Option(name="nsd", read=_tolerances, form="1,2, or empty for no NSD"),
        ignore=Option(least=1, most=65535),
    ),
    Cluster: _options_of(
        Cluster,
        MANY_CASES,
        queue_system=Option(name="cluster"),
        settings=Option(name="cluster-settings"),
    ),
    BatchSettings: _options_of(
        BatchSettings,
        MANY_CASES,
        workers=Option(default=1, least=0),
        timeout_s=Option(name="timeout", least=0),
        devices=Option(read=_devices, form="0,1"),
        memory_mb=Option(name="memory", least=0),
        retries=Option(least=0),
        max_failures=Option(least=1),
        shard=Option(read=_shard, form="i/n, or auto in a Slurm array"),
        cluster=Cluster,
    ),
    RecipeChoices: _options_of(
        Recipe,
        _CHOICES,
        others=False,
        minutes=Option(panel=_PLAIN, read=_reader("minutes", "be like 60 or +60", Budget.of)),
        epochs=Option(panel=_PLAIN, read=_reader("epochs", "be like 20 or +20", Budget.of)),
        steps=Option(panel=_PLAIN, read=_reader("steps", "be like 2000 or +2000", Budget.of)),
        patience=Option(least=1, panel=_PLAIN),
        seed=Option(default=None, panel=_PLAIN),
        views=Option(name="view", read=words, form="axial, or axial,coronal"),
        network=Option(),
        members=Option(least=1),
        context_slices=Option(),
        spacing_mm=Option(name="spacing", read=_spacing, form="R,A,S, such as 1,1,3, or native"),
        tile=Option(read=_tile, form="ROWSxCOLUMNS, such as 256x256"),
        filters=Option(least=1),
        depth=Option(least=1),
        precision=Option(),
        batch=Option(least=1),
        flips=Option(read=words, form="R or R,A", default=None),
        labels=Labels,
        ignore=Option(least=1, most=65535),
    ),
    RunSettings: _options_of(
        RunSettings,
        policy=ReadPolicy,
        plan=PlanWish,
        engine=Wish,
        measures=Measures,
        label_map=LabelMap,
        ignore_bad_labels=Option(name="ignore-bad-labels/--no-ignore-bad-labels"),
        splits=Option(name="split", read=splits),
        exports=Option(name="export", read=words),
        by=By,
        montages=Option(name="qc"),
        cases=Option(read=words),
        thresholds=Thresholds,
    ),
    Shown: _options_of(
        Shown,
        as_json=Option(name="json"),
        quiet=Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")],
    ),
    TrainOptions: _options_of(
        TrainOptions,
        root=Root,
        recipe=None,
        progress=None,
        longer=None,
        policy=ReadPolicy,
        licence=Annotated[
            Path | None,
            typer.Option(
                "--licence",
                exists=True,
                dir_okay=False,
                readable=True,
                help="Licence of the weights, a text file.",
            ),
        ],
        tensorboard=Annotated[Path | None, Option()],
        devices=Option(read=_devices, form="0,1"),
    ),
    FoldOptions: _options_of(
        FoldOptions,
        "Cross-validation (docs/cross-validation.md)",
        count=Option(name="folds", least=2),
        only=Option(name="fold", least=0),
    ),
    BidsChoice: _options_of(
        BidsChoice,
        participants=Option(name="participant-label", read=words),
        sessions=Option(name="session-label", read=words),
        runs=Option(name="run-label", read=words),
        suffixes=Option(name="suffix", read=words),
        label_pattern=Option(name="label-pattern"),
    ),
    BuildOptions: _options_of(
        BuildOptions, suffixes=Option(name="suffix", read=words), fold=Option(least=0)
    ),
}
