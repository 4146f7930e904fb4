"""The verdict: which masks can be used, which must be looked at, and why."""

from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.report.domain import Flag
from voxtile.report.tables import report_table, run_verdict
from voxtile.report.verdict import DOUBTS, RULES, Verdict, count_verdicts, judge, judge_record
from voxtile.run_folder.case_report import CaseReport, failed_report, plain
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import LabelRow

LABELS = plain_labels({1: "one"})
FLAGS = st.builds(
    Flag,
    st.sampled_from([*RULES, "other"]),
    st.text("xyz", max_size=2),
    st.floats(0.1, 10),
    st.sampled_from([None, 1]),
)


def done(*flags: Flag, warnings=(), status="no_reference", dice=None) -> CaseReport:
    row = LabelRow(1, "one", status, dice=dice)
    qc = {"entropy": None, "scan": None, "flags": [asdict(flag) for flag in flags]}
    report = CaseReport.of(Case("a", (("image", Path()),)), (row,))
    return replace(report, qc=qc, warnings=tuple(warnings))


FAILED = failed_report(Case("f", (("image", Path()),)), LABELS, Notice("empty_file", "0 bytes"))


@given(st.lists(FLAGS, max_size=4))
def test_the_order_of_flags_does_not_change_a_verdict(flags) -> None:
    verdicts = {judge(done(*order)) for order in permutations(flags)}
    words = {(one.word, frozenset(one.reasons)) for one in verdicts}
    assert len(words) == 1
    assert {tuple(reason.code for reason in one.reasons) for one in verdicts} == {
        tuple(reason.code for reason in next(iter(verdicts)).reasons)
    }


@given(st.lists(FLAGS, max_size=4), FLAGS)
def test_a_further_flag_never_makes_a_mask_usable(flags, further) -> None:
    before, after = judge(done(*flags)), judge(done(*flags, further))
    assert {*before.reasons} <= {*after.reasons}
    assert (after.word == "look") == bool(after.reasons)


@given(st.lists(FLAGS, max_size=3))
def test_a_record_has_the_verdict_of_its_report(flags) -> None:
    for report in (done(*flags), FAILED):
        assert judge_record(plain(report)) == judge(report)


@given(st.lists(st.sampled_from([*RULES, "", "failed"])), st.integers(0, 3))
def test_every_case_counts_once(codes, missing) -> None:
    verdicts = [
        Verdict("failed")
        if code == "failed"
        else Verdict("look", (Notice(code, ""),))
        if code
        else Verdict("usable")
        for code in codes
    ]
    counted = count_verdicts(verdicts, missing)
    whole = counted.usable + counted.failed + sum(counted.look.values()) + missing
    assert whole == len(codes) + missing
    assert counted.line.startswith(f"{whole} case{'' if whole == 1 else 's'}: ")


def test_the_page_about_the_verdict_has_every_rule_in_order_and_every_warning() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    text = (docs / "verdict.md").read_text("utf-8")
    table = text.partition("## The rules")[2].partition("\n\n[metrics.md]")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == list(RULES)
    warnings = (docs / "errors.md").read_text("utf-8")
    assert [code for code in DOUBTS if f"`{code}`" not in table] == []
    assert [code for code in DOUBTS if f"| `{code}` |" not in warnings] == []


def test_the_weightiest_reason_comes_first() -> None:
    flags = [Flag("border", "b", 9.0, 1), Flag("spacing", "s", 2.0), Flag("empty", "e", 5.0, 1)]
    verdict = judge(done(*flags, warnings=[Notice("form_conflict", "c"), Notice("unit", "u")]))
    assert [reason.code for reason in verdict.reasons] == ["empty", "scan", "spacing", "border"]
    assert str(verdict) == "look (empty, scan, spacing, border)"


@pytest.mark.parametrize("code", sorted(DOUBTS))
def test_a_doubtful_scan_is_a_reason(code) -> None:
    assert judge(done(warnings=[Notice(code, "said")])).reasons == (Notice("scan", "said"),)


def test_an_empty_mask_is_right_if_the_reference_is_empty() -> None:
    empty = Flag("empty", "no voxel", 5.0, 1)
    assert judge(done(empty, status="both_empty")).word == "usable"
    assert judge(done(empty, status="pred_empty", dice=0.0)).reasons == (
        Notice("empty", "no voxel"),
    )


def test_a_measured_dice_is_part_of_the_verdict() -> None:
    assert judge(done(status="ok", dice=0.7)).word == "usable"
    (reason,) = judge(done(status="ok", dice=0.6999)).reasons
    assert (reason.code, reason.sentence) == ("scored", "one has Dice 0.700 with the reference")


def test_the_line_of_a_run_is_the_one_that_the_issue_shows() -> None:
    codes = ("empty", "dice", "intensity", "empty")
    look = [Verdict("look", (Notice(code, ""),)) for code in codes]
    assert count_verdicts([Verdict("usable")] * 36 + look).line == (
        "40 cases: 36 usable, 4 to look at (2 empty, 1 predicted Dice perhaps below 0.7, "
        "1 outside the training's intensities), 0 failed"
    )
    assert count_verdicts([Verdict("usable")], 1).line == (
        "2 cases: 1 usable, 0 to look at, 0 failed, 1 missing"
    )


def test_a_reason_that_most_cases_have_is_said_once_on_top() -> None:
    reports = [
        replace(done(Flag("empty", "no voxel", 5.0, 1)), case_id=f"c{n}") for n in range(4)
    ] + [replace(done(), case_id="d"), FAILED]
    first, line = run_verdict(reports).lines
    assert first == (
        "4 of 5 masks: empty; check that the model fits these scans before you use any of their "
        "masks"
    )
    assert line == "6 cases: 1 usable, 4 to look at (4 empty), 1 failed"


def test_the_report_has_verdicts_with_reasons_and_predicted_dice() -> None:
    report = done(Flag("border", "touches", 1.0, 1))
    report.qc["dice"] = [{"label": 1, "predicted": 0.8, "lower": 0.75}]
    table = report_table([report, FAILED]).set_index("case_id")
    assert table.loc["a", ["verdict", "verdict_reasons"]].tolist() == ["look", "border: touches"]
    assert table.loc["a", ["dice_predicted", "dice_lower"]].tolist() == [0.8, 0.75]
    assert table.loc["f", "verdict"] == "failed"
    assert table.loc["f", "verdict_reasons"] == "empty_file: 0 bytes"
