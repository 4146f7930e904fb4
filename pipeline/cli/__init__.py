"""The command line. Each command reads its options, calls one function, prints and exits.

help.py      the help of commands, with the examples of their docstrings
options.py   options made from value objects, and the text of options -> values
output.py    what is printed, as text or JSON, and the exit codes
scans.py     a folder or file of scans instead of a manifest: listed, checked, shown
run.py, bids.py, results.py, train.py, manifest.py, models.py   the commands

Large packages are imported inside the commands, so that `voxtile --help`
answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from .bids import BidsCommand, bids
from .help import HelpfulCommand, HelpfulGroup, add_command
from .manifest import app as manifest_app
from .models import app as models_app
from .options import AsJson
from .output import (
    ENVIRONMENT,
    SOME_FAILED,
    answering,
    echo_lines,
    explain,
    next_lines,
    print_case,
    print_summary,
    write_page,
)
from .results import compare, evaluate, export, report
from .run import bench, convert, merge, plan, run, segment, status
from .train import train

app = typer.Typer(
    name="voxtile",
    help="Segment batches of medical volumes: from a manifest of scans to masks and a report.",
    epilog="Exit codes: 0 success, 1 unexpected error, 2 usage, 3 some cases failed, "
    "4 bad manifest or input, 5 model refused, 6 environment, 7 masks to look at (--strict), "
    "130 interrupted.",
    no_args_is_help=True,
    cls=HelpfulGroup,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from voxtile.version import __version__

        typer.echo(f"voxtile {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Declare the options that belong to no command."""


def doctor(
    *,
    out: Annotated[Path, "Folder where results would be written."] = Path(),
    as_json: AsJson,
) -> None:
    """Check this machine: versions, GPU, codecs, disk, memory; and say how to fix problems.

    Examples
    --------
    voxtile doctor
    voxtile doctor --out /scratch/results
    """
    from voxtile.measuring.doctor import examine

    findings = list(examine(out))
    good = all(finding.good for finding in findings)
    with answering(as_json=as_json) as answer:
        echo_lines(map(str, findings))
        answer({"ok": good, "findings": findings})
    raise typer.Exit(0 if good else ENVIRONMENT)


def demo(
    *,
    out: Annotated[Path, "Folder for the demo."] = Path("demo"),
    minutes: Annotated[float, "Time budget of the training run."] = 1.0,
) -> None:
    """Make synthetic scans, train a small model on some, segment and score the others.

    Examples
    --------
    voxtile demo
    voxtile demo --out /tmp/demo --minutes 0.5
    """
    from voxtile.phantoms.demo import run_demo

    done = run_demo(out, minutes=minutes, say=typer.echo, on_case=print_case)
    run_folder = done.result.out
    typer.echo("")
    typer.echo("One file was damaged on purpose: only its case failed, with the reason.")
    print_summary(run_folder)
    typer.echo(f"masks:  {run_folder / 'masks'}")
    page = write_page(run_folder, done.result.reports, manifest=done.cohort / "test.csv")
    scan, mask = done.cohort / "oblique.nii.gz", run_folder / "masks/oblique.nii.gz"
    typer.echo(f"look:   itksnap -g {scan} -s {mask}")
    typer.echo(f"   or:  fsleyes {scan} {mask} -ot label")
    echo_lines(next_lines(page))
    # The damaged scan must fail, and nothing else may.
    failed = [report.case_id for report in done.result.failed]
    raise typer.Exit(0 if failed == ["damaged"] else SOME_FAILED)


# In the order of the help.
_TASKS = {
    "Segment scans": (run, segment, bids, plan, status, merge),
    "Score and use masks": (evaluate, report, compare, export),
    "Make a model": (train,),
    "Look at this machine": (doctor, bench, demo),
}
for _task, _commands in _TASKS.items():
    for _command in _commands:
        _cls = BidsCommand if _command is bids else HelpfulCommand
        add_command(app, _command, _command.__name__, _task, cls=_cls)
    if _task == "Make a model":
        app.add_typer(models_app, name="models", rich_help_panel=_task)
    if _task == "Score and use masks":
        add_command(app, convert, "convert", "Prepare scans")
        app.add_typer(manifest_app, name="manifest", rich_help_panel="Prepare scans")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (Exception, KeyboardInterrupt) as error:  # before a command began, or after it ended
        raise SystemExit(explain(error)) from None
