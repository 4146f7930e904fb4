"""Comparisons of runs: numbers by hand, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports import case, cohort, row_of, write_run
from scipy.stats import wilcoxon

from voxtile.errors import ManifestError
from voxtile.machine.json_objects import sealed
from voxtile.report.comparison import compare_runs, most_changed, write_comparison
from voxtile.run_folder.case_report import CaseReport


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
    changed = list(most_changed(comparison.cases, "dice", 2))
    assert [part["case_id"] for part in changed] == ["c03", "c06"]
    assert changed[0]["outcome"] == "win"

    write_comparison(tmp_path / "out", comparison)
    with (tmp_path / "out/comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 3
    content = json.loads((tmp_path / "out/comparison.json").read_text())
    assert content["runs"] == ["old", "new", "same"]
    assert any(part["case_id"] == "c03" for part in content["cases"])


def test_a_smaller_distance_is_a_win(tmp_path: Path) -> None:
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


def test_a_group_that_only_one_run_states_counts_for_both(tmp_path: Path) -> None:
    def reports(gain: int, *groups: str | None) -> list[CaseReport]:
        return [case(f"c{n}", 50 + n + gain, group=group) for n, group in enumerate(groups)]

    one = write_run(tmp_path / "a", reports(0, None, None, None, "q", "q", None))
    two = write_run(tmp_path / "b", reports(5, "p", "p", None, None, None, None))
    for runs in ([one, two], [two, one]):
        assert row_of(compare_runs(runs, ["dice"]).summary, "dice")["n_units"] == 4


def test_changes_of_one_patient_that_cancel_count_as_no_change(tmp_path: Path) -> None:
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


def test_cases_with_different_references_are_not_compared(tmp_path: Path) -> None:
    changed = cohort(80, 90)
    rows = json.loads(changed[0].dump())
    rows["labels"][0]["voxels_ref"] = 99
    one, other = write_run(tmp_path / "a", cohort(70, 80)), write_run(tmp_path / "b", changed)
    (other / "cases/c00.json").write_text(json.dumps(sealed(rows)))
    row = row_of(compare_runs([one, other]).summary, "dice")
    assert (row["n"], row["n_other_reference"]) == (1, 1)


def test_many_labels_are_compared_without_a_table_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = pd.DataFrame.__init__
    monkeypatch.setattr(
        pd.DataFrame,
        "__init__",
        lambda *given, **options: made.append(1) or real(*given, **options),
    )
    counts = []
    for labels in (2, 30):
        runs = []
        for name in ("a", "b"):
            runs.append(write_run(tmp_path / f"{labels}/{name}", cohort(70, 80)))
            for path in (runs[-1] / "cases").iterdir():
                record = json.loads(path.read_text())
                row = record["labels"][0]
                names = [{"label": n, "label_name": f"l{n}"} for n in range(1, labels + 1)]
                record["labels"] = [row | name for name in names]
                path.write_text(json.dumps(sealed(record)))
        made.clear()
        assert len(compare_runs(runs).summary) == 3 * labels
        counts.append(len(made))
    assert counts[0] == counts[1]


def test_runs_that_cannot_be_compared_are_refused_with_the_reason(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a", cohort(70, 80))
    other = write_run(tmp_path / "b", [case("x", 80)])
    with pytest.raises(ManifestError, match="a and b have no case and label in common"):
        compare_runs([one, other])
    with pytest.raises(ManifestError, match="needs at least 2 runs, but got 1"):
        compare_runs([one])
    with pytest.raises(ManifestError, match="given twice"):
        compare_runs([one, one])
    (tmp_path / "link").symlink_to(one)
    with pytest.raises(ManifestError, match="given twice"):
        compare_runs([one, tmp_path / "link"])
    with pytest.raises(ManifestError, match="run folder"):
        compare_runs([one, tmp_path])
    with pytest.raises(ManifestError, match="cannot be compared by 'seconds'; choose from dice"):
        compare_runs([one, other], ["seconds"])
    write_run(tmp_path / "c/b", [case("c00", 70)])
    renamed = json.loads(case("c00", 70).dump())
    renamed["labels"][0]["label_name"] = "spleen"
    (tmp_path / "c/b/cases/c00.json").write_text(json.dumps(sealed(renamed)))
    with pytest.raises(ManifestError, match="label 1 is called 'liver' in a but 'spleen' in b"):
        compare_runs([one, tmp_path / "c/b"])
