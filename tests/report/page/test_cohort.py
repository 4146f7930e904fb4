"""The values of the page: engine, columns, order of cases, summary."""

from dataclasses import replace
from pathlib import Path

import pytest
from phantoms import LABELS

from voxtile.engines import Engine
from voxtile.report.page.cohort import cohort_data, worst_first
from voxtile.report.tables import report_table, write_reports
from voxtile.run_folder.case_report import read_run


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            Engine("openvino", "bfloat16", versions=(("openvino", "1.2"),)),
            "openvino 1.2 bfloat16 on cpu",
        ),
        (
            Engine("onnx", device="gpu:1", versions=(("onnxruntime", "3"),)),
            "onnx 3 float32 on gpu:1",
        ),
        (None, ""),
    ],
)
def test_the_page_names_the_engine_of_the_run(tmp_path: Path, engine: Engine | None, words) -> None:
    facts = {} if engine is None else {"engine": engine.facts()}
    assert cohort_data(tmp_path, [], (), facts)["run"]["engine"] == words


def test_columns_of_the_page_have_the_titles_of_the_table(tmp_path: Path, run_folder: Path) -> None:
    (done, *_) = read_run(run_folder / "out").reports
    row = replace(done.labels[0], nsd={"nsd_0.5mm": 0.25})
    reports = [replace(done, labels=(row,), extras={"scan_site": "x"})]
    columns = cohort_data(tmp_path, reports, LABELS, {})["columns"]
    titles = {column["key"]: column["title"] for part in columns.values() for column in part}
    assert titles["nsd_0.5mm"] == "NSD at 0.5 mm"
    assert titles["hd95_mm"] == "HD95 (mm)"
    assert (titles["volume_ml_pred"], titles["scan_site"]) == ("Predicted volume (ml)", "Scan site")
    facts = {column["key"]: column for column in columns["label"]}
    assert [facts[name]["better"] for name in ("dice", "hd_mm", "tp")] == ["higher", "lower", None]
    assert [facts[name]["whole"] for name in ("dice", "tp")] == [False, True]


def test_failed_cases_come_first_then_the_lowest_dice(run_folder: Path) -> None:
    reports = list(read_run(run_folder / "out").reports)
    failed = replace(reports[0], case_id="x", status="failed", labels=())
    assert [one.case_id for one in worst_first(reports, report_table(reports))] == [
        "c2",
        "c0",
        "c1",
    ]
    assert worst_first([*reports, failed], report_table(reports))[0] is failed


def test_ids_and_groups_of_the_summary_stay_text_if_they_look_like_numbers(
    tmp_path: Path, run_folder: Path
) -> None:
    done = read_run(run_folder / "out").reports
    reports = [replace(done[0], case_id="007", extras={"site": "1e5"})]
    write_reports(tmp_path / "new", reports, by=["site"])
    summary = cohort_data(tmp_path / "new", reports, LABELS, {})["summary"]
    rows = [dict(zip(summary["header"], row, strict=True)) for row in summary["rows"]]
    dice = [row for row in rows if row["metric"] == "dice"]
    assert [(row["worst_case"], row["by_value"]) for row in dice] == [("007", None), ("007", "1e5")]
    assert [row["n"] for row in dice] == [1, 1]
