"""Write the page of a training run: of a model, of folds, or of a run in progress."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from voxtile.models.bundle import load_bundle

from .bundle.training_page import write_progress_page, write_training_page
from .folds.cross_validation_page import cross_validation_table
from .folds.finished_folds import finished_folds
from .folds.folds_page import write_folds_page
from .folds.held_out import HELD_OUT
from .workfolder import IDENTITY


def page_of_training(folder: Path) -> Callable[[], Path] | None:
    """Return what writes the page of a training run; None if the folder holds none."""
    if (folder / "spec.json").is_file():
        return lambda: write_training_page(load_bundle(folder))
    if (folder / IDENTITY).is_file():
        return partial(write_progress_page, folder)
    names = [path.parent.name.removeprefix("fold") for path in folder.glob(f"fold*/{HELD_OUT}")]
    numbers = [int(name) for name in names if name.isdecimal()]
    return partial(_write_folds, folder, 1 + max(numbers)) if numbers else None


def _write_folds(out: Path, count: int) -> Path:
    """Write the page of the folds that are finished."""
    folds = finished_folds(out, count)
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    return write_folds_page(out, folds, cross_validation_table(table))
