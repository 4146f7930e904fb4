"""The table of columns: records, tables, pages and the document follow it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from voxtile.scoring.columns import (
    COLUMNS,
    column_named,
    is_column,
    metrics_of,
    nsd_column,
    nsd_tolerance,
)
from voxtile.scoring.score import Measures

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def documented() -> list[tuple[str, str]]:
    """Name and unit of each column in the table of the document."""
    section = DOCUMENT.read_text("utf-8").partition("## report.csv")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return [(name, unit.strip()) for names, unit in rows for name in re.findall("`(.+?)`", names)]


def test_the_document_has_the_columns_of_the_table_in_order_with_their_units() -> None:
    expected = [*COLUMNS, *map(column_named, Measures(nsd_area=True).columns)]
    assert documented() == [(column.name, column.unit) for column in expected]


def test_the_first_columns_of_a_report_never_change() -> None:
    assert " ".join(column.name for column in COLUMNS[:18]) == (
        "case_id label label_name status dice iou tp fp fn voxels_pred voxels_ref volume_ml_pred "
        "volume_ml_ref seconds reason warnings split group"
    )
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_headings_show_the_unit_of_a_measured_quantity() -> None:
    headings = [
        column_named(name).heading for name in ("dice", "volume_ml_ref", "nsd_0.5mm", "x_y")
    ]
    assert headings == ["Dice", "reference volume (ml)", "NSD at 0.5 mm", "x y"]


def test_lesions_are_summarised_only_if_they_were_measured() -> None:
    import pandas as pd

    names = ["case_id", "tp", "dice", "lesion_f1", "nsd_2mm", "site"]
    table = pd.DataFrame([["a", 3, 0.5, None, 1.0, "x"]], columns=names)
    assert metrics_of(table) == ["dice", "nsd_2mm"]
    assert metrics_of(table.assign(lesion_f1=0.5)) == ["dice", "lesion_f1", "nsd_2mm"]


@pytest.mark.parametrize("tolerance", [0.5, 1, 2.0, 12.25])
def test_the_column_of_the_surface_dice_names_its_tolerance(tolerance) -> None:
    assert nsd_tolerance(nsd_column(tolerance)) == tolerance
    assert is_column(nsd_column(tolerance))


@pytest.mark.parametrize("name", ["nsd_mm", "nsd_xmm", "nsd_2", "site"])
def test_other_names_are_not_columns(name) -> None:
    assert nsd_tolerance(name) is None
    assert not is_column(name)


def test_measuring_does_not_import_pandas() -> None:
    code = "import sys, voxtile.scoring.rows; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
