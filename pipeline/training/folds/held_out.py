"""Score the held-out cases of a fold once, after everything was chosen.

held-out case -> mask of all views together ->  held_out.csv, view "fused"
              -> mask of each view alone    ->  held_out.csv, view "axial", ...
              -> expected and real Dice     ->  held_out_dice.json
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.case import Case
from voxtile.engines import Model, choose_engine, load_models
from voxtile.errors import CaseError, Notice
from voxtile.inference.entropy import EntropyWatch
from voxtile.inference.infer import infer
from voxtile.machine.files import write_json, write_text
from voxtile.machine.spreadsheet import unescaped
from voxtile.manifest.dealing import unit_name
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec
from voxtile.preparation.plan import Plan, make_plan
from voxtile.reading.channels import read_channels
from voxtile.reading.reference import read_reference
from voxtile.reading.scan import ReadPolicy
from voxtile.report.quality import Observation
from voxtile.report.tables import csv_text, report_table
from voxtile.run.attempt import Result, attempt
from voxtile.run.journal import Journal
from voxtile.run_folder.case_report import CaseReport, plain
from voxtile.scoring.rows import label_rows
from voxtile.scoring.score import Measures
from voxtile.training.choosing.evidence import of_view
from voxtile.volume import Volume

from .folds import Fold

HELD_OUT = "held_out.csv"
# Expected and real Dice of the held-out cases, from which the ensemble is calibrated.
OBSERVED = "held_out_dice.json"
FUSED = "fused"


def score_held_out(
    bundle: Bundle,
    fold: Fold,
    policy: ReadPolicy | None = None,
    *,
    advance: Callable[[], None] = lambda: None,
) -> pd.DataFrame:
    """Segment and score the held-out cases, and write ``held_out.csv`` into the bundle.

    The table has the columns of ``report.csv``, then `fold` and `view`. View
    "fused" is the bundle as a run uses it; if it has several views, each view
    alone follows, with the same thresholds and post-processing. A case that
    failed in a view has rows with status failed in that view's table.
    """
    plan = make_plan(bundle)
    models = load_models(bundle, choose_engine(bundle))
    judges = {FUSED: (bundle.spec, models)}
    if len(bundle.spec.views) > 1:
        judges |= {view: of_view(bundle.spec, models, view) for view in bundle.spec.views}
    reports: dict[str, list[CaseReport]] = {view: [] for view in judges}
    for case in fold.held_out:
        for view, report in _reports(case, judges, plan, policy):
            reports[view].append(report)
        advance()
    tables = {view: report_table(rows) for view, rows in reports.items()}
    parts = [table.assign(fold=fold.number, view=view) for view, table in tables.items()]
    whole = pd.concat(parts, ignore_index=True)
    write_json(bundle.folder / OBSERVED, [_observed(one) for one in reports[FUSED] if one.qc])
    write_text(bundle.folder / HELD_OUT, csv_text(whole))
    return whole


def read_observed(folder: Path) -> list[Observation] | None:
    """Return what the held-out cases say about the predicted Dice; None without the file."""
    try:
        rows = json.loads((folder / OBSERVED).read_bytes())
        return [Observation(group, tuple(expected), tuple(dice)) for group, expected, dice in rows]
    except (OSError, ValueError, TypeError):  # folds of earlier versions lack it
        return None


def _observed(report: CaseReport) -> list[Any]:
    """Return the group, the expected and the real Dice of a held-out case."""
    group = unit_name(report.group, report.case_id)
    return [group, report.qc["expected"], plain([row.dice for row in report.labels])]


def read_held_out(folder: Path) -> pd.DataFrame | None:
    """Return what `score_held_out` wrote; None if there is no file."""
    words = ("case_id", "label_name", "status", "group", "view", "split")
    try:
        # Only an empty cell is a missing value: a label may be called None, and a group n/a.
        table = pd.read_csv(
            folder / HELD_OUT,
            dtype=dict.fromkeys(words, "object"),
            keep_default_na=False,
            na_values=[""],
            # This keeps every digit; it is the default from pandas 3 on.
            **({} if pd.__version__ >= "3" else {"float_precision": "round_trip"}),
        )
    except FileNotFoundError:
        return None
    table = table.rename(columns=unescaped)
    for word in words:
        table[word] = table[word].map(unescaped, na_action="ignore").astype("object")
    # A case without a group is its own group: None and not NaN, as in a report in memory.
    table["group"] = table["group"].where(table["group"].notna(), None)
    return table


def _reports(
    case: Case,
    judges: Mapping[str, tuple[ModelSpec, Sequence[Model]]],
    plan: Plan,
    policy: ReadPolicy | None,
) -> Iterator[tuple[str, CaseReport]]:
    """Yield exactly one report of a case for each view, whatever happens to it."""
    spec, _ = judges[FUSED]
    # Each scan is read once for all views; an error is not cached, so each view reports it.
    read = cache(lambda: _read(case, spec, policy))
    for view, (view_spec, models) in judges.items():

        def do(journal: Journal, spec: ModelSpec = view_spec, models: Any = models) -> Result:
            with journal.stage("read"):
                image, reference, notices = read()
                journal.note(notices)
            with journal.stage("infer"):
                watch = EntropyWatch(spec.activation, spec.thresholds)
                mask = infer(image, spec, models, plan, watch)
            with journal.stage("score"):
                rows = label_rows(mask, reference, spec.labels, Measures(ignore=spec.ignore))
                return Result(rows, qc={"expected": watch.expected_dice})

        # Further columns of the manifest are left out.
        yield view, attempt(replace(case, extras=()), spec.labels, do, measures=Measures())


def _read(
    case: Case, spec: ModelSpec, policy: ReadPolicy | None
) -> tuple[Volume, Volume, tuple[Notice, ...]]:
    """Read a scan and its reference, with the warnings of both."""
    if case.label is None:
        raise CaseError("no_label", "a held-out case needs a label")
    scan = read_channels(case, spec.channels, policy, spec.absent)
    try:
        reference, notices = read_reference(
            case.label,
            scan.volume,
            spec.labels,
            ignore=spec.ignore,
            unlabelled=spec.unlabelled,
        )
    except CaseError as error:  # training has no options for how labels are read
        raise CaseError(error.code, error.bare) from error
    return scan.volume, reference, (*scan.notices, *notices)
