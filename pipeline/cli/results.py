"""`voxtile evaluate`, `export`, `report` and `compare`: masks that are there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit import SOME_FAILED, explained
from .options import By, Html, Lesions, Manifest, Nsd, Out, Root
from .say import finish, print_case, write_and_say
from .words import measures_of, words_of

if TYPE_CHECKING:
    from voxtile.export import Exported
    from voxtile.report.comparison import Comparison


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
        from voxtile.manifest.label_list import read_labels
        from voxtile.run.evaluation import evaluate as evaluate_masks

        chosen = None if labels is None else read_labels(labels)
        reports = evaluate_masks(
            manifest,
            predictions,
            out,
            root=root,
            labels=chosen,
            measures=measures_of(nsd, lesions),
            by=words_of(by) or (),
            on_case=print_case,
        )
        if html:
            write_and_say(out, reports, manifest=manifest, root=root, predictions=predictions)
        finish(out, reports)


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
        from voxtile.export import export_run

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
        from voxtile.report.tables import check_columns, write_reports
        from voxtile.run_folder.case_report import read_case_reports

        reports = read_case_reports(run)
        columns = words_of(by) or ()
        check_columns(columns, reports)
        write_reports(run, reports, columns)
        write_and_say(
            run,
            reports,
            manifest=manifest,
            root=root,
            predictions=predictions,
            cases=cases,
            single_file=single_file,
        )
        finish(run, reports)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the baseline.")],
    out: Out,
    metrics: Annotated[
        str | None, typer.Option(help="What to compare (default: dice,hd95_mm,assd_mm).")
    ] = None,
) -> None:
    """Compare runs case by case: differences with intervals and tests."""
    with explained():
        from voxtile.report.comparison import compare_runs, write_comparison
        from voxtile.report.page.comparison_page import write_comparison_page

        comparison = compare_runs(runs, words_of(metrics) or ())
        write_comparison(out, comparison)
        page = write_comparison_page(out, comparison)
        for line in _comparison_lines(comparison):
            typer.echo(line)
        typer.echo(f"comparison: {out / 'comparison.csv'}")
        typer.echo(f"page: {page}")


def _print_export(result: "Exported") -> None:
    """Print what became of one case and format."""
    outcome = "done" if result.reason is None else f"failed  {result.reason}"
    codes = ", ".join(notice.code for notice in result.notices)
    typer.echo(f"{result.case_id}  {result.format}  {outcome}{f'  ({codes})' if codes else ''}")


def _comparison_lines(comparison: "Comparison") -> Iterator[str]:
    """Yield one line for each label and metric, and the cases that changed most."""
    from voxtile.report.comparison import most_changed

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
