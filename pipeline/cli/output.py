"""What commands print, and the exit codes they end with."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from voxtile.errors import Notice
    from voxtile.report.page import PageFacts
    from voxtile.run_folder.case_report import CaseReport

UNEXPECTED, USAGE, SOME_FAILED, BAD_INPUT, MODEL_REFUSED, ENVIRONMENT = 1, 2, 3, 4, 5, 6
LOOK = 7
INTERRUPTED = 130


@contextmanager
def explained() -> Iterator[None]:
    """End the command with a sentence and an exit code after any error."""
    from voxtile.machine.memory_errors import require_memory

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
    from voxtile.machine.memory_errors import MEMORY_CODES, is_out_of_memory

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
    if isinstance(error, errors.CaseError) and error.code in MEMORY_CODES:
        code = ENVIRONMENT
    if code == ENVIRONMENT or (code != UNEXPECTED and not is_out_of_memory(error)):
        reason = f"{error.code}: " if isinstance(error, errors.CaseError) else ""
        message = f"{reason}{error}" or "interrupted"
    elif is_out_of_memory(error):
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


@contextmanager
def answering(*, as_json: bool) -> Iterator[Callable[[Any], None]]:
    """Yield a function that prints the answer of a command as one JSON object, if `as_json`.

    All other lines then go to standard error. NaN and infinity become null.
    """
    stdout = sys.stdout

    def answer(value: Any) -> None:
        if as_json:
            from voxtile.machine.files import json_text
            from voxtile.run_folder.case_report import plain

            stdout.write(json_text(plain(value)))
            stdout.flush()

    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield answer


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Print nothing on standard output during the block, if `quiet`."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere) if quiet else nullcontext():  # noqa: PTH123
        yield


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
) -> Path:
    """Write report.html; print its path, and a warning for each case without pictures."""
    from voxtile.report import page

    return print_page(page.write_page(out, reports, **options), quiet=quiet)


def print_page(written: "PageFacts", *, quiet: bool = False) -> Path:
    """Print the path of a page, and a warning for each case without pictures; return the path."""
    for case_id, sentence in written.problems:
        typer.echo(f"warning: no pictures of {case_id}: {sentence}", err=True)
    if not quiet:
        pictured = len(written.pictured)
        cases = "1 case" if pictured == 1 else f"{pictured} cases"
        typer.echo(f"page:   {written.path} ({cases} with pictures: patient data)")
    return written.path


def next_lines(page: Path) -> Iterator[str]:
    """Yield what to do after the demo: open its page, and go on with one's own scans."""
    import shlex
    import shutil

    yield ""
    yield f"open the page, in any browser:\n  xdg-open {shlex.quote(str(page.absolute()))}"
    activate = Path(sys.prefix, "bin", "activate")
    if shutil.which("voxtile") is None and activate.is_file():
        yield (
            "activate the environment, once in each terminal, so that the command voxtile is "
            f"found:\n  . {shlex.quote(str(activate))}"
        )
    yield "train on your own scans, with a label for each:"
    yield "  voxtile manifest build my_scans/ --out all.csv"
    yield "  voxtile manifest split all.csv --fractions train=0.8,val=0.2 --out cases.csv"
    yield "  voxtile train cases.csv --out my_model"
    yield "segment other scans with this model:"
    yield "  voxtile run new_scans/ my_model --out out"


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
    for row in dice_summary(out):
        typer.echo(
            f"  {row['label_name']}: mean Dice {row['mean']:.4f}, median {row['median']:.4f}, "
            f"n {row['n_used']} of {row['n']}, worst {row['worst_case']} {row['worst']:.3f}"
        )
    typer.echo(f"report: {out / 'report.csv'}")


def outcome(
    out: Path,
    reports: "Sequence[CaseReport]",
    page: Path | None,
    *,
    tables: bool = True,
    missing: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a JSON answer says about the cases of a run or evaluation.

    `missing` has the cases without a valid record, if the command looks for them.
    """
    from voxtile.report.tables import run_verdict

    failed = [report for report in reports if report.status == "failed"]
    return {
        "out": str(out),
        "cases": len(reports),
        "done": len(reports) - len(failed),
        "failed": len(failed),
        "failures": [
            {"case_id": one.case_id, "reason": one.reason, "seconds": one.seconds} for one in failed
        ],
        "dice": dice_summary(out) if tables else [],
        **({} if missing is None else {"missing": dict(missing)}),
        "verdict": run_verdict(reports, len(missing or {})).dump(),
        "report": str(out / "report.csv") if tables else None,
        "page": None if page is None else str(page),
    }


def dice_summary(out: Path) -> list[dict[str, Any]]:
    """Return the Dice of each label of a run's summary: label, means, numbers, the worst case."""
    import csv

    from voxtile.machine.spreadsheet import unescaped

    kinds: dict[str, Callable[[str], Any]] = {
        "label": int, "label_name": unescaped, "mean": float, "median": float, "n": int,
        "n_used": int, "worst_case": unescaped, "worst": float,
    }  # fmt: skip
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return [
            {name: kind(row[name]) for name, kind in kinds.items()}
            for row in csv.DictReader(file)
            if row["metric"] == "dice" and row["mean"] and not row["by"]
        ]
