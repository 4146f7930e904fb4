"""Write one of the synthetic cohorts of docs/cohorts.md, with an exact reference."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voxtile.cli.output import explained


class Task(StrEnum):
    """What to segment."""

    organs = "organs"
    lesions = "lesions"
    pictures = "pictures"


def main(
    task: Annotated[Task, typer.Argument(help="Organs in CT, lesions in MR, or colour pictures.")],
    folder: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another cohort.")] = 0,
) -> None:
    """Write scans, labels and a manifest of a synthetic cohort."""
    with explained():
        from cohorts import drawn_pictures, phantom_cohorts

        if task is Task.pictures:
            splits, manifest = (
                drawn_pictures.SPLITS,
                drawn_pictures.write_pictures(folder, seed=seed),
            )
        else:
            splits = phantom_cohorts.SPLITS
            manifest = phantom_cohorts.write_cohort(task.value, folder, seed=seed)
        counts = ", ".join(f"{count} {split}" for split, count in splits)
        typer.echo(f"{manifest}: {counts}")


if __name__ == "__main__":
    typer.run(main)
