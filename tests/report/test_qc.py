"""Flags: of a case alone, and in comparison with the other cases of its run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import ball, make_spec
from runs import add_case, run, write_manifest

from voxtile.case import Case
from voxtile.errors import Notice
from voxtile.report.qc import flag_cases, inspect_case
from voxtile.report.tables import report_table
from voxtile.run.job import RunSettings
from voxtile.run_folder.case_report import CaseReport, failed_report
from voxtile.scoring.overlap import plain_labels
from voxtile.scoring.rows import LabelRow, label_rows
from voxtile.scoring.score import Measures
from voxtile.volume import Volume
from voxtile.writing.nifti import write_volume

LABELS = plain_labels({1: "one", 2: "two"})


def inspected(array: np.ndarray, affine=None, **more) -> dict[str, object]:
    mask = Volume(array.astype(np.uint8), np.eye(4) if affine is None else affine)
    rows = label_rows(mask, None, LABELS, Measures())
    return inspect_case(mask, LABELS, rows, **more)


def codes(qc: dict[str, object]) -> list[tuple[str, int | None]]:
    return [(flag["code"], flag["label"]) for flag in qc["flags"]]


def test_an_empty_label_and_a_label_at_the_border_are_flagged() -> None:
    array = np.zeros((6, 6, 6))
    array[2:4, 2:4, 2:4] = 2
    assert codes(inspected(array)) == [("empty", 1)]
    array[0, 3, 3] = 1
    (flag,) = inspected(array)["flags"]
    assert flag["sentence"] == "one touches the left border of the scan"
    (flag,) = inspected(array, np.diag([-1, 1, 1, 1]))["flags"]
    assert "right border" in flag["sentence"]
    array[1, 3, 5] = array[1, 3, 0] = 1
    (flag,) = inspected(array)["flags"]
    assert "left, inferior, superior" in flag["sentence"]


def test_a_border_that_labels_touch_in_training_too_is_no_flag() -> None:
    array = np.zeros((6, 6, 6))
    array[2, 2, :3], array[2, 0, 3] = 1, 2  # inferior and posterior
    spec = make_spec(training={"domain": {"faces": {"1": {"cases": 9, "inferior": 8}}}})
    (flag,) = inspected(array, spec=spec)["flags"]
    assert (flag["label"], flag["sentence"]) == (2, "two touches the posterior border of the scan")
    array[2, 5, 2] = 1
    first, second = inspected(array, spec=spec)["flags"]
    assert first["sentence"] == "one touches the anterior border of the scan"
    assert second["label"] == 2


def test_an_axis_with_a_single_plane_has_no_border() -> None:
    array = np.zeros((6, 6, 1))
    array[2:4, 2:4], array[3, 3] = 1, 2
    assert codes(inspected(array)) == []


def case(case_id: str, *, volume_ml=10.0, parts=1, entropy=0.1, flags=()) -> CaseReport:
    row = LabelRow(1, "one", "no_reference", volume_ml_pred=volume_ml, components_pred=parts)
    qc = {"entropy": entropy, "flags": list(flags)}
    return CaseReport(
        case_id, "done", None, (), "", (row,), {}, {}, {}, 1, None, None, None, {}, qc
    )


def flag(code: str, severity: float, label: int | None = 1) -> dict[str, object]:
    return {"code": code, "sentence": "said", "severity": severity, "label": label}


def usual(count: int = 9) -> list[CaseReport]:
    return [
        case(f"c{n}", volume_ml=10 + n % 3, parts=1 + n % 2, entropy=0.1 + n / 100)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        ({"volume_ml": 40.0}, "volume"),
        ({"volume_ml": 2.5}, "volume"),
        ({"parts": 30}, "components"),
        ({"entropy": 0.6}, "entropy"),
    ],
)
def test_only_the_outlier_is_flagged(odd, code) -> None:
    flagged = flag_cases([*usual(), case("odd", **odd)])
    assert [part.code for part in flagged["odd"].flags] == [code]
    assert flagged["odd"].rank == 1
    assert code + ":" in flagged["odd"].of_label(1)
    assert all(not flagged[f"c{n}"].flags and flagged[f"c{n}"].rank is None for n in range(9))


def test_a_low_entropy_is_not_flagged() -> None:
    assert not flag_cases([*usual(), case("sure", entropy=0.0)])["sure"].flags


def test_equal_cases_are_not_outliers_of_each_other() -> None:
    reports = [case(f"c{n}", volume_ml=10 + 1e-9 * n, entropy=0.1 + 1e-9 * n) for n in range(9)]
    assert not any(part.flags for part in flag_cases(reports).values())


def test_a_few_cases_are_not_a_cohort() -> None:
    assert not any(
        part.flags for part in flag_cases([*usual(3), case("odd", volume_ml=400.0)]).values()
    )


def test_flags_that_most_cases_have_still_count() -> None:
    own = (flag("border", 1), flag("intensity", 4, None))
    flagged = flag_cases([case(f"c{n}", flags=own) for n in range(6)] + [case("x")])
    assert [part.code for part in flagged["c0"].flags] == ["intensity", "border"]


def test_the_most_severe_is_first_and_failed_cases_have_no_rank() -> None:
    reports = [
        case("b", flags=[flag("border", 1)]),
        case("d", flags=[flag("border", 1)]),
        case("a", flags=[flag("empty", 5)]),
        case("c", flags=[flag("empty", 5), flag("spacing", 1, None)]),
        failed_report(Case("f", (("image", Path()),)), LABELS[:1], Notice("x", "y")),
    ]
    table = report_table(reports).set_index("case_id")
    assert table["qc_rank"].dropna().to_dict() == {"c": 1, "a": 2, "b": 3, "d": 4}
    assert table.loc["c", "qc_flags"] == "empty: said; spacing: said"


def test_a_run_flags_ranks_and_draws_its_cases(tmp_path: Path) -> None:
    rows = [add_case(tmp_path, f"c{n}", label=n > 0) for n in range(6)]
    image, _ = ball()
    cut = np.zeros_like(image.array)
    cut[:20, :16, :8] = 100
    write_volume(tmp_path / "c1.nii.gz", image.with_array(cut))
    result = run(write_manifest(tmp_path, rows), tmp_path / "out")
    assert not result.failed
    table = report_table(result.reports).set_index("case_id")
    assert table.loc["c1", "qc_rank"] == 1
    assert (
        "border: ball touches the left, posterior, inferior border" in table.loc["c1", "qc_flags"]
    )
    assert "volume: ball has" in table.loc["c1", "qc_flags"]
    assert table["qc_rank"].notna().sum() == 1
    kept = json.loads((tmp_path / "out/cases/c1.json").read_text())["qc"]
    assert [part["code"] for part in kept["flags"]] == ["border"]
    assert (kept["entropy"], kept["scan"]["spacing_mm"]) == (0, [1.2, 1.5, 2.5])
    assert sorted(path.name for path in (tmp_path / "out/qc").iterdir()) == [
        f"c{n}.png" for n in range(6)
    ]


def test_pictures_can_be_left_out_and_tolerances_chosen(tmp_path: Path) -> None:
    rows = [{**add_case(tmp_path, "a"), "scanner": "X"}]
    settings = RunSettings(montages=False, measures=Measures(nsd_mm=(0.5,)), by=("scanner",))
    result = run(write_manifest(tmp_path, rows), tmp_path / "out", settings=settings)
    assert not (tmp_path / "out/qc").exists()
    table = report_table(result.reports)
    assert list(table.columns[-2:]) == ["nsd_0.5mm", "scanner"]
    assert "scanner,X" in (tmp_path / "out/summary.csv").read_text()
    other = replace(settings, measures=Measures(nsd_mm=(0.5, 3.0)))
    again = run(write_manifest(tmp_path, rows), tmp_path / "2", settings=other)
    assert again.reports[0].fingerprint != result.reports[0].fingerprint
