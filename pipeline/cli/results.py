"""`voxtile evaluate`, `export`, `report` and `compare`: masks that exist already."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxtile.errors import UsageError
from voxtile.scoring.measures import Measures

from .options import (
    AsJson,
    By,
    Html,
    Labels,
    Manifest,
    Option,
    Out,
    Root,
    argument,
    ignored_value,
    label_list,
    words,
)
from .output import (
    SOME_FAILED,
    answering,
    echo_lines,
    finish,
    outcome,
    print_case,
    print_page,
    print_warnings,
    write_page,
)

if TYPE_CHECKING:
    from voxtile.export import Exported
    from voxtile.report.comparison import Comparison
    from voxtile.run_folder.protection import Input


def evaluate(
    *,
    manifest: Manifest,
    predictions: Annotated[Path, "Folder with <case_id>.nii.gz masks."],
    out: Out,
    measures: Measures,
    labels: Labels,
    root: Root,
    by: By,
    html: Html,
    as_json: AsJson,
) -> None:
    """Score finished masks, from any program, against a manifest's references.

    Examples
    --------
    voxtile evaluate cases.csv --predictions masks/ --out scores
    voxtile evaluate cases.csv --predictions masks/ --out scores --by scanner
    """
    from voxtile.manifest.advice import manifest_notices
    from voxtile.run.evaluation import evaluate as evaluate_masks

    with answering(as_json=as_json) as answer:
        print_warnings(manifest_notices(manifest))
        found = label_list(labels, out)
        if found is not None:
            measures = replace(measures, ignore=ignored_value(measures.ignore, found))
        reports = evaluate_masks(
            manifest,
            predictions,
            out,
            root=root,
            labels=None if found is None else found.labels,
            measures=measures,
            unlabelled=() if found is None else found.unlabelled,
            by=by,
            on_case=print_case,
        )
        page = None
        if html:
            page = write_page(out, reports, manifest=manifest, root=root, predictions=predictions)
        answer(outcome(out, reports, page))
        finish(out, reports)


def export(
    *,
    run: Annotated[Path, argument("Folder of a run.")],
    to: Annotated[
        tuple[str, ...],
        Option(
            "Formats, separated by commas: seg.nrrd, tables, dicom-seg, dicom-seg-labelmap, "
            "bids, binary, stl, glb.",
            read=words,
        ),
    ],
    manifest: Annotated[
        Path | None, "The run's manifest; DICOM SEG needs it to find the scans."
    ] = None,
    root: Root,
    cases: Annotated[
        tuple[str, ...], Option("Only these case ids, such as p1,p2.", read=words)
    ] = (),
    as_json: AsJson,
) -> None:
    """Write the masks of a finished run in the formats of other programs.

    Examples
    --------
    voxtile export out --to seg.nrrd,bids
    voxtile export out --to dicom-seg --manifest cases.csv
    """
    from voxtile.export import export_run

    with answering(as_json=as_json) as answer:
        results = export_run(
            run, to, manifest=manifest, root=root, cases=cases, on_export=_print_export
        )
        failed = [result for result in results if result.reason is not None]
        missing = [*dict.fromkeys(result.case_id for result in failed if result.is_missing)]
        exported = len(results) - len(failed)
        others = sum(not result.is_missing for result in failed)
        line = f"{exported} exported, {others} failed"
        if missing:
            line += f", {len(missing)} missing of {len({one.case_id for one in results})} cases"
        typer.echo(line)
        counts = {"exported": exported, "failed": others, "missing": missing}
        answer({"out": str(run), **counts, "results": results})
    raise typer.Exit(SOME_FAILED if failed else 0)


def report(
    *,
    run: Annotated[Path, argument("Run folder, or the folder of a model or of folds.")],
    by: By,
    manifest: Annotated[
        Path | None, "The run's manifest, so that the page gets pictures of the scans."
    ] = None,
    root: Root,
    predictions: Annotated[
        Path | None, "Folder with <case_id>.nii.gz masks (default: the run's own)."
    ] = None,
    cases: Annotated[str, "Which cases get pictures: worst:N, all or none."] = "worst:20",
    single_file: Annotated[bool, "Put everything into report.html itself."] = False,
    review: Annotated[
        Path | None, "A review.csv that the page exported; the page shows it."
    ] = None,
    methods: Annotated[
        bool, "Only print how the masks were made and scored, for a paper: text, Markdown, BibTeX."
    ] = False,
    as_json: AsJson,
) -> None:
    """Write the tables and the page of a run again, or the page of a model's training run.

    Examples
    --------
    voxtile report out --manifest cases.csv --by scanner,sex
    voxtile report my_model
    """
    from voxtile.report.page.writing import protect_report
    from voxtile.report.summary_columns import check_columns
    from voxtile.report.tables import write_reports
    from voxtile.run_folder.case_report import read_run
    from voxtile.run_folder.layout import RunFolder
    from voxtile.run_folder.lock import locked

    if methods:
        with answering(as_json=as_json) as answer:
            forms = _methods(run)
            echo_lines(f"{form}\n" for form in forms.values())
            answer(forms)
        return
    if not RunFolder(run).all_facts():
        from voxtile.training.pages import page_of_training

        if (write := page_of_training(run)) is not None:
            if by or manifest or root or predictions or review or single_file:
                raise UsageError(f"{run} is a training run, whose page needs no options")
            typer.echo(f"page: {write()}")
            return
    check_columns(by, read_run(run).reports)  # before the lock, which would create the folder
    protect_report(RunFolder(run), manifest, root, predictions, review)
    with answering(as_json=as_json) as answer:
        with locked(run):
            found = read_run(run)
            write_reports(run, found.reports, by)
            page = write_page(
                run,
                found.reports,
                manifest=manifest,
                root=root,
                predictions=predictions,
                cases=cases,
                single_file=single_file,
                review=review,
            )
        answer(outcome(run, found.reports, page, missing=found.missing))
        finish(run, found.reports, found.missing)


def _methods(run: Path) -> dict[str, str]:
    """Return the methods of a run in three forms."""
    from voxtile.report.methods import methods_bibtex, methods_markdown, methods_text
    from voxtile.run_folder.case_report import read_run

    found = read_run(run)
    forms = {"text": methods_text, "markdown": methods_markdown, "bibtex": methods_bibtex}
    return {name: form(found.facts.content, found.reports) for name, form in forms.items()}


def compare(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the baseline.")],
    out: Out,
    as_json: AsJson,
    metrics: Annotated[
        tuple[str, ...], Option("Metrics to compare (default: dice,hd95_mm,assd_mm).", read=words)
    ] = (),
    manifest: Annotated[
        Path | None, "The manifest of the runs, so that the page gets pictures of the scans."
    ] = None,
    root: Root,
    predictions: Annotated[
        tuple[str, ...],
        Option("Folders of the masks, one for each run (default: the runs' own).", read=words),
    ] = (),
    cases: Annotated[str, "Which cases get pictures: changed:N, all or none."] = "changed:12",
) -> None:
    """Compare runs case by case: differences with intervals and tests.

    Examples
    --------
    voxtile compare out_a out_b --manifest cases.csv --out comparison
    voxtile compare out_a out_b out_c --metrics dice,hd95_mm --out comparison
    """
    from voxtile.report.comparison import (
        compare_runs,
        most_changed,
        refuse_foreign_comparison,
        write_comparison,
    )
    from voxtile.report.page import parse_cases
    from voxtile.report.page.comparison_page import write_comparison_page
    from voxtile.report.summary import records
    from voxtile.run_folder.protection import protect

    most, folders = parse_cases(cases, "changed"), [Path(one) for one in predictions]
    protect(_inputs_of_comparison(runs, folders, manifest, root), out)
    refuse_foreign_comparison(out)
    comparison = compare_runs(runs, metrics)
    write_comparison(out, comparison)
    page = write_comparison_page(
        out,
        comparison,
        manifest=manifest,
        root=root,
        predictions=folders,
        most=most,
    )
    with answering(as_json=as_json) as answer:
        echo_lines(_comparison_lines(comparison))
        echo_lines(comparison.incomplete)
        typer.echo(f"comparison: {out / 'comparison.csv'}")
        print_page(page)
        rows = records(comparison.summary)
        answer(
            {
                "runs": comparison.runs,
                "rows": rows,
                "changed_most": most_changed(comparison.cases, rows[0]["metric"]),
                "incomplete": comparison.incomplete,
                "comparison": str(out / "comparison.csv"),
                "page": str(page.path),
            }
        )
    raise typer.Exit(SOME_FAILED if comparison.incomplete else 0)


def _inputs_of_comparison(
    runs: Sequence[Path], predictions: Sequence[Path], manifest: Path | None, root: Path | None
) -> "Iterator[Input]":
    """Yield everything that a comparison reads."""
    from voxtile.manifest.rows import read_manifest
    from voxtile.run_folder.protection import Input, inputs_of

    yield from (Input("the run", one, whole=False) for one in runs)
    yield from (Input("the predictions folder", one, whole=False) for one in predictions)
    if manifest is not None:
        yield Input("the manifest", manifest)
        yield from inputs_of(read_manifest(manifest, root=root, need_images=False))


def _print_export(result: "Exported") -> None:
    """Print the outcome of one case and format."""
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
    for case in most_changed(comparison.cases, rows[0]["metric"]):
        yield (
            f"  {case['case_id']} {case['label_name']} {case['metric']}: "
            f"{case['value_a']:.4f} -> {case['value_b']:.4f} ({case['run_b']})"
        )
