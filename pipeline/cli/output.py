"""What commands print, and the exit codes they end with."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from voxtile.errors import Notice
    from voxtile.run_folder.case_report import CaseReport

UNEXPECTED, USAGE, SOME_FAILED, BAD_INPUT, MODEL_REFUSED, ENVIRONMENT = 1, 2, 3, 4, 5, 6
INTERRUPTED = 130


@contextmanager
def explained() -> Iterator[None]:
    """End the command with a sentence and an exit code where voxtile refuses something."""
    from voxtile import errors

    codes: dict[type[errors.VoxtileError], int] = {
        errors.CaseError: BAD_INPUT,
        errors.ManifestError: BAD_INPUT,
        errors.SourceError: BAD_INPUT,
        errors.ModelError: MODEL_REFUSED,
        errors.EnvironmentFault: ENVIRONMENT,
        errors.UsageError: USAGE,
    }
    try:
        yield
    except errors.VoxtileError as error:
        reason = f"{error.code}: " if isinstance(error, errors.CaseError) else ""
        code = next((codes[kind] for kind in codes if isinstance(error, kind)), UNEXPECTED)
        refuse(f"{reason}{error}", code)
    except ValueError as error:
        refuse("\n".join(_unexpected(error)), UNEXPECTED)
    except KeyboardInterrupt as error:
        refuse(str(error) or "interrupted", INTERRUPTED)


def refuse(message: str, code: int) -> NoReturn:
    """Print why the command cannot go on, and end it."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _unexpected(error: Exception) -> Iterator[str]:
    """Yield the type of an error and where it was raised, never its text.

    The text may be that of another library, and may quote a patient's data.
    """
    yield (
        f"unexpected {type(error).__name__}; this is a bug in voxtile: please report it with "
        "these lines"
    )
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {Path(frame.filename).name} line {frame.lineno}, in {frame.name}"


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        typer.echo(line)


def print_warnings(notices: "Iterable[Notice]") -> None:
    """Print what is worth knowing about a scan, apart from the results."""
    for notice in notices:
        typer.echo(f"warning: {notice}", err=True)


def counter(things: str) -> Callable[[int, int], None]:
    """Return a function that shows progress on a terminal, such as ``3/20 cases``."""

    def show(done: int, count: int) -> None:
        if sys.stderr.isatty():
            end = "\r" if done < count else "\r\x1b[K"
            sys.stderr.write(f"{done}/{count} {things}{end}")
            sys.stderr.flush()

    return show


def print_case(report: "CaseReport", number: int, count: int) -> None:
    """Print one line for a finished case."""
    from voxtile.batch.display import case_line

    typer.echo(case_line(report, number, count))
    sys.stdout.flush()


def write_page(
    out: Path, reports: "Sequence[CaseReport]", *, quiet: bool = False, **options: Any
) -> None:
    """Write report.html; print its path, and a warning for each case without pictures."""
    from voxtile.report import page

    written = page.write_page(out, reports, **options)
    for case_id, sentence in written.problems:
        typer.echo(f"warning: no pictures of {case_id}: {sentence}", err=True)
    if not quiet:
        pictured = len(written.pictured)
        cases = "1 case" if pictured == 1 else f"{pictured} cases"
        typer.echo(f"page:   {written.path} ({cases} with pictures: patient data)")


def finish(
    out: Path, reports: "Sequence[CaseReport]", missing: Mapping[str, str] | None = None
) -> NoReturn:
    """Print the counts and the summary; end with 0, or with 3 if a case failed or is missing.

    `missing` has the cases without a record that counts, and why.
    """
    from voxtile.run_folder.case_report import count_line, missing_lines

    missing = missing or {}
    failed = sum(report.status == "failed" for report in reports)
    typer.echo(count_line(len(reports) - failed, failed, len(missing)))
    echo_lines(missing_lines(missing))
    print_summary(out)
    raise typer.Exit(SOME_FAILED if failed or missing else 0)


def print_summary(out: Path) -> None:
    """Print one line for each label of a run's summary, and the path of its report."""
    import csv

    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "dice" and row["mean"] and not row["by"]:
                typer.echo(
                    f"  {row['label_name']}: mean Dice {float(row['mean']):.4f}, "
                    f"median {float(row['median']):.4f}, n {row['n_used']} of {row['n']}, "
                    f"worst {row['worst_case']} {float(row['worst']):.3f}"
                )
    typer.echo(f"report: {out / 'report.csv'}")
