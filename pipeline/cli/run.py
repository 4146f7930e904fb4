"""Commands that read scans: for cohorts (run, plan, status, merge), for one scan, and bench."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from voxtile.batch.settings import BatchSettings
from voxtile.engines.options import Wish
from voxtile.preparation.options import PlanWish
from voxtile.reading.scan import ReadPolicy
from voxtile.run.settings import RunSettings

from .options import (
    MANY_CASES,
    AsJson,
    Html,
    Manifest,
    Model,
    Option,
    Out,
    Root,
    SomeCases,
    Splits,
    Strict,
    argument,
    for_each_worker,
    nifti_path,
)
from .output import (
    LOOK,
    SOME_FAILED,
    counter,
    echo_lines,
    print_case,
    print_summary,
    print_warnings,
    write_page,
)


def run(
    *,
    manifest: Manifest,
    model: Model,
    out: Out,
    settings: RunSettings,
    how: BatchSettings,
    root: Root,
    html: Html,
    strict: Strict,
    fail_fast: Annotated[bool, Option("Stop at the first failed case.", panel=MANY_CASES)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Segment and score every case of a manifest that is not done yet."""
    from voxtile.batch.display import displayed, result_lines
    from voxtile.batch.drive import run_manifest
    from voxtile.manifest.advice import manifest_notices
    from voxtile.report.tables import run_verdict

    print_warnings(manifest_notices(manifest))
    how = replace(how, workers=max(1, how.workers or 0))
    settings = replace(settings, plan=for_each_worker(settings.plan, how.at_once))
    failures = 1 if fail_fast else how.max_failures
    how = replace(how, max_failures=failures)
    # A terminal shows the bar and the failed cases; a file gets a line for each case.
    lines = not quiet and not sys.stdout.isatty()
    with displayed(shown=not quiet, failures=not lines) as display:
        result = run_manifest(
            manifest,
            model,
            out,
            root=root,
            settings=settings,
            batch=how,
            on_case=print_case if lines else None,
            on_event=display,
        )
    if html and how.shard is None:
        write_page(out, result.reports, quiet=quiet, manifest=manifest, root=root)
    if not quiet:
        echo_lines(result_lines(result))
        if how.shard is None:
            print_summary(out)
        else:
            typer.echo(f"when all shards are done: voxtile merge {out}")
    if result.failed or result.not_run:
        raise typer.Exit(SOME_FAILED)
    raise typer.Exit(LOOK if strict and run_verdict(result.reports).look else 0)


def plan(
    *,
    manifest: Manifest,
    model: Model,
    policy: ReadPolicy,
    plan: PlanWish,
    engine: Wish,
    root: Root,
    split: Splits,
    workers: Annotated[int, Option("Worker processes of the run.", least=0)] = 1,
    as_json: AsJson,
) -> None:
    """Show what a run would do: tiles, arithmetic, and the expected time and memory."""
    from voxtile.measuring.forecast import make_forecast

    forecast = make_forecast(
        manifest,
        model,
        root=root,
        settings=RunSettings(
            policy=policy, plan=for_each_worker(plan, workers), engine=engine, splits=split
        ),
        workers=workers,
        on_case=None if as_json else counter("cases"),
    )
    echo_lines([json.dumps(forecast.as_json(), indent=1)] if as_json else forecast.lines())


def status(*, folder: Annotated[Path, argument("Run folder.")], as_json: AsJson) -> None:
    """Show the state of a run folder: cases done, failed, running and missing."""
    from dataclasses import asdict

    from voxtile.batch.status import read_status, status_lines

    found = read_status(folder)
    echo_lines([json.dumps(asdict(found), indent=1)] if as_json else status_lines(found))


def merge(
    *,
    folder: Annotated[Path, argument("Run folder of shards.")],
    manifest: Annotated[
        Path | None, "The run's manifest, so that the page gets pictures of the scans."
    ] = None,
    root: Root,
    html: Html,
) -> None:
    """Join the shards of a run: write report.csv, summary.csv, run.json and the page."""
    from voxtile.batch.merge import merge_shards
    from voxtile.report.tables import run_verdict
    from voxtile.run_folder.case_report import missing_lines

    merged = merge_shards(folder)
    if html:
        write_page(folder, merged.reports, manifest=manifest, root=root)
    typer.echo(
        f"{len(merged.reports) - merged.failed} done, {merged.failed} failed, "
        f"{len(merged.missing)} missing of {len(merged.facts.case_ids)}"
    )
    echo_lines(run_verdict(merged.reports, len(merged.missing)).lines)
    echo_lines(missing_lines(merged.missing, advice="run their shards again"))
    print_summary(folder)
    raise typer.Exit(SOME_FAILED if merged.failed or merged.missing else 0)


def segment(
    *,
    image: Annotated[Path, argument("NIfTI file or DICOM folder.")],
    model: Model,
    out: Annotated[Path, argument("Mask to write, .nii.gz or .nii.")],
    policy: ReadPolicy,
    plan: PlanWish,
    engine: Wish,
    strict: Strict,
) -> None:
    """Segment one scan."""
    from voxtile.report.quality import NO_DICE
    from voxtile.run.one_scan import segment_file

    done = segment_file(image, model, nifti_path(out), policy=policy, plan=plan, engine=engine)
    print_warnings(done.notices)
    dice = {one.label: f", predicted Dice {one}" for one in done.dice}
    for row in done.rows:
        volume = f"{row.voxels_pred} voxels, {row.volume_ml_pred:.3f} ml"
        typer.echo(f"{row.label_name}: {volume}{dice.get(row.label, '')}")
    if not dice and any(row.voxels_pred for row in done.rows):
        typer.echo(NO_DICE)
    typer.echo(f"mask: {out}")
    typer.echo(f"verdict: {done.verdict}")
    echo_lines(f"  {reason}" for reason in done.verdict.reasons)
    raise typer.Exit(LOOK if strict and done.verdict.word == "look" else 0)


def convert(
    *,
    source: Annotated[Path, argument("DICOM folder or file, DICOMDIR, or NIfTI.")],
    out: Annotated[Path, argument("Volume to write, .nii.gz or .nii.")],
    policy: ReadPolicy,
) -> None:
    """Write one scan as NIfTI, and show its shape, spacing and values."""
    from voxtile.run.convert import convert as convert_scan

    done = convert_scan(source, nifti_path(out), policy)
    print_warnings(done.notices)
    echo_lines(done.lines())
    typer.echo(f"volume: {out}")


def bench(
    *,
    plan: PlanWish,
    engine: Wish,
    model: Annotated[
        str, typer.Argument(help="Name of a shipped model, or a model folder.")
    ] = "hippocampus",
    manifest: SomeCases = None,
    root: Root,
    split: Splits,
    cases: Annotated[int, Option("At most this many cases.", least=1)] = 5,
    repeats: Annotated[int, Option("How often each case is segmented.", least=1)] = 3,
    json_file: Annotated[
        Path | None, Option("Also write the numbers to this JSON file.", name="json")
    ] = None,
) -> None:
    """Measure a model on this machine: tiles and voxels per second, stages, memory."""
    from voxtile.machine.files import write_json
    from voxtile.measuring.benchmark import protect_inputs, run_benchmark

    if json_file is not None:
        protect_inputs(json_file, model, manifest, root)

    measured = run_benchmark(
        model,
        manifest,
        root=root,
        settings=RunSettings(plan=plan, engine=engine, splits=split),
        most_cases=cases,
        repeats=repeats,
    )
    echo_lines(measured.lines())
    if json_file is not None:
        write_json(json_file, measured.as_json())
