"""Whether short numbers pay is measured once for a library and a kind of processor."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from voxtile.engines import keras_engine, short_numbers
from voxtile.engines.short_numbers import gains, measured, pays
from voxtile.machine import versions


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The libraries that are measured, each with bfloat16 at twice the speed of float32."""
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path))
    monkeypatch.setattr(short_numbers, "installed_version", lambda library: "1.0")
    calls: list[str] = []
    monkeypatch.setattr(
        short_numbers, "_ask_child", lambda library: calls.append(library) or {"bfloat16": 2.0}
    )
    return calls


def test_a_library_from_a_distribution_of_another_name_is_measured_too(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "tensorflow":
            raise PackageNotFoundError(name)
        return "2.21.0"

    monkeypatch.setattr(short_numbers, "installed_version", versions.installed_version)
    monkeypatch.setattr(versions, "version", version)
    monkeypatch.setattr(versions, "_distributions", lambda package: {f"{package}-cpu"})
    assert gains("tensorflow") == {"bfloat16": 2.0}
    assert asked == ["tensorflow"]


def test_the_gain_is_the_ratio_of_the_best_times(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(short_numbers, "perf_counter", lambda: clock[0])
    taken = {"float32": iter([9.0, 3.0, 2.0, 4.0]), "bfloat16": iter([9.0, 0.5, 0.25, 8.0])}

    def step(name: str) -> None:
        clock[0] += next(taken[name])

    steps = {name: lambda name=name: step(name) for name in taken}
    assert measured(steps) == {"bfloat16": 8.0}  # the first call compiles and does not count


def test_each_library_is_measured_once_for_a_version_and_a_kind_of_processor(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gains("openvino") == gains("openvino") == {"bfloat16": 2.0}
    assert pays("openvino")
    assert not pays("openvino", "int8")  # not measured
    assert asked == ["openvino"]
    gains("tensorflow")
    monkeypatch.setattr(short_numbers, "installed_version", lambda library: "1.1")
    gains("openvino")
    monkeypatch.setattr(short_numbers, "processor_kind", lambda: "another")
    gains("openvino")
    assert asked == ["openvino", "tensorflow", "openvino", "openvino"]


@pytest.mark.parametrize("content", ["", "{}", '{"gains": {"bfloat16": "2"}}'])
def test_a_damaged_file_is_measured_again(asked: list[str], tmp_path: Path, content: str) -> None:
    gains("openvino")
    (path,) = tmp_path.glob("arithmetic/*.json")
    path.write_text(content)
    assert gains("openvino") == {"bfloat16": 2.0}
    assert len(asked) == 2
    assert json.loads(path.read_text())["library"] == "openvino"


def test_a_library_that_is_missing_or_dies_gains_nothing_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path))
    assert gains("no_such_library") == {}
    monkeypatch.setattr(short_numbers.sys, "executable", "/bin/false")
    assert gains("numpy") == {}
    assert not pays("numpy")
    assert not [*tmp_path.glob("arithmetic/*")]


def test_openvino_is_measured_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino_engine = pytest.importorskip("voxtile.engines.openvino_engine")
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path))
    found = gains("openvino")
    assert set(found) == set(openvino_engine.precisions()) - {"float32"}
    assert all(gain > 0 for gain in found.values())


def test_keras_convolves_in_each_precision() -> None:
    steps = keras_engine.short_steps()
    assert set(steps) == set(keras_engine.precisions())
    full, short = steps["float32"](), steps["bfloat16"]()
    assert full == pytest.approx(short, abs=0.05)
    assert any(value > 0 for value in full)
