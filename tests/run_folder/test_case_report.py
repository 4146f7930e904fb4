"""Case records are written and read without loss, and damaged ones are refused."""

import json
from pathlib import Path

import pytest
from faulty import run_faulty, valid_cases

from voxtile.errors import ManifestError
from voxtile.machine.json_objects import sealed
from voxtile.run_folder.case_report import read_case_report, read_run

ROW = {"label": 1, "label_name": "ball", "status": "ok"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    manifest = valid_cases(folder, 2)
    (folder / "c001.nii.gz").write_bytes(b"")
    run_faulty(manifest, folder / "out")
    return folder / "out"


def test_a_record_that_is_read_and_written_again_is_equal(out: Path) -> None:
    for path in out.glob("cases/*.json"):
        assert read_case_report(path).dump() == path.read_text()


@pytest.mark.parametrize("case_id", ["c000", "c001"])
def test_a_record_without_one_of_its_keys_or_with_another_is_refused(
    out: Path, tmp_path: Path, case_id: str
) -> None:
    record = json.loads((out / f"cases/{case_id}.json").read_text())
    path = tmp_path / f"{case_id}.json"
    for key in record.keys() - {"qc", "settings_sha256", "thresholds", "digest", "text_digest"}:
        rest = {name: record[name] for name in record if name != key}
        path.write_text(json.dumps(sealed(rest)))
        with pytest.raises(ValueError, match=f"not a case report: it lacks {key}"):
            read_case_report(path)
    path.write_text(json.dumps(sealed({**record, "colour": 1})))
    with pytest.raises(ValueError, match="colour is not valid"):
        read_case_report(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("case_id", 1),
        ("status", "fine"),
        ("warnings", [{"code": "a"}]),
        ("labels", [{"label": 1, "label_name": "ball", "status": "ok", "dice": "1"}]),
        ("labels", [{"label": 1.5, "label_name": "ball", "status": "ok"}]),
        ("labels", {}),
        ("labels", [{**ROW, "precision": 2.91}]),
        ("labels", [{**ROW, "volume_ml_pred": -0.1}]),
        ("labels", [{**ROW, "tp": -1}]),
        ("labels", [{**ROW, "hd_mm": 1e30}]),
        ("labels", [{**ROW, "nsd": {"nsd_2mm": 1.1}}]),
        ("case_id", "c001"),
        ("qc", {"flags": [{"code": "empty"}, 1]}),
        ("extras", {"site": 1}),
        ("seconds", None),
        ("seconds", 10**30),
        ("peak_memory_mb", float("nan")),
    ],
)
def test_a_record_with_a_value_of_another_type_is_refused(
    out: Path, tmp_path: Path, key: str, value
) -> None:
    record = json.loads((out / "cases/c000.json").read_text())
    path = tmp_path / "out/cases/c000.json"
    path.parent.mkdir(parents=True)
    del record["digest"]  # as in a folder of version 0.1.0, where only the values are checked
    path.write_text(json.dumps({**record, key: value}))
    (tmp_path / "out/run.json").write_text('{"settings_sha256": "", "case_ids": ["c000"]}')
    with pytest.raises(ValueError, match=r"c000\.json is not a case report: "):
        read_case_report(path, sealed=False)
    with pytest.raises(ManifestError, match="run the case again"):
        read_run(tmp_path / "out")


def test_a_changed_digit_a_removed_record_and_one_of_another_run_are_named(
    out: Path, tmp_path: Path
) -> None:
    manifest = valid_cases(tmp_path, 5)
    run_faulty(manifest, tmp_path / "run")
    records = tmp_path / "run/cases"
    text = (records / "c000.json").read_text()
    (records / "c000.json").write_text(text.replace('"tp": ', '"tp": 1'))
    (records / "c001.json").unlink()
    (records / "c002.json").write_bytes((out / "cases/c000.json").read_bytes())
    (records / "c003.json").write_bytes((records / "c004.json").read_bytes())
    found = read_run(tmp_path / "run")
    assert found.counts == "1 done, 0 failed, 4 missing of 5"
    said = "\n".join(found.lines())
    assert "c000: its record is damaged: its content was changed after it was written" in said
    assert "c001: not done yet, or its record was removed" in said
    assert "c002, c003: its record is damaged: it is the record of another case" in said
    assert run_faulty(manifest, tmp_path / "run").kept == 1
    assert read_run(tmp_path / "run").counts == "5 done, 0 failed"


def test_records_without_digest_count_only_in_folders_of_version_0_1_0(tmp_path: Path) -> None:
    manifest, run = valid_cases(tmp_path, 2), tmp_path / "run"
    run_faulty(manifest, run)
    for path in run.glob("cases/*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: record[key] for key in record if key != "digest"}))
    with pytest.raises(ManifestError, match="its digest is missing"):
        read_run(run)
    facts = json.loads((run / "run.json").read_text())
    earlier = {key: facts[key] for key in facts if key not in ("digest", "number")}
    (run / "run.json").write_text(json.dumps({**earlier, "number": 1}))
    with pytest.raises(ManifestError, match=r"run\.json cannot be read \(its digest is missing"):
        read_run(run)
    (run / "run.json").write_text(json.dumps(earlier))
    assert read_run(run).counts == "2 done, 0 failed"
    # A run takes them over, and seals them.
    assert run_faulty(manifest, run).kept == 2
    assert all("digest" in json.loads(path.read_text()) for path in run.glob("cases/*.json"))
