"""Options made from value objects: each choice is written once."""

import inspect
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

import pytest
import typer
from commands import invoke
from typer.main import get_command
from typer.testing import CliRunner

from voxtile.batch.settings import BatchSettings, Cluster
from voxtile.cli import app, options
from voxtile.cli.options import Option, descriptions, for_each_worker, with_options
from voxtile.cli.run import run
from voxtile.engines.engine import Precision
from voxtile.engines.options import Wish
from voxtile.errors import UsageError
from voxtile.manifest.build_options import BuildOptions
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy
from voxtile.run.settings import RunSettings
from voxtile.scoring.measures import Measures
from voxtile.training.options import FoldOptions, TrainOptions
from voxtile.training.recipe.recipe import Recipe

VALUE_OBJECTS = [
    ReadPolicy,
    PlanWish,
    Wish,
    Measures,
    BatchSettings,
    RunSettings,
    TrainOptions,
    FoldOptions,
    BuildOptions,
]


@pytest.mark.parametrize("cls", [*VALUE_OBJECTS, Cluster, Recipe])
def test_each_field_of_a_value_object_is_described(cls: Any) -> None:
    about = descriptions(cls)
    assert about.keys() == {field.name for field in fields(cls)}
    assert all(len(text) > 5 for text in about.values())


@pytest.mark.parametrize("cls", VALUE_OBJECTS)
def test_a_command_without_options_gets_the_defaults_of_the_value_object(cls: Any) -> None:
    seen = []

    @with_options
    def command(*, value: cls) -> None:
        seen.append(value)

    shown = inspect.signature(command).parameters.values()
    command(**{one.name: one.default for one in shown})
    # Workers alone have another default: none at all is for callers in Python.
    expected = BatchSettings(workers=1) if cls is BatchSettings else cls()
    assert seen == [expected]


def test_commands_offer_the_words_that_a_field_allows() -> None:
    shown = inspect.signature(with_options(run)).parameters
    tilt = {field.name: field.type for field in fields(ReadPolicy)}["tilt"]
    assert get_args(shown["settings_policy_tilt"].annotation)[0] == tilt
    precision = get_args(shown["settings_engine_precision"].annotation)[0]
    assert get_args(precision) == ("auto", *get_args(Precision))


def test_the_help_of_an_option_is_the_first_paragraph_of_its_field() -> None:
    shown = {one.opts[0]: one for one in get_command(app).commands["train"].params}
    assert shown["--minutes"].help == descriptions(Recipe)["minutes"]
    assert shown["--seed"].default is None  # so that the recipe file's seed stays


def test_fields_flags_and_parameters_become_options() -> None:
    @dataclass(frozen=True)
    class Lamp:
        """A lamp.

        Parameters
        ----------
        colour : {"red", "blue"}
            Colour of the lamp, from
            ``red`` to blue.

            A second paragraph is for callers in Python.
        dim : bool
            Use half the power.
        """

        colour: Literal["red"] | Literal["blue"] = "red"
        dim: bool = False

    assert descriptions(Lamp)["colour"] == "Colour of the lamp, from red to blue."
    seen: list[object] = []

    def light(
        *,
        lamp: Lamp,
        rooms: Annotated[tuple[str, ...], Option("Rooms.", read=options.words)] = (),
        loud: Annotated[bool, "Ring a bell too."] = True,
    ) -> None:
        seen.append((lamp, rooms, loud))

    lamps = typer.Typer()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(options._OPTIONS, Lamp, options._options_of(Lamp))
        lamps.command()(with_options(light))
        ask = CliRunner().invoke
        assert ask(lamps, []).exit_code == 0
        words = ["--colour", "blue", "--dim", "--rooms", "hall,attic", "--no-loud"]
        assert ask(lamps, words).exit_code == 0
        assert ask(lamps, ["--colour", "green"]).exit_code == 2
    assert seen == [(Lamp(), (), True), (Lamp("blue", True), ("hall", "attic"), False)]


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (options.words, "", ()),
        (options.words, "a,b", ("a", "b")),
        (options.label_map, "2:1,3:1", {2: 1, 3: 1}),
        (options.label_map, "", {}),
        (options.fractions, "train=0.7, val=0.3", {"train": 0.7, "val": 0.3}),
        (options.splits, "val,test", ("val", "test")),
        (options._tile, "256X128", (256, 128)),
        (options._spacing, "1,1,3", (1.0, 1.0, 3.0)),
        (options._spacing, "native", "native"),
        (options._tolerances, "", ()),
        (options._tolerances, "1,2.5", (1.0, 2.5)),
        (options._mirrored, "none", ()),
        (options._mirrored, "flips", ("R", "A", "S")),
        (options._mirrored, "S,A", ("A", "S")),
        (options.thresholds, ["a=b=0.4", "2=.3"], {"a=b": 0.4, "2": 0.3}),
    ],
)
def test_the_text_of_an_option_is_read(read: Any, text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (options.label_map, "2", "must look like 2:1,3:1"),
        (options.label_map, "2:70000", "values must be 0 to 65535"),
        (options.fractions, "train", "must look like train=0.7,val=0.3"),
        (options.fractions, "train=0.5,train=0.5", "names a part twice"),
        (options.splits, "dev", "is not one of train, val, test"),
        (options._tile, "256", "must look like 256x256"),
        (options._spacing, "1,1", "must be three numbers, such as 1,1,3"),
        (options._tolerances, "1;2", "must be numbers of mm"),
        (options._mirrored, "X", "must be none, flips, or some of R,A,S"),
        (options._mirrored, "", "must be none, flips, or some of R,A,S"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_an_example(
    read: Any, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(text)


def test_the_memory_of_a_plan_is_shared_by_the_workers() -> None:
    assert for_each_worker(PlanWish(memory_mb=900), 3) == PlanWish(memory_mb=300)
    assert for_each_worker(PlanWish(memory_mb=900), 0) == PlanWish(memory_mb=900)
    assert for_each_worker(PlanWish(), 3) == PlanWish()


def test_a_word_that_a_field_does_not_allow_is_a_usage_error_everywhere() -> None:
    with pytest.raises(UsageError, match="nan 'maybe' must be one of refuse, fill"):
        ReadPolicy(nan="maybe")  # type: ignore[arg-type]
    assert invoke("convert", "a.nii", "b.nii", "--nan", "maybe")[0] == 2
