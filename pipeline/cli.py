"""Words -> calls. No logic: each command reads its words, calls one function, prints, exits.

Heavy modules are imported inside the commands, so that `voxtile --help`
answers at once.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .cli_exit import ENVIRONMENT, SOME_FAILED, USAGE, explained, refuse
from .cli_manifest import app as manifest_app
from .cli_models import app as models_app
from .cli_options import (
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
    read_policy,
)
from .cli_options import label_map as label_map_of
from .cli_speed import bench, plan
from .cli_words import (
    cluster_of,
    engine_of,
    measures_of,
    plan_of,
    shard_of,
    spacing_of,
    splits_of,
    tile_of,
    words_of,
)

if TYPE_CHECKING:
    from .case_report import CaseReport
    from .comparison import Comparison
    from .export import Exported

# Heading of the options that say how a batch runs, and change no result.
_MANY = "Many cases"
# Heading of the options of a cross-validation.
_FOLDS = "Cross-validation (docs/cross-validation.md)"
# Heading of the choices that the rules of a training make where they are left out.
_CHOICES = "Choices (default: by rule, docs/training.md)"

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
app.command()(plan)
app.command()(bench)


Nsd = Annotated[
    str, typer.Option(help="Tolerances of the surface Dice in mm, such as 1,2; empty for none.")
]
Lesions = Annotated[
    bool, typer.Option("--lesions", help="Match connected parts as lesions: found, missed, false.")
]
By = Annotated[
    str | None, typer.Option(help="Summarise by these columns too, such as scanner,sex.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Html = Annotated[bool, typer.Option(help="Write report.html, the page for people.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]


def _show_version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        from . import __version__

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


@app.command()
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
        from .batch.display import displayed, result_lines
        from .batch.drive import run_manifest
        from .batch.settings import BatchSettings
        from .run import RunSettings

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
                on_case=None if quiet or sys.stdout.isatty() else _print_case,
                on_event=display,
            )
        if html and how.shard is None:
            _write_page(out, result.reports, quiet=quiet, manifest=manifest, root=root)
        if not quiet:
            _echo_lines(result_lines(result))
            if how.shard is None:
                _echo_lines(_summary_lines(out))
                typer.echo(f"report: {out / 'report.csv'}")
            else:
                typer.echo(f"when all shards are done: voxtile merge {out}")
        raise typer.Exit(SOME_FAILED if result.failed or result.not_run else 0)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say what a run folder holds: done, failed, running, missing."""
    with explained():
        import json
        from dataclasses import asdict

        from .batch.status import read_status, status_lines

        found = read_status(folder)
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=1))
        else:
            _echo_lines(status_lines(found))


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(help="Run folder of shards.", show_default=False)],
) -> None:
    """Join the shards of a run: write report.csv, summary.csv and run.json."""
    with explained():
        from .batch.merge import merge_shards

        merged = merge_shards(folder)
        typer.echo(
            f"{merged.done} done, {merged.failed} failed, {len(merged.missing)} missing of "
            f"{merged.total}"
        )
        if merged.missing:
            typer.echo(f"missing: {', '.join(merged.missing[:5])}; run their shards again")
        _echo_lines(_summary_lines(folder))
        typer.echo(f"report: {folder / 'report.csv'}")
        raise typer.Exit(SOME_FAILED if merged.failed or merged.missing else 0)


