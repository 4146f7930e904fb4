"""The page of a comparison says what the tables say, and shows the masks of all runs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import make_bundle, threshold_model
from reports import LABELS, case, cohort, write_run

from voxtile.batch.drive import run_manifest
from voxtile.errors import Notice, UsageError
from voxtile.report.comparison import compare_runs
from voxtile.report.page.comparison_data import comparison_data
from voxtile.report.page.comparison_page import write_comparison_page
from voxtile.report.page.page import resource, source_hash

EVIL = "<script>alert(1)</script>"


def pair(folder: Path, first: list, second: list, name: str = "new") -> Any:
    """Two runs, compared."""
    return compare_runs([write_run(folder / "old", first), write_run(folder / name, second)])


def values_of(data: dict[str, Any], case_id: str, position: int = 0) -> dict[str, Any]:
    """The values of one label of a case, by the key of their column."""
    (one,) = [one for one in data["cases"] if one["id"] == case_id]
    keys = [column["key"] for column in data["columns"]["label"]]
    return dict(zip(keys, one["labels"][position][1:], strict=True))


def test_the_case_that_changed_most_comes_first_with_the_values_of_both_runs(
    tmp_path: Path,
) -> None:
    data = comparison_data(pair(tmp_path, cohort(80, 50, 70), cohort(81, 75, 60)), LABELS)
    assert [one["id"] for one in data["cases"]] == ["c01", "c02", "c00"]
    values = values_of(data, "c01")
    assert (values["dice.A"], values["dice.B"], values["dice.change.B"]) == (0.5, 0.75, 0.25)
    assert (values["volume_ml_pred.A"], values["volume_ml_ref"]) == (0.1, 0.1)
    titles = {column["key"]: column["title"] for column in data["columns"]["label"]}
    assert titles["hd95_mm.change.B"] == "HD95 (mm), B - A"
    assert titles["volume_ml_pred.B"] == "Predicted volume (ml), B"
    header, rows = data["summary"]["header"], data["summary"]["rows"]
    (row,) = [row for row in rows if row[header.index("metric")] == "dice" and row[2] == 1]
    assert row[header.index("mean_difference")] == pytest.approx((0.01 + 0.25 - 0.1) / 3)


def test_a_case_of_one_run_or_of_another_reference_has_values_but_no_change(
    tmp_path: Path,
) -> None:
    second = [case("c00", 90), case("more", 90)]
    other = replace(second[0].labels[0], voxels_ref=99)
    second[0] = replace(second[0], labels=(other, second[0].labels[1]))
    data = comparison_data(pair(tmp_path, cohort(80, 70), second), LABELS)
    assert {one["id"] for one in data["cases"]} == {"c00", "c01", "more"}
    values = values_of(data, "c00")
    assert (values["dice.A"], values["dice.B"], values["dice.change.B"]) == (0.8, 0.9, None)
    assert (values_of(data, "c01")["dice.B"], values_of(data, "more")["dice.A"]) == (None, None)


def test_columns_of_the_manifest_filter_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    data = comparison_data(pair(tmp_path, cohort(80, site="X"), cohort(70, site="X")), LABELS)
    assert [one["key"] for one in data["columns"]["case"]] == ["verdict.A", "verdict.B", "site"]
    assert data["cases"][0]["values"][-1] == "X"


def test_several_runs_are_each_compared_with_the_first(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, cohort(tp)) for name, tp in (("a", 80), ("b", 85), ("c", 60))
    ]
    data = comparison_data(compare_runs(runs), LABELS)
    assert [run["letter"] for run in data["runs"]] == ["A", "B", "C"]
    values = values_of(data, "c00")
    assert (values["dice.change.B"], values["dice.change.C"]) == (0.05, -0.2)
    changes = {one["key"]: one["change"] for one in data["columns"]["label"] if "change" in one}
    assert (changes["dice.change.B"], changes["dice.change.C"]) == ("b", "c")


def test_only_scripts_of_voxtile_run_and_every_name_is_escaped(tmp_path: Path) -> None:
    second = [replace(case("c00", 70), extras={"site": EVIL})]
    comparison = pair(tmp_path, cohort(80), second, "<b>")
    text = write_comparison_page(tmp_path / "both", comparison).path.read_text("utf-8")
    assert "default-src &#x27;none&#x27;" in text
    assert EVIL not in text
    assert "<title>&lt;b&gt; against old" in text
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert source_hash(resource("comparison.js")) in {source_hash(script) for script in scripts}
    policy = text.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert {source_hash(script).replace("'", "&#x27;") for script in scripts} <= {*policy.split()}


def side_file(folder: Path, kind: str, case_id: str) -> Any:
    call = (folder / f"comparison_files/{kind}/{case_id}.js").read_text().split("\n", 1)[1]
    return json.loads(call[len("receive(") : -len(");\n")])["content"]


def test_pictures_have_the_masks_of_all_runs_in_the_slice_where_they_differ_most(
    run_folder: Path,
) -> None:
    def smaller(tiles: np.ndarray) -> np.ndarray:
        found = threshold_model(tiles).copy()
        found[:, : tiles.shape[1] // 2] = 0
        return found

    manifest = run_folder / "cases.csv"
    run_manifest(manifest, make_bundle(), run_folder / "half", models=[smaller])
    (run_folder / "out/report.html").write_text("")
    comparison = compare_runs([run_folder / "out", run_folder / "half"])
    out = run_folder / "both"
    page = write_comparison_page(out, comparison, manifest=manifest, most=2)
    assert len(page.pictured) == 2
    sections = side_file(out, "sections", page.pictured[0])
    assert sections[0]["why"] == "the masks of the runs differ most"
    first, second = sections[0]["masks"]
    assert first != second
    volumes = side_file(out, "volumes", page.pictured[0])
    assert len({*volumes["masks"]}) == 2
    data = json.loads(re.findall(r'id="report-data">(.*?)</script>', page.path.read_text())[0])
    assert data["cases"][0]["links"] == [["A: out", f"../out/report.html#case={page.pictured[0]}"]]

    # A run without a mask keeps its place, and pictures of before are gone.
    failed = replace(comparison.found[0].reports[0], status="failed", reason=Notice("x", "y"))
    found = (replace(comparison.found[0], reports=(failed,)), comparison.found[1])
    comparison = replace(comparison, found=found)
    page = write_comparison_page(out, comparison, manifest=manifest, most=None)
    sections = side_file(out, "sections", failed.case_id)
    assert [mask is None for mask in sections[0]["masks"]] == [True, False]
    (run_folder / "half/masks/c1.nii.gz").write_bytes(b"")
    page = write_comparison_page(out, comparison, manifest=manifest, most=None)
    assert dict(page.problems)["c1"].startswith("c1.nii.gz is not the mask that was scored")
    assert write_comparison_page(out, comparison).pictured == ()
    assert not (out / "comparison_files").exists()


def test_each_run_needs_its_folder_of_masks(tmp_path: Path) -> None:
    comparison = pair(tmp_path, cohort(80), cohort(70))
    with pytest.raises(UsageError, match="names 1 folder, but there are 2 runs; name one for each"):
        write_comparison_page(tmp_path / "both", comparison, predictions=[tmp_path])
