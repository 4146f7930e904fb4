"""Score the cases that a fold held out: once, and after everything was chosen.

held-out case -> mask of all views together ->  held_out.csv, view "fused"
              -> mask of each view alone    ->  held_out.csv, view "axial", ...
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from voxtile.case import Case
from voxtile.engines import Model, choose_engine, load_models
from voxtile.errors import CaseError, EnvironmentFault, Notice
from voxtile.inference.infer import infer
from voxtile.machine.files import write_text
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec
from voxtile.preparation.plan import Plan, make_plan
from voxtile.reading.channels import read_channels
from voxtile.reading.reference import read_reference
from voxtile.report.tables import csv_text, report_table
from voxtile.run.journal import Journal, peak_memory_mb
from voxtile.run_folder.case_report import CaseReport, failed_report
from voxtile.scoring.rows import label_rows
from voxtile.scoring.score import Measures
from voxtile.training.choosing.evidence import of_view

from .folds import Fold

HELD_OUT = "held_out.csv"
FUSED = "fused"


def score_held_out(
    bundle: Bundle, fold: Fold, *, advance: Callable[[], None] = lambda: None
) -> pd.DataFrame:
    """Segment and score the held-out cases, and write ``held_out.csv`` into the bundle.

    Parameters
    ----------
    bundle : Bundle
        Of the fold.
    fold : Fold
    advance : callable
        Called after each case.

    Returns
    -------
    DataFrame
        What was written: the columns of ``report.csv``, then `fold` and
        `view`. View "fused" is the bundle as a run uses it; where it has
        several views, each alone follows, with the same thresholds and
        post-processing. A case that cannot be done has failed rows.
    """
    plan = make_plan(bundle)
    models = load_models(bundle, choose_engine(bundle))
    judges = {FUSED: (bundle.spec, models)}
    if len(bundle.spec.views) > 1:
        judges |= {view: of_view(bundle.spec, models, view) for view in bundle.spec.views}
    reports: dict[str, list[CaseReport]] = {view: [] for view in judges}
    for case in fold.held_out:
        for view, report in _reports(case, judges, plan):
            reports[view].append(report)
        advance()
    parts = []
    for view, of_view_reports in reports.items():
        table = report_table(of_view_reports)
        table["fold"] = fold.number
        table["view"] = view
        parts.append(table)
    whole = pd.concat(parts, ignore_index=True)
    write_text(bundle.folder / HELD_OUT, csv_text(whole))
    return whole


def read_held_out(folder: Path) -> pd.DataFrame | None:
    """Return what `score_held_out` wrote; None where it has not."""
    words = ("case_id", "label_name", "status", "group", "view", "split")
    try:
        # Only an empty cell is nothing: a label may be called None, and a group n/a.
        table = pd.read_csv(
            folder / HELD_OUT,
            dtype=dict.fromkeys(words, "object"),
            keep_default_na=False,
            na_values=[""],
        )
    except FileNotFoundError:
        return None
    # A case without a group is its own: None and not NaN, as in a report that was never a file.
    table["group"] = table["group"].where(table["group"].notna(), None)
    return table


def _reports(
    case: Case, judges: Mapping[str, tuple[ModelSpec, Sequence[Model]]], plan: Plan
) -> Iterator[tuple[str, CaseReport]]:
    """Yield the report of a case for each view, whatever happens to it."""
    labels = judges[FUSED][0].labels
    try:
        scan = read_channels(case, judges[FUSED][0].channels)
        image = scan.volume
        if case.label is None:
            raise CaseError("no_label", "a held-out case needs a label")
        reference, notices = read_reference(case.label, image, labels)
        for view, (spec, models) in judges.items():
            journal = Journal()
            journal.note((*scan.notices, *notices))
            with journal.stage("infer"):
                mask = infer(image, spec, models, plan)
            with journal.stage("score"):
                rows = label_rows(mask, reference, labels, Measures())
            yield (
                view,
                CaseReport(
                    case_id=case.case_id,
                    status="done",
                    reason=None,
                    warnings=tuple(journal.notices),
                    fingerprint="",
                    labels=rows,
                    geometry={},
                    mask={},
                    timings_s=dict(journal.seconds),
                    seconds=journal.total_seconds,
                    peak_memory_mb=peak_memory_mb(),
                    split=case.split,
                    group=case.group,
                    extras={},
                ),
            )
    except EnvironmentFault:
        raise
    except CaseError as error:
        for view in judges:
            yield view, failed_report(case, labels, Notice(error.code, error.bare))
