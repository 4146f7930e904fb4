"""`voxtile run`, `status` and `merge`: whole cohorts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .exit import SOME_FAILED, explained
from .options import (
    Batch,
    By,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    EngineOption,
    Html,
    Lesions,
    Manifest,
    MaxMemory,
    MissingOption,
    MissingSlices,
    Model,
    Nan,
    NanOption,
    Nsd,
    Out,
    Overlap,
    PrecisionOption,
    Root,
    Series,
    SplitOption,
    Tile,
    Tilt,
    TiltOption,
    Tta,
    Volume,
    read_policy,
)
from .options import label_map as label_map_of
from .say import echo_lines, print_case, summary_lines, write_and_say
from .words import cluster_of, engine_of, measures_of, plan_of, shard_of, splits_of, words_of

# Heading of the options that say how a batch runs, and change no result.
_MANY = "Many cases"

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


def run(
    manifest: Manifest,
    model: Model,
    out: Out,
    root: Root = None,
    split: SplitOption = None,
    label_map: Annotated[
        str | None, typer.Option(help="Rename reference values, such as 2:1,3:1.")
    ] = None,
    ignore_bad_labels: Annotated[
        bool, typer.Option(help="A bad reference costs only the scores, not the case.")
    ] = False,
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
    tile: Tile = None,
    overlap: Overlap = None,
    batch: Batch = None,
    tta: Tta = None,
    max_memory: MaxMemory = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    export: Annotated[
        str | None, typer.Option(help="Also write masks as these formats, such as seg.nrrd,bids.")
    ] = None,
    nsd: Nsd = "1,2",
    lesions: Lesions = False,
    by: By = None,
    qc: Annotated[bool, typer.Option(help="Draw a picture of each case into qc/.")] = True,
    html: Html = True,
    workers: Annotated[
        int, typer.Option(min=0, rich_help_panel=_MANY, help="Worker processes.")
    ] = 1,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0, rich_help_panel=_MANY, help="Most seconds for a case (default: no limit)."
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            rich_help_panel=_MANY,
            help="Most MB for a worker (default: the machine's, shared).",
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            min=0, rich_help_panel=_MANY, help="New tries, alone, for a case whose worker was lost."
        ),
    ] = 1,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", rich_help_panel=_MANY, help="Stop at the first failed case."),
    ] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_MANY, help="Stop when so many cases have failed."),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", rich_help_panel=_MANY, help="Try cases again that failed before."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", rich_help_panel=_MANY, help="Do everything again.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_MANY, help="Only part i/n of the cases; auto in a Slurm array."
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(rich_help_panel=_MANY, help="Run on a Dask cluster: tls://HOST:PORT."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(rich_help_panel=_MANY, help="Start Dask workers as jobs: slurm, pbs or sge."),
    ] = None,
    cluster_settings: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_MANY, help="TOML with a section cluster: queue, memory, walltime, ..."
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            rich_help_panel=_MANY,
            help="Allow a scheduler on another host without TLS.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Segment and score every case of a manifest that is not done yet."""
    with explained():
        from voxtile.batch.display import displayed, result_lines
        from voxtile.batch.drive import run_manifest
        from voxtile.batch.settings import BatchSettings
        from voxtile.run.job import RunSettings

        settings = RunSettings(
            policy=read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
            label_map=label_map_of(label_map),
            ignore_bad_labels=ignore_bad_labels,
            plan=plan_of(tile, overlap, batch, tta, max_memory, workers),
            engine=engine_of(engine, precision, device),
            splits=splits_of(split),
            exports=words_of(export) or (),
            measures=measures_of(nsd, lesions),
            by=words_of(by) or (),
            montages=qc,
        )
        how = BatchSettings(
            workers=max(1, workers),
            timeout_s=timeout,
            memory_mb=memory,
            retries=retries,
            max_failures=1 if fail_fast else max_failures,
            retry_failed=retry_failed,
            fresh=fresh,
            shard=shard_of(shard),
            cluster=cluster_of(scheduler, cluster, cluster_settings, insecure),
        )
        with displayed(shown=not quiet) as display:
            result = run_manifest(
                manifest,
                model,
                out,
                root=root,
                settings=settings,
                batch=how,
                # A terminal has the bar; a file gets a line for each case.
                on_case=None if quiet or sys.stdout.isatty() else print_case,
                on_event=display,
            )
        if html and how.shard is None:
            write_and_say(out, result.reports, quiet=quiet, manifest=manifest, root=root)
        if not quiet:
            echo_lines(result_lines(result))
            if how.shard is None:
                echo_lines(summary_lines(out))
                typer.echo(f"report: {out / 'report.csv'}")
            else:
                typer.echo(f"when all shards are done: voxtile merge {out}")
        raise typer.Exit(SOME_FAILED if result.failed or result.not_run else 0)


def status(
    folder: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say what a run folder holds: done, failed, running, missing."""
    with explained():
        import json
        from dataclasses import asdict

        from voxtile.batch.status import read_status, status_lines

        found = read_status(folder)
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=1))
        else:
            echo_lines(status_lines(found))


def merge(
    folder: Annotated[Path, typer.Argument(help="Run folder of shards.", show_default=False)],
) -> None:
    """Join the shards of a run: write report.csv, summary.csv and run.json."""
    with explained():
        from voxtile.batch.merge import merge_shards

        merged = merge_shards(folder)
        typer.echo(
            f"{merged.done} done, {merged.failed} failed, {len(merged.missing)} missing of "
            f"{merged.total}"
        )
        if merged.missing:
            typer.echo(f"missing: {', '.join(merged.missing[:5])}; run their shards again")
        echo_lines(summary_lines(folder))
        typer.echo(f"report: {folder / 'report.csv'}")
        raise typer.Exit(SOME_FAILED if merged.failed or merged.missing else 0)