@app.command()
def doctor(
    out: Annotated[Path, typer.Option(help="Where results would go.")] = Path(),
) -> None:
    """Check this machine: versions, GPU, codecs, disk, memory; and say what mends it."""
    with explained():
        from .doctor import examine

        findings = list(examine(out))
        for finding in findings:
            typer.echo(str(finding))
        raise typer.Exit(0 if all(finding.good for finding in findings) else ENVIRONMENT)


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(help="NIfTI file or DICOM folder.", show_default=False)],
    model: Model,
    out: Annotated[Path, typer.Argument(help="Mask, .nii.gz or .nii.", show_default=False)],
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
) -> None:
    """Segment one scan."""
    with explained():
        from .single import segment_file

        if not out.name.lower().endswith((".nii", ".nii.gz")):
            refuse(f"{out.name!r} must end in .nii or .nii.gz", USAGE)
        rows, notices = segment_file(
            image,
            model,
            out,
            policy=read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
            plan=plan_of(tile, overlap, batch, tta, max_memory),
            engine=engine_of(engine, precision, device),
        )
        for notice in notices:
            typer.echo(f"warning: {notice}", err=True)
        for row in rows:
            typer.echo(f"{row.label_name}: {row.voxels_pred} voxels, {row.volume_ml_pred:.3f} ml")
        typer.echo(f"mask: {out}")


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="DICOM folder or file, DICOMDIR, or NIfTI.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="Volume, .nii.gz or .nii.", show_default=False)],
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
) -> None:
    """Write one scan as NIfTI, and say what was found."""
    with explained():
        from .convert import convert as convert_scan

        if not out.name.lower().endswith((".nii", ".nii.gz")):
            refuse(f"{out.name!r} must end in .nii or .nii.gz", USAGE)
        done = convert_scan(
            source,
            out,
            read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
        )
        for notice in done.notices:
            typer.echo(f"warning: {notice}", err=True)
        for line in done.lines():
            typer.echo(line)
        typer.echo(f"volume: {out}")


@app.command()
def evaluate(
    manifest: Manifest,
    predictions: Annotated[Path, typer.Option(help="Folder with <case_id>.nii.gz masks.")],
    out: Out,
    labels: Annotated[
        Path | None, typer.Option(help='What to score: JSON {"1": "liver"} or CSV value,name.')
    ] = None,
    root: Root = None,
    nsd: Nsd = "1,2",
    lesions: Lesions = False,
    by: By = None,
    html: Html = True,
) -> None:
    """Score finished masks, from any tool, against a manifest's references."""
    with explained():
        from .evaluation import evaluate as evaluate_masks
        from .evaluation import read_labels

        chosen = None if labels is None else read_labels(labels)
        reports = evaluate_masks(
            manifest,
            predictions,
            out,
            root=root,
            labels=chosen,
            measures=measures_of(nsd, lesions),
            by=words_of(by) or (),
            on_case=_print_case,
        )
        if html:
            _write_page(out, reports, manifest=manifest, root=root, predictions=predictions)
        _finish(out, reports)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    to: Annotated[
        str,
        typer.Option(
            help="Formats, separated by commas: seg.nrrd, tables, dicom-seg, dicom-seg-labelmap, "
            "bids, binary, stl, glb."
        ),
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="The run's manifest; DICOM SEG needs it to find scans.")
    ] = None,
    root: Root = None,
    cases: Annotated[str | None, typer.Option(help="Only these case ids, such as p1,p2.")] = None,
) -> None:
    """Write the masks of a finished run in the formats of other programs."""
    with explained():
        from .export import export_run

        results = export_run(
            run,
            to.split(","),
            manifest=manifest,
            root=root,
            cases=words_of(cases) or (),
            on_export=_print_export,
        )
        failed = sum(result.reason is not None for result in results)
        typer.echo(f"{len(results) - failed} exported, {failed} failed")
        raise typer.Exit(SOME_FAILED if failed else 0)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)],
    by: By = None,
    manifest: Annotated[
        Path | None, typer.Option(help="CSV of its cases: the page gets pictures from the scans.")
    ] = None,
    root: Root = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Folder with <case_id>.nii.gz masks (default: the run's own)."),
    ] = None,
    cases: Annotated[
        str, typer.Option(help="Which cases get pictures: worst:N, all or none.")
    ] = "worst:20",
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Put everything into report.html itself.")
    ] = False,
) -> None:
    """Make the tables and the page of a run again from its cases."""
    with explained():
        from .case_report import read_case_reports
        from .report import check_columns, write_reports

        reports = read_case_reports(run)
        columns = words_of(by) or ()
        check_columns(columns, reports)
        write_reports(run, reports, columns)
        _write_page(
            run,
            reports,
            manifest=manifest,
            root=root,
            predictions=predictions,
            cases=cases,
            single_file=single_file,
        )
        _finish(run, reports)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the baseline.")],
    out: Out,
    metrics: Annotated[
        str | None, typer.Option(help="What to compare (default: dice,hd95_mm,assd_mm).")
    ] = None,
) -> None:
    """Compare runs case by case: differences with intervals and tests."""
    with explained():
        from .comparison import compare_runs, write_comparison
        from .html.comparison_page import write_comparison_page

        comparison = compare_runs(runs, words_of(metrics) or ())
        write_comparison(out, comparison)
        page = write_comparison_page(out, comparison)
        for line in _comparison_lines(comparison):
            typer.echo(line)
        typer.echo(f"comparison: {out / 'comparison.csv'}")
        typer.echo(f"page: {page}")


