"""`voxtile bids`: a BIDS App."""

from pathlib import Path
from typing import Annotated

import typer

from voxtile.batch.settings import BatchSettings
from voxtile.engines.options import Wish
from voxtile.manifest.bids_choice import BidsChoice, Level
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy
from voxtile.run.settings import RunSettings

from .options import Option, argument, for_each_worker
from .output import SOME_FAILED, echo_lines, print_case


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
) -> None:
    """Segment a BIDS data set as a BIDS App: masks, then the tables of all participants.

    Examples
    --------
    voxtile bids bids/ out participant --participant-label 01 --model hippocampus
    voxtile bids bids/ out group --model hippocampus
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
        settings=RunSettings(policy=policy, plan=for_each_worker(plan, workers), engine=engine),
        batch=BatchSettings(workers=workers),
        on_case=print_case,
        say=lambda line: typer.echo(line, err=True),
    )
    typer.echo(f"masks: {out}")
    raise typer.Exit(SOME_FAILED if lost else 0)
