"""What run.json says of a run, and what is refused when it is damaged."""

import json
from pathlib import Path

import pytest

from voxtile.errors import ManifestError
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.facts import (
    newest,
    read_facts,
    read_shards,
    readable_facts,
    refuse_mixed,
    refuse_run,
)
from voxtile.run_folder.layout import RunFolder

FACTS = {
    "voxtile": "0.1.0",
    "started": "2026-01-01T10:00:00+00:00",
    "manifest": {"file": "m.csv", "sha256": "0"},
    "model": {"name": "organ", "sha256": "1", "channels": ["ct"]},
    "plan": [],
    "engine": {},
    "settings": {"policy": {"nan": "fill"}, "label_map": {"2": 1}},
    "labels": [{"value": 1, "name": "organ", "color": "#ff0000"}],
    "case_ids": ["a"],
    "settings_sha256": "first",
}


def current_settings(folder: RunFolder) -> str | None:
    found = newest(readable_facts(folder))
    return None if found is None else found.settings_sha256


def write(path: Path, **changes) -> Path:
    path.write_text(json.dumps({**FACTS, **changes}))
    return path


def test_facts_are_read_as_values(tmp_path: Path) -> None:
    facts = read_facts(write(tmp_path / "run.json"), "run again")
    assert (facts.model, facts.channels, facts.case_ids) == ("organ", ("ct",), ("a",))
    assert facts.is_segmentation
    assert facts.label_map() == {2: 1}
    assert facts.policy() == ReadPolicy(nan="fill")
    assert facts.labels()[0].name == "organ"


def test_choices_that_only_another_version_knows_are_left_out(tmp_path: Path) -> None:
    settings = {"policy": {"tilt": "native", "colour": "green"}}
    facts = read_facts(write(tmp_path / "run.json", settings=settings), "run again")
    assert facts.policy() == ReadPolicy(tilt="native")


def test_an_evaluation_has_no_model(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"labels": []}')
    facts = read_facts(path, "run again")
    assert not facts.is_segmentation
    assert (facts.model, facts.channels, facts.labels(), facts.label_map()) == ("", (), (), {})
    assert facts.policy() == ReadPolicy()
    refuse_run(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, r"\(model must be an object\); run again"),
        ({"case_ids": ["a", 1]}, r"case_ids\[1\] must be text"),
        ({"started": 2026}, "started must be text"),
        ({"settings": {"label_map": {"2": "x"}}}, r"settings\.label_map\.\* must be a whole"),
    ],
)
def test_facts_of_another_shape_are_refused(tmp_path: Path, changes, message: str) -> None:
    path = write(tmp_path / "run.json", **changes)
    with pytest.raises(ManifestError, match=rf"run\.json cannot be read .*{message}"):
        read_facts(path, "run again")
    with pytest.raises(ManifestError, match="may hold a run, so name another folder"):
        refuse_run(RunFolder(tmp_path))
    assert current_settings(RunFolder(tmp_path)) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"settings": {"label_map": {"x": 1}}}, "label_map"),
        ({"settings": {"policy": {"nan": "no"}}}, "policy"),
        ({"labels": [{"value": -1}]}, "labels"),
    ],
)
def test_values_that_are_not_valid_are_named(tmp_path: Path, changes, key: str) -> None:
    facts = read_facts(write(tmp_path / "run.json", **changes), "run again")
    with pytest.raises(ManifestError, match=f"{key} is not valid"):
        getattr(facts, key)()


def test_the_newest_run_decides_and_the_last_of_equals(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write(tmp_path / "run.json")
    assert current_settings(folder) == "first"
    write(tmp_path / "run-1-of-2.json", settings_sha256="second")
    assert current_settings(folder) == "second"
    write(tmp_path / "run-2-of-2.json", started="2025", settings_sha256="third")
    assert current_settings(folder) == "second"


def test_shards_that_differ_are_named_with_the_key(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(ManifestError, match="holds no shards"):
        read_shards(folder)
    write(tmp_path / "run-1-of-2.json")
    write(tmp_path / "run-2-of-2.json", engine={"engine": "onnx"})
    with pytest.raises(ManifestError, match=r"2\.json differs from run-1-of-2\.json in engine"):
        read_shards(folder)
    (tmp_path / "run-2-of-2.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"it lacks voxtile, .*; run its shard again"):
        read_shards(folder)
    with pytest.raises(ManifestError, match="holds shards of 2, not of 3"):
        refuse_mixed(folder, 3)
