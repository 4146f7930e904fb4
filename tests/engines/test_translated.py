"""Exported networks are checked against their source, cached, and verified when read."""

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantoms import make_bundle

from voxtile.engines import (
    Engine,
    Wish,
    cached_networks,
    choose_engine,
    load_models,
    translated,
)
from voxtile.errors import EnvironmentFault, ModelError
from voxtile.models.bundle import Bundle

BUNDLE = make_bundle()  # without files


def fake_export(said: list[str], answer: dict | None = None):
    """An exporter that takes a moment and leaves two files."""

    def ask(form, bundle, network, work: Path) -> dict:
        said.append(network.file)
        time.sleep(0.05)
        (work / "model.xml").write_text("<net/>")
        (work / "model.bin").write_bytes(bytes(1000))
        return dict(answer or {"difference": 0.0})

    return ask


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_export_is_made_once_and_again_when_a_byte_flips(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(translated, "ask_child", fake_export(made))
    (network,) = BUNDLE.spec.networks
    found = [translated.ensure(BUNDLE, network) for _ in range(2)]
    assert found[0] == found[1]
    assert made == ["none.keras"]
    for damaged in ("model.bin", "model.xml", "entry.json"):
        path = found[0].with_name(damaged)
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
        translated.ensure(BUNDLE, network)
        assert path.read_bytes() != bytes(content)
    assert len(made) == 4
    found[0].unlink()
    translated.ensure(BUNDLE, network)
    assert len(made) == 5
    assert [path.name for path in empty_cache.glob("networks/.new-*")] == []


def _no_files(entry: Path) -> None:
    (entry / "entry.json").write_text('{"difference": 0.0, "sha256": {}}')


def _fewer_files(entry: Path) -> None:
    words = json.loads((entry / "entry.json").read_text())
    del words["sha256"]["model.bin"]
    (entry / "entry.json").write_text(json.dumps(words))


def _a_file_more(entry: Path) -> None:
    (entry / "other.bin").touch()


def _a_link(entry: Path) -> None:
    (entry / "model.bin").rename(entry.parent / "elsewhere")
    (entry / "model.bin").symlink_to("../elsewhere")


def _open_to_others(entry: Path) -> None:
    entry.chmod(0o777)


def _a_file_open_to_others(entry: Path) -> None:
    (entry / "model.xml").chmod(0o666)


def _too_different(entry: Path) -> None:
    words = json.loads((entry / "entry.json").read_text()) | {"difference": 0.9}
    (entry / "entry.json").write_text(json.dumps(words))


def _odd_json(entry: Path) -> None:
    (entry / "entry.json").write_text('{"difference": NaN, "sha256": {"model.xml": [1]}}')


@pytest.mark.parametrize(
    "forge",
    [
        _no_files,
        _fewer_files,
        _a_file_more,
        _a_link,
        _open_to_others,
        _a_file_open_to_others,
        _too_different,
        _odd_json,
    ],
)
def test_an_entry_that_is_not_exactly_the_expected_files_is_made_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, forge
) -> None:
    made: list[str] = []
    monkeypatch.setattr(translated, "ask_child", fake_export(made))
    (network,) = BUNDLE.spec.networks
    found = translated.ensure(BUNDLE, network)
    right = translated.translation_digest(BUNDLE)
    if forge in (_no_files, _odd_json):
        found.write_text("<forged/>")
    forge(found.parent)
    assert translated.translation_digest(BUNDLE) is None
    assert translated.ensure(BUNDLE, network).read_text() == "<net/>"
    assert len(made) == 2
    assert translated.translation_digest(BUNDLE) == right


def test_what_runs_is_part_of_the_engine_and_another_translation_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    engine = choose_engine(bundle, Wish(engine="openvino", device="cpu", precision="float32"))
    name = translated.translation_name(bundle)
    assert engine.decisive()[name] == translated.translation_digest(bundle)
    other = dataclasses.replace(engine, versions=((name, "0" * 16),))
    with pytest.raises(EnvironmentFault, match="are not those that this run began with"):
        load_models(bundle, other)
    load_models(bundle, engine)


