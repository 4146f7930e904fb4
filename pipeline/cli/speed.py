"""`voxtile plan` and `voxtile bench`: what a run would do, and how fast this machine is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .exit import explained
from .options import (
    Batch,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    EngineOption,
    Manifest,
    MaxMemory,
    MissingOption,
    MissingSlices,
    Model,
    Nan,
    NanOption,
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
    counter,
    read_policy,
)
from .words import engine_of, plan_of, splits_of


def plan(
    manifest: Manifest,
    model: Model,
    root: Root = None,
    split: SplitOption = None,
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
    workers: Annotated[int, typer.Option(min=0, help="Worker processes of the run.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say what a run would do: tiles, arithmetic, and the time and memory to expect."""
    with explained():
        from voxtile.measuring.forecast import make_forecast
        from voxtile.run.job import RunSettings

        forecast = make_forecast(
            manifest,
            model,
            root=root,
            settings=RunSettings(
                policy=read_policy(
                    nan=nan,
                    volume=volume,
                    series=series,
                    missing_slices=missing_slices,
                    duplicates=duplicates,
                    tilt=tilt,
                ),
                plan=plan_of(tile, overlap, batch, tta, max_memory, workers),
                engine=engine_of(engine, precision, device),
                splits=splits_of(split),
            ),
            workers=workers,
            on_case=None if as_json else counter("cases"),
        )
        if as_json:
            typer.echo(json.dumps(forecast.as_json(), indent=1))
        else:
            for line in forecast.lines():
                typer.echo(line)


def bench(
    model: Annotated[
        str, typer.Argument(help="Name of a shipped model, or a model folder.")
    ] = "hippocampus",
    manifest: Annotated[
        Path | None, typer.Argument(help="CSV of cases (default: a phantom).")
    ] = None,
    root: Root = None,
    split: SplitOption = None,
    cases: Annotated[int, typer.Option(min=1, help="Most cases of the manifest.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is done.")] = 3,
    tile: Tile = None,
    overlap: Overlap = None,
    batch: Batch = None,
    tta: Tta = None,
    max_memory: MaxMemory = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file as well.")
    ] = None,
) -> None:
    """Measure a model on this machine: tiles and voxels in a second, stages, memory."""
    with explained():
        from voxtile.machine.files import write_json
        from voxtile.measuring.benchmark import run_benchmark
        from voxtile.run.job import RunSettings

        measured = run_benchmark(
            model,
            manifest,
            root=root,
            settings=RunSettings(
                plan=plan_of(tile, overlap, batch, tta, max_memory),
                engine=engine_of(engine, precision, device),
                splits=splits_of(split),
            ),
            most_cases=cases,
            repeats=repeats,
        )
        for line in measured.lines():
            typer.echo(line)
        if json_file is not None:
            write_json(json_file, measured.as_json())
