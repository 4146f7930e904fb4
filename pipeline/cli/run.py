"""Commands that read scans: for cohorts (run, plan, status, merge), one scan, and bench."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Scans,
    Shown,
    SomeCases,
    Splits,
    Strict,
    Thresholds,
    argument,
    for_each_worker,
    nifti_path,
)
from .output import (
    LOOK,
    SOME_FAILED,
    answering,
    counter,
    echo_lines,
    outcome,
    print_case,
    print_summary,
    print_warnings,
    quietly,
    write_page,
)

if TYPE_CHECKING:
    from voxtile.manifest.listing import Listed
    from voxtile.models.bundle import Bundle


def run(
    *,
    manifest: Scans,
    model: Model,
    out: Out,
    settings: RunSettings,
    how: BatchSettings,
    root: Root,
    strict: Strict,
    fail_fast: Annotated[bool, Option("Stop at the first failed case.", panel=MANY_CASES)] = False,
    dry_run: Annotated[bool, "Check and forecast the run, and write nothing."] = False,
    shown: Shown,
) -> None:
    """Segment and score every case of a manifest or folder of scans that is not done yet.

    Examples
    --------
    voxtile run scans/ hippocampus --out out
    voxtile run cases.csv my_model --out out --workers 4
    """
    from voxtile.batch.display import displayed, result_lines
    from voxtile.batch.drive import run_manifest
    from voxtile.models.bundle import load_bundle
    from voxtile.report.tables import run_verdict
    from voxtile.run_folder.layout import RunFolder

    from .scans import check_scans, facts_of, list_scans

    how = replace(how, workers=max(1, how.workers or 0))
    settings = replace(settings, plan=for_each_worker(settings.plan, how.at_once))
    how = replace(how, max_failures=1 if fail_fast else how.max_failures)
    with answering(as_json=shown.as_json) as answer, quietly(shown.quiet):
        source = list_scans(manifest, out, root)
        bundle = load_bundle(model)
        if dry_run:
            raise typer.Exit(_rehearse(source, bundle, out, root, settings, how, answer))
        is_list = not isinstance(source, Path)
        check = check_scans(source, bundle, settings, root, voxels=False) if is_list else None
        # A terminal shows the bar and the failed cases; a file gets a line for each case.
        lines = not shown.quiet and not sys.stdout.isatty()
        with displayed(shown=not shown.quiet, failures=not lines) as display:
            result = run_manifest(
                source,
                bundle,
                out,
                root=root,
                settings=settings,
                batch=how,
                on_case=print_case if lines else None,
                on_event=display,
            )
        kept = RunFolder(out).manifest if is_list else manifest
        page = None
        if shown.html and how.shard is None:
            page = write_page(out, result.reports, manifest=kept, root=root)
        echo_lines(result_lines(result))
        if how.shard is None:
            print_summary(out)
        else:
            typer.echo(f"when all shards are done: voxtile merge {out}")
        if is_list:
            typer.echo(f"manifest: {kept}")
        counts = {"by_earlier_run": result.kept, "not_run": result.not_run}
        found = outcome(out, result.reports, page, tables=how.shard is None)
        answer(facts_of(source, check, kept) | counts | found)
    if result.failed or result.not_run:
        raise typer.Exit(SOME_FAILED)
    raise typer.Exit(LOOK if strict and run_verdict(result.reports).look else 0)


def _rehearse(
    source: "Path | Listed",
    bundle: "Bundle",
    out: Path,
    root: Path | None,
    settings: RunSettings,
    how: BatchSettings,
    answer: Callable[[Any], None],
) -> int:
    """Check and forecast a run, print both, and return the exit code."""
    from voxtile.batch.drive import rehearse_run
    from voxtile.measuring.forecast import make_forecast
    from voxtile.run_folder.layout import RunFolder

    from .scans import check_scans, facts_of

    cases = rehearse_run(source, bundle, out, root=root, settings=settings, batch=how)
    check = check_scans(source, bundle, settings, root, voxels=True)
    forecast = make_forecast(
        source, bundle, root=root, settings=settings, workers=how.at_once, on_case=counter("cases")
    )
    echo_lines(forecast.lines())
    typer.echo(f"dry run: nothing was written; the run would go to {out}")
    kept = source if isinstance(source, Path) else RunFolder(out).manifest
    chosen = {"cases": [case.case_id for case in cases], "out": str(out), "dry_run": True}
    answer(facts_of(source, check, kept) | chosen | {"forecast": forecast.as_json()})
    return SOME_FAILED if forecast.unreadable else 0


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
    thresholds: Thresholds,
    as_json: AsJson,
) -> None:
    """Show what a run would do: tiles, arithmetic, and the expected time and memory.

    Examples
    --------
    voxtile plan cases.csv hippocampus
    voxtile plan cases.csv my_model --workers 4 --json
    """
    from voxtile.measuring.forecast import make_forecast

    forecast = make_forecast(
        manifest,
        model,
        root=root,
        settings=RunSettings(
            policy=policy,
            plan=for_each_worker(plan, workers),
            engine=engine,
            splits=split,
            thresholds=thresholds,
        ),
        workers=workers,
        on_case=None if as_json else counter("cases"),
    )
    echo_lines([json.dumps(forecast.as_json(), indent=1)] if as_json else forecast.lines())


def status(*, folder: Annotated[Path, argument("Run folder.")], as_json: AsJson) -> None:
    """Show the state of a run folder: cases done, failed, running and missing.

    Examples
    --------
    voxtile status out
    voxtile status out --json
    """
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
    as_json: AsJson,
) -> None:
    """Join the shards of a run: write report.csv, summary.csv, run.json and the page.

    Examples
    --------
    voxtile merge out
    voxtile merge out --manifest cases.csv --json
    """
    from voxtile.batch.merge import merge_shards
    from voxtile.report.tables import run_verdict
    from voxtile.run_folder.case_report import missing_lines

    merged = merge_shards(folder)
    with answering(as_json=as_json) as answer:
        page = write_page(folder, merged.reports, manifest=manifest, root=root) if html else None
        typer.echo(
            f"{len(merged.reports) - merged.failed} done, {merged.failed} failed, "
            f"{len(merged.missing)} missing of {len(merged.facts.case_ids)}"
        )
        echo_lines(run_verdict(merged.reports, len(merged.missing)).lines)
        echo_lines(missing_lines(merged.missing, advice="run their shards again"))
        print_summary(folder)
        answer(outcome(folder, merged.reports, page, missing=merged.missing))
    raise typer.Exit(SOME_FAILED if merged.failed or merged.missing else 0)


def segment(
    *,
    image: Annotated[Path, argument("NIfTI file or DICOM folder.")],
    model: Model,
    out: Annotated[Path, argument("Mask to write, .nii.gz or .nii.")],
    policy: ReadPolicy,
    plan: PlanWish,
    engine: Wish,
    thresholds: Thresholds,
    as_json: AsJson,
    strict: Strict,
) -> None:
    """Segment one scan.

    Examples
    --------
    voxtile segment scan.nii.gz hippocampus mask.nii.gz
    voxtile segment dicom_folder/ my_model mask.nii.gz --device cpu
    """
    from voxtile.run.one_scan import segment_file

    done = segment_file(
        image,
        model,
        nifti_path(out),
        policy=policy,
        plan=plan,
        engine=engine,
        thresholds=thresholds,
    )
    with answering(as_json=as_json) as answer:
        print_warnings(done.notices)
        dice = {one.label: one for one in done.dice}
        labels: list[dict[str, Any]] = []
        for row in done.rows:
            one = dice.get(row.label)
            volume = f"{row.voxels_pred} voxels, {row.volume_ml_pred:.3f} ml"
            typer.echo(f"{row.label_name}: {volume}" + (f", predicted Dice {one}" if one else ""))
            labels.append(
                {
                    "label": row.label,
                    "label_name": row.label_name,
                    "voxels": row.voxels_pred,
                    "volume_ml": row.volume_ml_pred,
                    "dice_predicted": one and one.predicted,
                    "dice_lower": one and one.lower,
                }
            )
        if not dice and any(row.voxels_pred for row in done.rows):
            typer.echo(done.no_dice)
        typer.echo(f"mask: {out}")
        typer.echo(f"verdict: {done.verdict}")
        echo_lines(f"  {reason}" for reason in done.verdict.reasons)
        verdict = {"verdict": done.verdict.word, "reasons": done.verdict.reasons}
        answer({"mask": str(out), "labels": labels, "warnings": done.notices} | verdict)
    raise typer.Exit(LOOK if strict and done.verdict.word == "look" else 0)


def convert(
    *,
    source: Annotated[Path, argument("DICOM folder or file, DICOMDIR, or NIfTI.")],
    out: Annotated[Path, argument("Volume to write, .nii.gz or .nii.")],
    policy: ReadPolicy,
    as_json: AsJson,
) -> None:
    """Write one scan as NIfTI, and show its shape, spacing and values.

    Examples
    --------
    voxtile convert dicom_folder/ scan.nii.gz
    voxtile convert dti.nii.gz b0.nii.gz --volume 0
    """
    from voxtile.run.convert import convert as convert_scan

    done = convert_scan(source, nifti_path(out), policy)
    with answering(as_json=as_json) as answer:
        print_warnings(done.notices)
        echo_lines(done.lines())
        typer.echo(f"volume: {out}")
        answer({"volume": str(out), **done.facts(), "warnings": done.notices})


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
    """Measure a model on this machine: tiles and voxels per second, stages, memory.

    Examples
    --------
    voxtile bench hippocampus
    voxtile bench my_model cases.csv --cases 3 --json figures.json
    """
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