@app.command()
def train(
    manifest: Manifest,
    out: Annotated[
        Path,
        typer.Option(help="Folder of the new model; must not exist, but for --folds."),
    ],
    root: Root = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML with choices; the options below override it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print fingerprint and recipe, and train nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Fine-tune this model: a name or a folder.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget (default: 18).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Budget in epochs instead.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop early after so many validations without a better one."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="axial, coronal or sagittal; several as a,b.", rich_help_panel=_CHOICES),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="per_view or shared, where there are several.", rich_help_panel=_CHOICES),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(min=1, help="Networks of each kind; their mean.", rich_help_panel=_CHOICES),
    ] = None,
    context_slices: Annotated[
        int | None, typer.Option(help="Planes seen at once, odd.", rich_help_panel=_CHOICES)
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="Pixel spacing in mm as R,A,S; or native.", rich_help_panel=_CHOICES),
    ] = None,
    tile: Annotated[
        str | None, typer.Option(help="ROWSxCOLUMNS.", rich_help_panel=_CHOICES)
    ] = None,
    filters: Annotated[
        int | None, typer.Option(min=1, help="Of the first level.", rich_help_panel=_CHOICES)
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Poolings.", rich_help_panel=_CHOICES)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles in a step.", rich_help_panel=_CHOICES)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, mixed_bfloat16 or mixed_float16 (default: the fastest, measured).",
            rich_help_panel=_CHOICES,
        ),
    ] = None,
    flips: Annotated[
        str | None,
        typer.Option(
            help="Axes that may be mirrored, such as R or R,A (default: none).",
            rich_help_panel=_CHOICES,
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help='Names: JSON {"1": "liver"} or CSV value,name,color.')
    ] = None,
    licence: Annotated[
        Path | None, typer.Option(help="Licence of the weights, a text file.")
    ] = None,
    description: Annotated[str, typer.Option(help="One sentence for the model card.")] = "",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard events.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice (default: 0).")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate with so many folds of train and val.",
            rich_help_panel=_FOLDS,
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Train this fold only.", rich_help_panel=_FOLDS)
    ] = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Join the folds that are there.", rich_help_panel=_FOLDS),
    ] = False,
) -> None:
    """Train U-Nets on a manifest's train split, and write them as a model folder."""
    with explained():
        from .evaluation import read_labels
        from .training.cross_validation import cross_validate, plan_folds
        from .training.drive import plan_training
        from .training.drive import train as train_model
        from .training.recipe_file import asked_recipe

        given = {
            "minutes": minutes,
            "epochs": epochs,
            "steps": steps,
            "patience": patience,
            "views": words_of(view),
            "network": network,
            "members": members,
            "context_slices": context_slices,
            "spacing_mm": spacing if spacing == "native" else spacing_of(spacing),
            "tile": tile_of(tile),
            "filters": filters,
            "depth": depth,
            "batch": batch,
            "precision": precision,
            "flips": words_of(flips),
            "labels": None if labels is None else read_labels(labels),
            "seed": seed,
        }
        asked = asked_recipe(recipe, given)
        if folds is None and (fold is not None or join):
            raise ValueError("--fold and --join are for --folds")
        if dry_run and folds is not None:
            _echo_lines(plan_folds(manifest, folds, root=root, recipe=asked, init=init))
            return
        if dry_run:
            plan = plan_training(manifest, root=root, recipe=asked, init=init, name=out.name)
            _echo_lines(plan.lines())
            return
        how: dict[str, Any] = {
            "root": root,
            "recipe": asked,
            "init": init,
            "resume": resume,
            "description": description,
            "licence": licence,
            "tensorboard": tensorboard,
        }
        try:
            if folds is None:
                typer.echo(f"model: {train_model(manifest, out, **how).folder}")
            else:
                done = cross_validate(
                    manifest, out, folds, only=fold, join=join, say=typer.echo, **how
                )
                _echo_lines([] if done is None else done.lines())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted; the same command with --resume goes on from the last checkpoint"
            ) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Training budget.")] = 1.0,
) -> None:
    """Make synthetic scans, train a small model on some, segment and score the others."""
    with explained():
        from .demo import run_demo

        done = run_demo(out, minutes=minutes, say=typer.echo, on_case=_print_case)
        typer.echo("")
        typer.echo("One file was damaged on purpose: it failed alone, with its reason.")
        for line in _summary_lines(done.result.out):
            typer.echo(line)
        typer.echo(f"report: {done.result.out / 'report.csv'}")
        typer.echo(f"masks:  {done.result.out / 'masks'}")
        _write_page(done.result.out, done.result.reports, manifest=done.cohort / "test.csv")
        scan, mask = done.cohort / "oblique.nii.gz", done.result.out / "masks/oblique.nii.gz"
        typer.echo(f"look:   itksnap -g {scan} -s {mask}")
        typer.echo(f"   or:  fsleyes {scan} {mask} -ot label")
        # The damaged scan must fail, and nothing else may.
        failed = [report.case_id for report in done.result.failed]
        raise typer.Exit(0 if failed == ["damaged"] else SOME_FAILED)


