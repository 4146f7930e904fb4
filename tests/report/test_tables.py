"""report.csv: its order, and cells that look like formulas."""

from pathlib import Path

import pandas as pd
import pytest
from reports import case, write_run

from voxtile.errors import ManifestError
from voxtile.report.tables import csv_text, write_reports
from voxtile.run_folder.case_report import read_run
from voxtile.run_folder.facts import write_facts
from voxtile.run_folder.layout import RunFolder


def test_cases_are_read_in_the_order_of_the_report(tmp_path: Path) -> None:
    reports = [case("b", 80), case("c", 80), case("a", 80)]
    out = write_run(tmp_path / "run", reports)
    before = (out / "report.csv").read_bytes()
    assert [report.case_id for report in read_run(out).reports] == ["b", "c", "a"]
    write_reports(out, read_run(out).reports)
    assert (out / "report.csv").read_bytes() == before
    (out / "report.csv").unlink()
    assert [report.case_id for report in read_run(out).reports] == ["b", "c", "a"]
    # An evaluation of version 0.1.0 did not record its cases.
    write_facts(RunFolder(out), {"labels": []})
    assert [report.case_id for report in read_run(out).reports] == ["a", "b", "c"]
    for path in (out / "cases").iterdir():
        path.write_text("{")
    with pytest.raises(ManifestError, match="its record is damaged: it is not valid JSON"):
        read_run(out)


def test_cells_that_look_like_formulas_get_an_apostrophe() -> None:
    table = pd.DataFrame({"=a": ["=1+1", "-5"], "n": [1, 2]})
    assert csv_text(table).splitlines() == ["'=a,n", "'=1+1,1", "-5,2"]
