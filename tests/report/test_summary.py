"""Summaries, intervals and comparisons: numbers by hand, laws, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from voxtile.case import Case
from voxtile.errors import ManifestError, Notice
from voxtile.report.bootstrap import mean_intervals
from voxtile.report.comparison import compare_runs, most_changed, write_comparison
from voxtile.report.summary import summary_json, summary_latex, summary_markdown, summary_table
from voxtile.report.tables import check_columns, csv_text, report_table, write_reports
from voxtile.run_folder.case_report import CaseReport, failed_report, read_case_reports, scored_row
from voxtile.scoring.overlap import Overlap, plain_labels
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


def row_of(summary: pd.DataFrame, metric: str, label: int = 1, **where) -> dict[str, object]:
    wanted = (summary["metric"] == metric) & (summary["label"] == label)
    for column, value in where.items():
        wanted &= summary[column] == value
    (row,) = summary[wanted].to_dict(orient="records")
    return row


def test_numbers_by_hand() -> None:
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


def test_tables_for_people_are_escaped() -> None:
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


def test_lesions_are_summarised_only_where_asked_for() -> None:
    assert not summary_table(report_table(cohort(80)))["metric"].str.startswith("lesion").any()


# Intervals


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.randoms())
@settings(max_examples=25, deadline=None)
def test_an_interval_does_not_depend_on_order_and_lies_within_the_values(values, random) -> None:
    groups = [f"g{number % 7}" for number in range(len(values))]
    pairs = list(zip(values, groups, strict=True))
    (low, high) = mean_intervals(np.array(values)[:, None], groups)[0]
    random.shuffle(pairs)
    mixed = mean_intervals(np.array([[value] for value, _ in pairs]), [g for _, g in pairs])[0]
    assert (low, high) == tuple(mixed)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_an_interval_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = mean_intervals(values[:, None], [str(n) for n in range(400)])[0]
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_scans_of_one_patient_do_not_tell_more() -> None:
    values = np.random.default_rng(2).normal(0, 1, 30)
    once = mean_intervals(values[:, None], [f"p{n}" for n in range(30)])[0]
    tenfold = np.repeat(values, 10)[:, None]
    grouped = mean_intervals(tenfold, [f"p{n // 10}" for n in range(300)])[0]
    alone = mean_intervals(tenfold, [f"c{n}" for n in range(300)])[0]
    assert np.diff(grouped) == pytest.approx(np.diff(once), rel=0.1)
    assert np.diff(alone) < 0.5 * np.diff(grouped)


def test_one_patient_gives_no_interval() -> None:
    values = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, np.nan]])
    assert np.isnan(mean_intervals(values, ["p", "p", "p"])).all()
    assert np.isnan(mean_intervals(values, ["a", "b", "c"])[1]).all()


# Comparisons


def write_run(folder: Path, reports: list[CaseReport]) -> Path:
    (folder / "cases").mkdir(parents=True)
    for report in reports:
        (folder / "cases" / f"{report.case_id}.json").write_text(report.dump())
    write_reports(folder, reports)
    return folder


def test_runs_are_compared_by_hand(tmp_path: Path) -> None:
    dice = [50, 60, 70, 80, 90, 55, 65, 75]
    better = [60, 65, 70, 95, 92, 50, 80, 76]
    runs = [
        write_run(tmp_path / "old", [*cohort(*dice), case("only_old", 90)]),
        write_run(tmp_path / "new", [*cohort(*better), case("only_new", 90)]),
        write_run(tmp_path / "same", cohort(*dice)),
    ]
    comparison = compare_runs(runs)
    assert comparison.runs == ("old", "new", "same")
    row = row_of(comparison.summary, "dice", run_b="new")
    gains = (np.array(better) - dice) / 100
    assert (row["n"], row["n_only_a"], row["n_only_b"]) == (8, 1, 1)
    assert (row["wins"], row["ties"], row["losses"]) == (6, 1, 1)
    assert row["mean_difference"] == pytest.approx(gains.mean())
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]
    assert row["p"] == pytest.approx(wilcoxon(gains[gains != 0].round(9)).pvalue)
    same = row_of(comparison.summary, "dice", run_b="same")
    assert (same["p"], same["p_holm"], same["ties"]) == (1, 1, 8)
    changed = list(most_changed(comparison, "dice", 2))
    assert [part["case_id"] for part in changed] == ["c03", "c06"]
    assert changed[0]["outcome"] == "win"

    write_comparison(tmp_path / "out", comparison)
    with (tmp_path / "out/comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 3
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["runs"] == ["old", "new", "same"]
    assert any(part["case_id"] == "c03" for part in content["cases"])


def test_fewer_millimetres_are_a_win(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, [case(f"c{n}", 80, far_mm=far + n / 10) for n in range(6)])
        for name, far in (("a", 3.0), ("b", 2.0))
    ]
    row = row_of(compare_runs(runs, ["hd95_mm"]).summary, "hd95_mm")
    assert (row["wins"], row["losses"], row["p"]) == (6, 0, 2 / 2**6)
    assert row["mean_difference"] == pytest.approx(-1)


def test_cases_of_one_patient_are_one_unit_of_the_test(tmp_path: Path) -> None:
    def reports(gain: int) -> list[CaseReport]:
        return [case(f"c{n}", 50 + n + gain, group=f"p{n // 4}") for n in range(20)]

    runs = [write_run(tmp_path / "a", reports(0)), write_run(tmp_path / "b", reports(5))]
    row = row_of(compare_runs(runs, ["dice"]).summary, "dice")
    assert (row["n"], row["n_units"], row["p"]) == (20, 5, 2 / 2**5)


def test_changes_of_one_patient_that_cancel_are_none(tmp_path: Path) -> None:
    def reports(*dice: int) -> list[CaseReport]:
        return [case(f"c{n:02d}", tp, group=f"p{n // 3}") for n, tp in enumerate(dice)]

    runs = [
        write_run(tmp_path / "a", reports(*[50] * 12)),
        write_run(tmp_path / "b", reports(*[20, 60, 70] * 4)),
    ]
    row = row_of(compare_runs(runs, ["dice"]).summary, "dice")
    assert (row["wins"], row["losses"], row["n_units"], row["p"]) == (8, 4, 4, 1)


def test_holm_corrects_for_every_test(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, [case(f"c{n}", 50 + n + gain, far_mm=1 + n) for n in range(8)])
        for name, gain in (("a", 0), ("b", 9), ("c", 8))
    ]
    summary = compare_runs(runs, ["dice", "hd95_mm"]).summary
    tested = summary[summary["label"] == 1].sort_values("p")
    # Two tests at 2/256 and two at 1; the least is multiplied by four, the next by three.
    assert tested["p"].tolist() == [2 / 256, 2 / 256, 1, 1]
    assert tested["p_holm"].tolist() == [8 / 256, 8 / 256, 1, 1]
    assert summary[summary["label"] == 2]["p_holm"].isna().all()


def test_other_references_are_not_compared(tmp_path: Path) -> None:
    changed = cohort(80, 90)
    rows = json.loads(changed[0].dump())
    rows["labels"][0]["voxels_ref"] = 99
    one, other = write_run(tmp_path / "a", cohort(70, 80)), write_run(tmp_path / "b", changed)
    (other / "cases/c00.json").write_text(json.dumps(rows))
    row = row_of(compare_runs([one, other]).summary, "dice")
    assert (row["n"], row["n_other_reference"]) == (1, 1)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", cohort(70, 80))
    other = write_run(tmp_path / "b", [case("x", 80)])
    with pytest.raises(ManifestError, match="a and b share no case and label"):
        compare_runs([one, other])
    with pytest.raises(ManifestError, match="needs two or more"):
        compare_runs([one])
    with pytest.raises(ManifestError, match="given twice"):
        compare_runs([one, one])
    with pytest.raises(ManifestError, match="is not a run folder"):
        compare_runs([one, tmp_path])
    with pytest.raises(ManifestError, match="run a has no 'seconds' to compare; it has dice"):
        compare_runs([one, other], ["seconds"])
    renamed = json.loads(case("c00", 70).dump())
    renamed["labels"][0]["label_name"] = "spleen"
    (other / "cases/c00.json").write_text(json.dumps(renamed))
    with pytest.raises(ManifestError, match="label 1 is 'liver' in a but 'spleen' in b"):
        compare_runs([one, other])


def test_cases_are_read_in_the_order_of_the_report(tmp_path: Path) -> None:
    reports = [case("b", 80), case("c", 80), case("a", 80)]
    out = write_run(tmp_path / "run", reports)
    before = (out / "report.csv").read_bytes()
    assert [report.case_id for report in read_case_reports(out)] == ["b", "c", "a"]
    write_reports(out, read_case_reports(out))
    assert (out / "report.csv").read_bytes() == before
    (out / "report.csv").unlink()
    assert [report.case_id for report in read_case_reports(out)] == ["a", "b", "c"]
    (out / "cases/a.json").write_text("{")
    with pytest.raises(ManifestError, match="not a case report"):
        read_case_reports(out)


def test_formulas_are_defused() -> None:
    table = pd.DataFrame({"=a": ["=1+1", "-5"], "n": [1, 2]})
    assert csv_text(table).splitlines() == ["'=a,n", "'=1+1,1", "-5,2"]
