"""Summaries: numbers by hand, subgroups, and tables for people."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports import LABELS, case, cohort, row_of

from voxtile.case import Case
from voxtile.errors import ManifestError, Notice
from voxtile.report.bootstrap import mean_intervals
from voxtile.report.summary import summary_json, summary_latex, summary_markdown, summary_table
from voxtile.report.summary_columns import check_columns
from voxtile.report.tables import report_table
from voxtile.run_folder.case_report import failed_report


def test_a_summary_has_the_numbers_computed_by_hand() -> None:
    reports = [
        *cohort(80, 90, 100),
        failed_report(Case("x", (("image", Path()),)), LABELS, Notice("a", "b")),
    ]
    summary = summary_table(report_table(reports))
    row = row_of(summary, "dice")
    assert (row["n"], row["n_used"], row["n_failed"], row["n_empty"]) == (4, 3, 1, 0)
    assert (row["mean"], row["sd"], row["median"]) == pytest.approx((0.9, 0.1, 0.9))
    assert (row["q1"], row["q3"]) == pytest.approx((0.85, 0.95))
    assert (row["worst"], row["worst_case"]) == (0.8, "c00")
    assert 0.8 <= row["ci_low"] < 0.9 < row["ci_high"] <= 1
    empty = row_of(summary, "dice", label=2)
    assert (empty["n"], empty["n_used"], empty["n_empty"]) == (4, 0, 3)
    assert all(pd.isna(empty[name]) for name in ("mean", "ci_low", "worst", "worst_case"))


@pytest.mark.parametrize("dtype", [None, "object", "string", "category"])
@pytest.mark.parametrize("nothing", [None, math.nan, pd.NA, ""])
def test_each_case_without_a_group_is_drawn_alone_however_pandas_says_so(nothing, dtype) -> None:
    table = report_table([case(f"c{number}", dice) for number, dice in enumerate((90, 95, 50, 10))])
    # Without a type pandas 2 takes object and pandas 3 str, which makes NaN of None.
    groups = pd.Series([*[nothing] * 6, "p", "p"], dtype=dtype)
    row = row_of(summary_table(table.assign(group=groups)), "dice")
    of_four_patients = mean_intervals(np.array([[0.9], [0.95], [0.5], [0.1]]), list("abcd"))[0]
    assert (row["ci_low"], row["ci_high"]) == tuple(of_four_patients)


def test_the_worst_distance_is_the_largest() -> None:
    reports = [case("near", 90, far_mm=1), case("far", 90, far_mm=7)]
    row = row_of(summary_table(report_table(reports)), "hd95_mm")
    assert (row["worst"], row["worst_case"]) == (7, "far")
    volume = row_of(summary_table(report_table(reports)), "volume_ml_pred")
    assert pd.isna(volume["worst"])


def test_subgroups_follow_the_whole_cohort() -> None:
    reports = [case("a", 50, scanner="X"), case("b", 70, scanner="Y"), case("c", 90, scanner="")]
    summary = summary_table(report_table(reports), by=["scanner"])
    assert list(dict.fromkeys(zip(summary["by"], summary["by_value"], strict=True))) == [
        ("", ""),
        ("scanner", ""),
        ("scanner", "X"),
        ("scanner", "Y"),
    ]
    assert row_of(summary, "dice", by="scanner", by_value="Y")["mean"] == 0.7
    assert row_of(summary, "dice", by="")["n"] == 3
    with pytest.raises(ValueError, match="cannot summarise by 'scaner'"):
        summary_table(report_table(reports), by=["scaner"])
    with pytest.raises(ManifestError, match="the manifest has split, group, scanner"):
        check_columns(["dice"], reports)


def test_markdown_and_latex_tables_are_escaped() -> None:
    reports = [case("a", 50, site="50 % {x}_~^"), *cohort(70, 80, 60, site="q")]
    summary = summary_table(report_table(reports), by=["site"])
    summary["label_name"] = "a_b & c|d"
    text, tex = summary_markdown(summary), summary_latex(summary)
    assert "| a_b & c\\|d | Dice | 4 of 4 | 0.650 ± 0.129 |" in text
    assert "## site: 50 % {x}" in text
    assert r"a\_b \& c|d & Dice & 4 of 4 & 0.650 $\pm$ 0.129 &" in tex
    assert r"site: 50 \% \{x\}\_\textasciitilde{}\textasciicircum{}." in tex
    assert tex.count("\\begin{table}") == tex.count("\\end{table}") == 3
    content = json.loads(summary_json(summary))
    assert content["interval"]["seed"] == 0
    assert content["rows"][0]["worst_case"] == "a"


def test_lesions_are_summarised_only_if_they_were_measured() -> None:
    assert not summary_table(report_table(cohort(80)))["metric"].str.startswith("lesion").any()
