"""`--json`: one object on standard output, with the numbers of the text; the rest elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import runner
from file_server import serving

from voxtile.cli import app
from voxtile.engines.measurements import PHANTOM, Evidence, Measurement

PAGE = (Path(__file__).resolve().parents[2] / "docs/json.md").read_text()


def answer_of(*words: object, code: int = 0) -> tuple[Any, str]:
    """The JSON object of a command, whose keys docs/json.md names, and its other lines."""
    is_group = words[0] in ("models", "manifest")
    done = runner.invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == code, done.output
    answer = json.loads(done.stdout)
    kind = next((word for word in ("--methods", "--dry-run") if word in words), "")
    name = " ".join([*map(str, words[: 1 + is_group]), kind]).rstrip()
    (row,) = (line for line in PAGE.splitlines() if f"`voxtile {name}`" in line.split(" | ")[0])
    for named in re.findall(r"\bas `voxtile (\w+)`", row):
        row += next(line for line in PAGE.splitlines() if line.startswith(f"| `voxtile {named}`"))
    assert [key for key in answer if f"`{key}`" not in row] == []
    return answer, done.stderr


def text_of(*words: object) -> str:
    return runner.invoke(app, list(map(str, words))).stdout


def test_a_run_answers_with_what_it_prints(cohort: Path) -> None:
    words = ("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out", "--no-html")
    answer, lines = answer_of(*words)
    assert "1 done, 0 failed" in lines
    assert (answer["cases"], answer["done"], answer["failed"], answer["not_run"]) == (1, 1, 0, 0)
    assert answer["manifest"] == str(cohort / "good.csv")
    assert answer["page"] is None
    (row,) = answer["dice"]
    text = text_of(*words)
    assert f"  {row['label_name']}: mean Dice {row['mean']:.4f}" in text
    assert f"worst {row['worst_case']} {row['worst']:.3f}" in text
    assert answer_of(*words, "--quiet")[1] == ""


def test_a_run_with_a_failed_case_answers_with_its_reason(cohort: Path) -> None:
    words = ("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out", "--no-html")
    answer, _ = answer_of(*words, code=3)
    (failure,) = answer["failures"]
    assert (failure["case_id"], failure["reason"]["code"]) == ("b", "empty_file")
    assert (answer["done"], answer["failed"]) == (1, 1)


def test_a_dry_run_a_plan_and_a_status_answer_too(cohort: Path) -> None:
    words = (cohort / "good.csv", cohort / "model")
    answer, lines = answer_of("run", *words, "--out", cohort / "out", "--dry-run")
    assert (answer["cases"], "dry run: nothing was written" in lines) == (["a"], True)
    planned, _ = answer_of("plan", *words)
    assert planned.keys() == answer["forecast"].keys()
    assert (
        runner.invoke(app, ["run", *map(str, words), "--out", str(cohort / "out")]).exit_code == 0
    )
    assert answer_of("status", cohort / "out")[0]["done"] == 1
    assert answer_of("manifest", "check", cohort / "good.csv")[0]["ok"] is True


def test_an_error_leaves_standard_output_empty(cohort: Path) -> None:
    words = ["run", cohort / "wrong.csv", cohort / "model", "--out", cohort / "out", "--json"]
    done = runner.invoke(app, list(map(str, words)))
    assert (done.exit_code, done.stdout) == (4, "")
    assert "line 3" in done.stderr


def test_segment_answers_with_the_volume_of_each_label(cohort: Path) -> None:
    words = ("segment", cohort / "a.nii.gz", cohort / "model", cohort / "m.nii.gz")
    answer, _ = answer_of(*words)
    assert answer["mask"] == str(cohort / "m.nii.gz")
    text = text_of(*words)
    for row in answer["labels"]:
        line = f"{row['label_name']}: {row['voxels']} voxels, {row['volume_ml']:.3f} ml"
        assert line in text


def test_doctor_and_the_list_of_models_answer_with_each_line(tmp_path: Path) -> None:
    answer, lines = answer_of("doctor", "--out", tmp_path)
    assert answer["ok"] is True
    assert all(one["words"].split(" GB")[0] in lines for one in answer["findings"])
    models, _ = answer_of("models", "list")
    text = text_of("models", "list")
    for model in models["models"]:
        assert f"{model['name']}: {model['description']}" in text
        for label in model["labels"]:
            assert f"  {label['value']}  {label['name']}" in text


def test_an_evaluation_answers_with_its_scores(cohort: Path) -> None:
    (cohort / "p").mkdir()
    (cohort / "p/a.nii.gz").write_bytes((cohort / "l.nii.gz").read_bytes())
    words = ("evaluate", cohort / "good.csv", "--predictions", cohort / "p", "--out", cohort / "e")
    answer, lines = answer_of(*words, "--no-html")
    assert "1 done, 0 failed" in lines
    (row,) = answer["dice"]
    assert (answer["done"], row["mean"], row["worst_case"]) == (1, 1.0, "a")


def test_merged_shards_and_a_report_answer_as_an_evaluation_does(cohort: Path) -> None:
    words = ("run", cohort / "mixed.csv", cohort / "model", "--out", cohort / "out")
    runner.invoke(app, [*map(str, words), "--shard", "1/2"])
    answer, lines = answer_of("merge", cohort / "out", "--no-html", code=3)
    assert "1 done, 0 failed, 1 missing of 2" in lines
    assert (answer["done"], answer["failed"], [*answer["missing"]]) == (1, 0, ["b"])
    runner.invoke(app, [*map(str, words), "--shard", "2/2"])
    answer_of("merge", cohort / "out", "--no-html", code=3)
    answer, _ = answer_of("report", cohort / "out", code=3)
    assert (answer["done"], answer["failed"], answer["missing"]) == (1, 1, {})
    assert answer["page"] == str(cohort / "out/report.html")
    methods, _ = answer_of("report", cohort / "out", "--methods")
    assert [*methods] == ["text", "markdown", "bibtex"]
    assert methods["text"] in text_of("report", cohort / "out", "--methods")


def test_exports_and_a_converted_scan_answer_with_what_was_written(cohort: Path) -> None:
    words = ("run", cohort / "good.csv", cohort / "model", "--out", cohort / "out", "--no-html")
    assert runner.invoke(app, [*map(str, words)]).exit_code == 0
    answer, lines = answer_of("export", cohort / "out", "--to", "stl,dicom-seg", code=3)
    assert (answer["exported"], answer["failed"], answer["missing"]) == (1, 1, [])
    assert [one["reason"] and one["reason"]["code"] for one in answer["results"]] == [
        None,
        "no_source",
    ]
    assert "a  stl  done" in lines
    answer, lines = answer_of("convert", cohort / "a.nii.gz", cohort / "c.nii.gz")
    assert (answer["volume"], answer["shape"]) == (str(cohort / "c.nii.gz"), [24, 20, 12])
    assert (answer["values"], answer["orientation"]) == ([0, 100], "RAS")
    assert "spacing: 1.2 x 1.5 x 2.5 mm" in lines


def test_measured_engines_answer_with_the_evidence(cohort: Path, monkeypatch) -> None:
    one = Measurement("keras", "float32", "3", 1.0, {"ball": 0.0}, 12.5)
    evidence = Evidence("0" * 64, "a processor", 2, PHANTOM, 1, 4, False, "2026-11-28", (one,))
    monkeypatch.setattr("voxtile.measuring.engines.verify_model", lambda *_, **__: evidence)
    answer, lines = answer_of("models", "verify", cohort / "model")
    assert answer["measurements"][0]["tiles_per_s"] == 12.5
    assert (answer["chosen"], answer["saved"]) == ({"keras": "float32"}, None)
    assert "keras --precision auto: float32" in lines


def test_a_comparison_answers_with_its_rows(cohort: Path) -> None:
    for name in ("one", "two"):
        words = ("run", cohort / "good.csv", cohort / "model", "--out", cohort / name)
        assert runner.invoke(app, [*map(str, words), "--no-html"]).exit_code == 0
    words = ("compare", cohort / "one", cohort / "two", "--out", cohort / "c")
    answer, _ = answer_of(*words)
    assert [*answer] == ["runs", "rows", "changed_most", "incomplete", "comparison", "page"]
    text = text_of(*words)
    assert {row["metric"] for row in answer["rows"]} == {"dice", "hd95_mm", "assd_mm"}
    for row in answer["rows"]:
        mean = float("nan") if row["mean_difference"] is None else row["mean_difference"]
        assert f"{row['metric']}: {mean:+.4f}" in text
        assert f"n {row['n']}, wins {row['wins']}, ties {row['ties']}" in text


def test_packing_and_getting_a_model_answer_with_its_checksum(
    cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cohort / "model"
    (model / "README.md").write_text("It finds the ball.")
    (model / "LICENSE").write_text("CC0-1.0")
    packed, lines = answer_of("models", "pack", model, "--out", cohort / "m.zip")
    assert packed["sha256"] in lines
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VOXTILE_CACHE", str(cohort / "cache"))
    with serving((cohort / "m.zip").read_bytes()) as served:
        got, lines = answer_of("models", "get", served.url, "--sha256", packed["sha256"])
    assert (got["name"], got["new"], got["folder"] in lines) == (packed["name"], True, True)
    listed, _ = answer_of("models", "list")
    assert [one["name"] for one in listed["models"]] == ["hippocampus", got["name"]]
    assert answer_of("models", "list", "--remote")[0] == {"models": []}
    assert "It finds the ball." in text_of("models", "card", got["name"])
    words = ("segment", cohort / "a.nii.gz", got["name"], cohort / "m.nii.gz")
    assert answer_of(*words)[0]["mask"] == str(cohort / "m.nii.gz")
