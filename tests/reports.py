"""Records of finished cases with chosen overlaps and distances, and runs that hold them."""

from pathlib import Path

import numpy as np
import pandas as pd

from voxtile.report.tables import write_reports
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.facts import write_facts
from voxtile.run_folder.layout import RunFolder
from voxtile.scoring.overlap import Overlap, plain_labels
from voxtile.scoring.rows import scored_row
from voxtile.scoring.score import Measures, Score
from voxtile.scoring.surface import SurfaceDistances

LABELS = plain_labels({1: "liver", 2: "spleen"})


def case(case_id: str, tp: int, *, group: str | None = None, far_mm=1.0, **extras) -> CaseReport:
    """A finished case: of 100 voxels in each mask `tp` agree; the surfaces are `far_mm` apart."""
    away, none = np.full(4, far_mm), np.zeros(0)
    scores = (
        Score(
            1,
            "liver",
            Overlap(tp, 100 - tp, 100 - tp),
            SurfaceDistances(away, away),
            1,
            1,
            None,
            1e-3,
        ),
        Score(2, "spleen", Overlap(0, 0, 0), SurfaceDistances(none, none), 0, 0, None, 1e-3),
    )
    rows = tuple(scored_row(part, Measures()) for part in scores)
    return CaseReport(
        case_id, "done", None, (), "", rows, {}, {}, {}, 1.0, None, None, group, extras
    )


def cohort(*dice: int, **shared) -> list[CaseReport]:
    return [case(f"c{number:02d}", tp, **shared) for number, tp in enumerate(dice)]


def write_run(folder: Path, reports: list[CaseReport]) -> Path:
    (folder / "cases").mkdir(parents=True)
    for report in reports:
        (folder / "cases" / f"{report.case_id}.json").write_text(report.dump())
    write_facts(RunFolder(folder), {"case_ids": [report.case_id for report in reports]})
    write_reports(folder, reports)
    return folder


def row_of(summary: pd.DataFrame, metric: str, label: int = 1, **where) -> dict[str, object]:
    """The row of a summary or a comparison of one metric and label."""
    wanted = (summary["metric"] == metric) & (summary["label"] == label)
    for column, value in where.items():
        wanted &= summary[column] == value
    (row,) = summary[wanted].to_dict(orient="records")
    return row