def main() -> None:
    """Run the command line."""
    app()


def _print_case(report: "CaseReport", number: int, count: int) -> None:
    """Print one line for a finished case."""
    from .batch.display import case_line

    typer.echo(case_line(report, number, count))
    sys.stdout.flush()


def _print_export(result: "Exported") -> None:
    """Print what became of one case and format."""
    outcome = "done" if result.reason is None else f"failed  {result.reason}"
    codes = ", ".join(notice.code for notice in result.notices)
    typer.echo(f"{result.case_id}  {result.format}  {outcome}{f'  ({codes})' if codes else ''}")


def _echo_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        typer.echo(line)


def _finish(out: Path, reports: "tuple[CaseReport, ...]") -> NoReturn:
    """Print the summary and leave with the right code."""
    failed = [report for report in reports if report.status == "failed"]
    typer.echo(f"{len(reports) - len(failed)} done, {len(failed)} failed")
    for line in _summary_lines(out):
        typer.echo(line)
    typer.echo(f"report: {out / 'report.csv'}")
    raise typer.Exit(SOME_FAILED if failed else 0)


def _write_page(
    out: Path, reports: "Sequence[CaseReport]", *, quiet: bool = False, **choices: Any
) -> None:
    """Write the page, and say what it holds."""
    from .html import write_page

    page = write_page(out, reports, **choices)
    for case_id, sentence in page.problems:
        typer.echo(f"warning: no pictures of {case_id}: {sentence}", err=True)
    if not quiet:
        typer.echo(f"page:   {page.path} ({len(page.pictured)} cases with pictures: patient data)")


def _summary_lines(out: Path) -> Iterator[str]:
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


def _comparison_lines(comparison: "Comparison") -> Iterator[str]:
    """Yield one line for each label and metric, and the cases that changed most."""
    from .comparison import most_changed

    rows = comparison.summary.to_dict(orient="records")
    for row in rows:
        yield (
            f"{row['run_b']} - {row['run_a']}, {row['label_name']}, {row['metric']}: "
            f"{row['mean_difference']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}], "
            f"n {row['n']}, wins {row['wins']}, ties {row['ties']}, losses {row['losses']}, "
            f"p {row['p']:.2g}, Holm {row['p_holm']:.2g}"
        )
    yield "changed most:"
    for case in most_changed(comparison, rows[0]["metric"]):
        yield (
            f"  {case['case_id']} {case['label_name']} {case['metric']}: "
            f"{case['value_a']:.4f} -> {case['value_b']:.4f} ({case['run_b']})"
        )
