"""Write one of the synthetic cohorts of docs/cohorts.md: 48 scans with an exact reference."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voxtile.cli.output import explained


class Task(StrEnum):
    """What to segment."""

    organs = "organs"
    lesions = "lesions"


def main(
    task: Annotated[Task, typer.Argument(help="Three organs in CT, or small lesions in MR.")],
    folder: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another cohort.")] = 0,
) -> None:
    """Write scans, labels and a manifest of a synthetic cohort."""
    with explained():
        from cohorts.phantom_cohorts import SPLITS, write_cohort

        manifest = write_cohort(task.value, folder, seed=seed)
        splits = ", ".join(f"{count} {split}" for split, count in SPLITS)
        typer.echo(f"{manifest}: {splits}")


if __name__ == "__main__":
    typer.run(main)
