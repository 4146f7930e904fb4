"""Words -> calls. No logic: each command reads its words, calls one function, prints, exits.

Heavy modules are imported inside the commands, so that `voxtile --help`
answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from .exit import ENVIRONMENT, SOME_FAILED, explained
from .manifest import app as manifest_app
from .models import app as models_app
from .one_scan import convert, segment
from .results import compare, evaluate, export, report
from .run import merge, run, status
from .say import print_case, summary_lines, write_and_say
from .speed import bench, plan
from .train import train

app = typer.Typer(
    name="voxtile",
    help="Segment batches of medical volumes: a manifest of scans in, masks and a report out.",
    epilog="Exit codes: 0 all well, 2 usage, 3 some cases failed, 4 bad manifest or input, "
    "5 model refused, 6 environment, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(manifest_app, name="manifest")
app.add_typer(models_app, name="models")


def _show_version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
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
    """Take the options that belong to no command."""


def doctor(
    out: Annotated[Path, typer.Option(help="Where results would go.")] = Path(),
) -> None:
    """Check this machine: versions, GPU, codecs, disk, memory; and say what mends it."""
    with explained():
        from voxtile.measuring.doctor import examine

        findings = list(examine(out))
        for finding in findings:
            typer.echo(str(finding))
        raise typer.Exit(0 if all(finding.good for finding in findings) else ENVIRONMENT)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Training budget.")] = 1.0,
) -> None:
    """Make synthetic scans, train a small model on some, segment and score the others."""
    with explained():
        from voxtile.phantoms.demo import run_demo

        done = run_demo(out, minutes=minutes, say=typer.echo, on_case=print_case)
        typer.echo("")
        typer.echo("One file was damaged on purpose: it failed alone, with its reason.")
        for line in summary_lines(done.result.out):
            typer.echo(line)
        typer.echo(f"report: {done.result.out / 'report.csv'}")
        typer.echo(f"masks:  {done.result.out / 'masks'}")
        write_and_say(done.result.out, done.result.reports, manifest=done.cohort / "test.csv")
        scan, mask = done.cohort / "oblique.nii.gz", done.result.out / "masks/oblique.nii.gz"
        typer.echo(f"look:   itksnap -g {scan} -s {mask}")
        typer.echo(f"   or:  fsleyes {scan} {mask} -ot label")
        # The damaged scan must fail, and nothing else may.
        failed = [report.case_id for report in done.result.failed]
        raise typer.Exit(0 if failed == ["damaged"] else SOME_FAILED)


# In the order of the help.
for _command in (
    run,
    plan,
    status,
    merge,
    segment,
    convert,
    evaluate,
    export,
    report,
    compare,
    train,
    bench,
    doctor,
    demo,
):
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    app()
