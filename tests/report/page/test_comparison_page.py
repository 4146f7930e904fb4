"""The page of a comparison says what the tables say, runs nothing, and escapes every name."""

import re
from pathlib import Path

import pandas as pd

from voxtile.report.comparison import CASE_COLUMNS, COLUMNS, Comparison
from voxtile.report.page.comparison_page import comparison_page, write_comparison_page

EVIL = "<script>alert(1)</script>"


def comparison() -> Comparison:
    row = {
        "run_a": "old",
        "run_b": "new",
        "label": 1,
        "label_name": EVIL,
        "metric": "dice",
        "n": 12,
        "mean_a": 0.8,
        "mean_b": 0.85,
        "mean_difference": 0.05,
        "ci_low": 0.02,
        "ci_high": 0.08,
        "wins": 9,
        "ties": 1,
        "losses": 2,
        "p_holm": 0.00003,
    }
    nothing = {**row, "label": 2, "label_name": "empty", "mean_difference": float("nan")}
    nothing |= {"ci_low": float("nan"), "ci_high": float("nan"), "p_holm": float("nan")}
    case = {**row, "case_id": "p001", "value_a": 0.5, "value_b": 0.75, "difference": 0.25}
    return Comparison(
        ("old", "new"),
        pd.DataFrame([row, nothing], columns=list(COLUMNS)),
        pd.DataFrame([{**case, "outcome": "win"}], columns=list(CASE_COLUMNS)),
    )


def test_the_comparison_page_has_the_numbers_of_the_tables() -> None:
    page = comparison_page(comparison())
    for words in ("+0.0500", "+0.0200 to +0.0800", "9 / 1 / 2", "&lt; 0.0001", "p001", "+0.2500"):
        assert words in page
    assert "higher is better" in page
    # Drawn where it is: the middle right of 0, as far as the mean is of the widest end.
    (middle,) = re.findall(r'<circle cx="([\d.]+)"', page)
    assert float(middle) == round(110 + 0.05 / 0.08 * 102, 1)


def test_the_comparison_page_has_no_scripts_and_escapes_every_name(tmp_path: Path) -> None:
    page = write_comparison_page(tmp_path, comparison()).read_text()
    assert "default-src &#x27;none&#x27;" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
