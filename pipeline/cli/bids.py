"""`voxtile bids`: a BIDS data set, called as a BIDS App."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from voxtile.batch.settings import BatchSettings
from voxtile.engines.options import Wish
from voxtile.manifest.build_options import BidsChoice, Level
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy
from voxtile.run.settings import RunSettings

from .help import HelpfulCommand
from .options import Option, Thresholds, argument, for_each_worker
from .output import SOME_FAILED, echo_lines, print_case

_LISTS = ("--participant-label", "--session-label", "--run-label", "--suffix")


class BidsCommand(HelpfulCommand):
    """A command whose lists may have blanks, as BIDS Apps write them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a call."""
        return super().parse_args(ctx, with_commas(args))


def with_commas(args: list[str]) -> list[str]:
    """Return words with each list in one word: ``--participant-label 01 02`` -> ``01,02``.

    Only after the level, as BIDS Apps are called; before it, a second word may be an argument.
    """
    words: list[str] = []
    for word in args:
        in_list = words[-2:-1] and words[-2] in _LISTS and not word.startswith("-")
        if in_list and {*get_args(Level)} & {*words[:-2]}:
            words[-1] += f",{word}"
        else:
            words.append(word)
    return words


def bids(
    *,
    bids_dir: Annotated[Path, argument("BIDS data set.")],
    out: Annotated[Path, argument("Folder of the derivative.")],
    level: Annotated[Level, argument("participant: masks; group: the tables of all.")],
    model: Annotated[str, Option("Name of a model, or a model folder.", name="model")],
    choice: BidsChoice,
    policy: ReadPolicy,
    plan: PlanWish,
    engine: Wish,
    workers: Annotated[int, Option("Worker processes.", least=1)] = 1,
    thresholds: Thresholds,
) -> None:
    """Segment a BIDS data set as a BIDS App: masks, then the tables of all participants.

    Examples
    --------
    voxtile bids bids/ out participant --participant-label 01 02 --model brain
    voxtile bids bids/ out group --model brain
    """
    from voxtile.batch.bids_app import run_participants, write_group
    from voxtile.errors import counted
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.case_report import missing_lines

    bundle = load_bundle(model)
    if level == "group":
        path, count, missing = write_group(out, bundle.name)
        echo_lines(missing_lines(missing))
        typer.echo(f"scores of {counted(count, 'scan')}: {path}")
        raise typer.Exit(SOME_FAILED if missing else 0)
    lost = run_participants(
        bids_dir,
        bundle,
        out,
        choice=choice,
        settings=RunSettings(
            policy=policy,
            plan=for_each_worker(plan, workers),
            engine=engine,
            thresholds=thresholds,
        ),
        batch=BatchSettings(workers=workers),
        on_case=print_case,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(f"masks: {out}")
    raise typer.Exit(SOME_FAILED if lost else 0)
