"""What commands print, and the exit codes they end with."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from voxtile.machine.memory import require_memory

if TYPE_CHECKING:
    from voxtile.errors import Notice
    from voxtile.run_folder.case_report import CaseReport

UNEXPECTED, USAGE, SOME_FAILED, BAD_INPUT, MODEL_REFUSED, ENVIRONMENT = 1, 2, 3, 4, 5, 6
LOOK = 7
INTERRUPTED = 130


@contextmanager
def explained() -> Iterator[None]:
    """End the command with a sentence and an exit code after any error."""
    try:
        require_memory()
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) or type(error).__module__.startswith(
            ("typer", "click")
        ):
            raise  # typer ends the command: for its own errors, and for a closed pipe
        raise typer.Exit(explain(error)) from None


def explain(error: BaseException) -> int:
    """Print what went wrong and what to do; return the exit code.

    For an error that is not ours only the type and the place in voxtile are shown: the
    text may be from another library, and may quote a patient's data or file.
    """
    from voxtile import errors

    codes: dict[type[BaseException], int] = {
        errors.CaseError: BAD_INPUT,
        errors.ManifestError: BAD_INPUT,
        errors.SourceError: BAD_INPUT,
        errors.ModelError: MODEL_REFUSED,
        errors.EnvironmentFault: ENVIRONMENT,
        errors.UsageError: USAGE,
        KeyboardInterrupt: INTERRUPTED,
    }
    code = next((codes[kind] for kind in codes if isinstance(error, kind)), UNEXPECTED)
    where = f"({type(error).__name__} at {errors.place_of(error)})"
    if code != UNEXPECTED:
        reason = f"{error.code}: " if isinstance(error, errors.CaseError) else ""
        if isinstance(error, errors.CaseError) and error.code in ("out_of_memory", "too_large"):
            code = ENVIRONMENT
        message = f"{reason}{error}" or "interrupted"
    elif errors.is_out_of_memory(error):
        code = ENVIRONMENT
        message = (
            f"memory ran out {where}; end other programs, raise the limit on memory "
            "(ulimit -v, or that of the container or job), or use a larger machine"
        )
    elif isinstance(error, OSError) and error.strerror:
        code = ENVIRONMENT
        message = (
            f"the system refused to read or write: {error.strerror} {where}; check that disk, "
            "folders and permissions are as the command needs them"
        )
    else:
        message = (
            f"unexpected error {where}; this is a bug in voxtile: please report it with this line"
        )
    typer.echo(message, err=True)
    return code


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        typer.echo(line)


def print_warnings(notices: "Iterable[Notice]") -> None:
    """Print the warnings about a scan."""
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
    """Print the counts and the summary; exit with 0, or with 3 if a case failed or is missing.

    `missing` has the cases without a valid record, and the reasons.
    """
    from voxtile.report.tables import run_verdict
    from voxtile.run_folder.case_report import count_line, missing_lines

    missing = missing or {}
    failed = sum(report.status == "failed" for report in reports)
    typer.echo(count_line(len(reports) - failed, failed, len(missing)))
    echo_lines(run_verdict(reports, len(missing)).lines)
    echo_lines(missing_lines(missing))
    print_summary(out)
    raise typer.Exit(SOME_FAILED if failed or missing else 0)


def print_summary(out: Path) -> None:
    """Print one line for each label of a run's summary, and the path of its report."""
    import csv

    from voxtile.machine.spreadsheet import unescaped

    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "dice" and row["mean"] and not row["by"]:
                typer.echo(
                    f"  {unescaped(row['label_name'])}: mean Dice {float(row['mean']):.4f}, "
                    f"median {float(row['median']):.4f}, n {row['n_used']} of {row['n']}, "
                    f"worst {unescaped(row['worst_case'])} {float(row['worst']):.3f}"
                )
    typer.echo(f"report: {out / 'report.csv'}")
