"""What commands print while they run and when they are done."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from .exit import SOME_FAILED

if TYPE_CHECKING:
    from voxtile.run_folder.case_report import CaseReport


def print_case(report: "CaseReport", number: int, count: int) -> None:
    """Print one line for a finished case."""
    from voxtile.batch.display import case_line

    typer.echo(case_line(report, number, count))
    sys.stdout.flush()


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        typer.echo(line)


def finish(out: Path, reports: "tuple[CaseReport, ...]") -> NoReturn:
    """Print the summary and leave with the right code."""
    failed = [report for report in reports if report.status == "failed"]
    typer.echo(f"{len(reports) - len(failed)} done, {len(failed)} failed")
    for line in summary_lines(out):
        typer.echo(line)
    typer.echo(f"report: {out / 'report.csv'}")
    raise typer.Exit(SOME_FAILED if failed else 0)


def write_and_say(
    out: Path, reports: "Sequence[CaseReport]", *, quiet: bool = False, **choices: Any
) -> None:
    """Write the page, and say what it holds."""
    from voxtile.report.page import write_page

    page = write_page(out, reports, **choices)
    for case_id, sentence in page.problems:
        typer.echo(f"warning: no pictures of {case_id}: {sentence}", err=True)
    if not quiet:
        typer.echo(f"page:   {page.path} ({len(page.pictured)} cases with pictures: patient data)")


def summary_lines(out: Path) -> Iterator[str]:
    """Yield one line for each label of a written summary."""
    import csv

    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "dice" and row["mean"] and not row["by"]:
                yield (
                    f"  {row['label_name']}: mean Dice {float(row['mean']):.4f}, "
                    f"median {float(row['median']):.4f}, n {row['n_used']} of {row['n']}, "
                    f"worst {row['worst_case']} {float(row['worst']):.3f}"
                )