def test_a_cache_that_cannot_be_used_is_named_in_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(translated, "ask_child", fake_export([]))
    engine = choose_engine(BUNDLE, Wish(device="cpu"))
    assert engine.name == "openvino"
    assert f"the cache {tmp_path / 'file'} is not used: it cannot be created" in engine.reason
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))  # nowhere at all
    engine = choose_engine(BUNDLE, Wish(device="cpu"))
    assert engine.name == "keras"
    assert "cannot be written" in engine.reason


def test_processes_that_need_one_export_at_the_same_time_make_it_once(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(translated, "ask_child", fake_export(made))
    (network,) = BUNDLE.spec.networks
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(translated.ensure(BUNDLE, network)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert made == ["none.keras"]


def test_the_exports_not_used_for_longest_are_removed_first(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translated, "ask_child", fake_export([]))
    monkeypatch.setattr(cached_networks, "_MOST_BYTES", 2800)  # the new one has a little over 1000
    for name, age_s in (("old", 9000), ("older", 9999), ("in use", 60)):
        (empty_cache / "networks" / name).mkdir(parents=True)
        (empty_cache / "networks" / name / "model.bin").write_bytes(bytes(700))
        then = time.time() - age_s
        os.utime(empty_cache / "networks" / name, (then, then))
    newest = translated.ensure(BUNDLE, BUNDLE.spec.networks[0])
    left = {path.name for path in (empty_cache / "networks").iterdir() if path.is_dir()}
    assert left == {"old", "in use", newest.parent.name}


def test_a_refusal_is_cached_and_auto_chooses_keras(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    made: list[str] = []
    refusal = {"refused": "none.keras gives other values; use --engine keras"}
    monkeypatch.setattr(translated, "ask_child", fake_export(made, refusal))
    for _ in range(2):
        engine = choose_engine(BUNDLE, Wish(device="cpu"))
        assert (engine.name, engine.precision) == ("keras", "float32")
        assert engine.reason.startswith("none.keras gives other values; float32")
        with pytest.raises(ModelError, match="gives other values; use --engine keras"):
            choose_engine(BUNDLE, Wish(engine="openvino"))
    assert made == ["none.keras"]


def test_a_translation_that_gives_other_values_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from voxtile.engines import openvino_engine, translating

    right = openvino_engine.open_model

    def wrong(path: Path, engine: Engine):
        model = right(path, engine)
        return lambda tiles: model(tiles) + np.float32(2e-4)

    monkeypatch.setattr(openvino_engine, "open_model", wrong)
    with pytest.raises(ModelError, match=r"differ by up to 0\.0002, at most 0\.0001 is allowed"):
        translating.export("openvino", bundle, bundle.spec.networks[0], tmp_path)


def test_the_last_line_of_an_exporter_that_died_is_in_the_error(
    empty_cache: Path, translating_child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translated, "ask_child", translating_child)
    monkeypatch.setattr(translated, "command", lambda _: "import sys; sys.exit('no room')")
    network = BUNDLE.spec.networks[0]
    with pytest.raises(
        EnvironmentFault, match=r"died \(exit code 1, no room\); use --engine keras"
    ):
        translated.ensure(BUNDLE, network)
    with pytest.raises(EnvironmentFault, match=r"no room\); use --engine onnx"):
        translated.ensure(BUNDLE, network.model_copy(update={"file": "none.onnx"}))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "fault"),
        (RuntimeError("bad allocation"), "fault"),
        (RuntimeError("no such layer"), "refused"),
    ],
)
def test_running_out_of_memory_is_not_cached_as_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    from voxtile.engines import keras_engine, translating

    def build(bundle, network):
        raise ModelError("none.keras cannot be built by Keras") from error

    monkeypatch.setattr(keras_engine, "build", build)
    answer = translating.answer("openvino", BUNDLE, BUNDLE.spec.networks[0], tmp_path)
    assert list(answer) == [kind]


def test_an_export_that_failed_for_lack_of_memory_is_tried_again(
    empty_cache: Path, translating_child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translated, "ask_child", translating_child)
    monkeypatch.setattr(translated, "command", lambda _: """print('{"fault": "memory ran out"}')""")
    with pytest.raises(EnvironmentFault, match="memory ran out; use --engine keras"):
        translated.ensure(BUNDLE, BUNDLE.spec.networks[0])
    monkeypatch.setattr(translated, "ask_child", fake_export([]))
    assert translated.ensure(BUNDLE, BUNDLE.spec.networks[0]).is_file()
