"""Case records are written and read without loss, and damaged ones are refused."""

import json
from pathlib import Path

import pytest
from faulty import run_faulty, valid_cases

from voxtile.errors import ManifestError
from voxtile.run_folder.case_report import read_case_report, read_case_reports


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
    path = tmp_path / "case.json"
    for key in record.keys() - {"qc", "settings_sha256"}:
        path.write_text(json.dumps({name: record[name] for name in record if name != key}))
        with pytest.raises(ValueError, match=f"not a case report: it lacks {key}"):
            read_case_report(path)
    path.write_text(json.dumps({**record, "colour": 1}))
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
    path.write_text(json.dumps({**record, key: value}))
    with pytest.raises(ValueError, match=r"c000\.json is not a case report: "):
        read_case_report(path)
    with pytest.raises(ManifestError, match="run the case again"):
        read_case_reports(tmp_path / "out")
