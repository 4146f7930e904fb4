"""The page of a cross-validation: folds side by side, held-out cases, the common recipe.

fold*/history.csv, fold*/held_out.csv, recipe.toml -> cross_validation.html
"""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.errors import counted
from voxtile.machine.files import write_text
from voxtile.report.page.cohort import summary_values
from voxtile.report.page.page import TRAINING, build_page
from voxtile.report.tables import csv_text
from voxtile.scoring.columns import Column, column_named, metrics_of
from voxtile.training.bundle.selection_card import choices_of
from voxtile.training.bundle.training_page import curves_of, recipe_table, training_data

from .finished_folds import FinishedFold
from .held_out import FUSED

PAGE = "cross_validation.html"
_ROW = ["case_id", "label"]


def write_folds_page(out: Path, folds: Sequence[FinishedFold], summary: pd.DataFrame) -> Path:
    """Write ``cross_validation.html`` beside finished folds, and return its path."""
    first = folds[0].bundle.spec
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    fused = table[table["view"] == FUSED].copy()
    # Text, so that folds are groups and not an axis.
    fused["fold"] = "fold " + fused["fold"].astype(str)
    columns = [column_named(name) for name in metrics_of(fused) if fused[name].notna().any()]
    for view in dict.fromkeys(table.loc[table["view"] != FUSED, "view"]):
        name, alone = f"dice.{view}", table[table["view"] == view].set_index(_ROW)["dice"]
        fused[name] = alone.reindex(pd.MultiIndex.from_frame(fused[_ROW])).to_numpy()
        columns.append(Column(name, f"Dice, {view} alone", "real", "0 to 1", "higher"))
    of_case = [column_named(name) for name in ("fold", "group") if fused[name].notna().any()]
    count = first.training["fold"]["count"]
    cases = counted(fused["case_id"].nunique(), "case")
    rows = fused.sort_values("dice", kind="stable", na_position="first").to_dict("records")
    data = {
        **training_data(out.resolve().name, first.labels, rows, columns, of_case),
        "summary": summary_values(StringIO(csv_text(summary), newline="")),
        "lines": [
            f"{len(folds)} of {counted(count, 'fold')}, {cases}, each segmented by the fold that "
            "held it out."
        ],
        "held": "held-out cases",
        "curves": [
            curves_of(fold.bundle.folder, f"fold {fold.number}", fold.bundle.spec) for fold in folds
        ],
        "tables": [_folds(fused, folds), *recipe_table(out / "recipe.toml")],
    }
    path = out / PAGE
    write_text(path, build_page(TRAINING, data))
    return path


def _folds(fused: pd.DataFrame, folds: Sequence[FinishedFold]) -> dict[str, Any]:
    """Return the table of the folds."""
    labels = folds[0].bundle.spec.labels
    rows = []
    for fold in folds:
        of_fold = fused[fused["fold"] == f"fold {fold.number}"]
        means = [of_fold.loc[of_fold["label"] == label.value, "dice"].mean() for label in labels]
        facts = fold.bundle.spec.training
        rows.append(
            [
                str(fold.number),
                of_fold["case_id"].nunique(),
                *(None if pd.isna(mean) else round(float(mean), 4) for mean in means),
                f"{facts['fit_seconds'] / 60:.1f}",
                choices_of(fold.bundle.spec),
            ]
        )
    return {
        "title": "Folds",
        "header": [
            *("Fold", "Cases"),
            *(f"Mean Dice, {label.name}" for label in labels),
            *("Time of the fit (min)", "Chosen without the fold"),
        ],
        "rows": rows,
    }
