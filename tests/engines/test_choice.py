"""The table of engines, and the one that a run chooses."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from phantoms import make_bundle

from voxtile.engines import Wish, choose_engine
from voxtile.engines.engine import ENGINES, EngineKind, EngineName, engines_for, reference_engine
from voxtile.errors import EnvironmentFault, ModelError
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Network

ROOT = Path(__file__).parents[2]


def bundle_of(*files: str) -> Bundle:
    """A bundle of networks without their files."""
    networks = tuple(
        Network(file=file, sha256=f"{number:064}", views=(view,))
        for number, (file, view) in enumerate(zip(files, ("axial", "coronal"), strict=False))
    )
    return make_bundle(networks=networks)


def test_the_table_has_every_engine_that_can_be_named() -> None:
    assert set(ENGINES) == set(get_args(EngineName))


@pytest.mark.parametrize("name", ENGINES)
def test_an_entry_agrees_with_its_module_and_with_pyproject(name: EngineName) -> None:
    kind = ENGINES[name]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"]
    if kind.extra:
        needed = project["optional-dependencies"][kind.extra]
    assert kind.package in {re.split(r"[^\w-]", requirement)[0] for requirement in needed}
    if not kind.installed:
        pytest.skip(f"{kind.package} is not installed")
    module = kind.load_module()
    assert callable(module.load)
    assert module.precisions()[0] == "float32"
    assert not kind.seeks_gpu or callable(module.gpu_count)


@pytest.mark.parametrize(
    ("file", "engine", "able"),
    [
        ("n.keras", "keras", ["openvino", "keras"]),
        ("n.onnx", "onnx", ["openvino", "onnx"]),
    ],
)
def test_the_reference_of_a_network_runs_its_own_file(file, engine, able) -> None:
    (network,) = bundle_of(file).spec.networks
    assert reference_engine(network) == engine
    assert engines_for({Path(file).suffix}) == able


@pytest.mark.parametrize(
    ("files", "wish", "error", "message"),
    [
        (["n.onnx"], Wish("keras"), ModelError, r"Keras cannot run .onnx .* onnx or openvino"),
        (["n.keras"], Wish("onnx"), ModelError, r"cannot run .keras .* keras or openvino, or make"),
        (["n.keras", "m.onnx"], Wish("onnx"), ModelError, r"cannot run .keras .*--engine openvino"),
        (["n.keras", "m.onnx"], Wish(device="gpu"), ModelError, "which no engine runs together"),
        (["n.keras"], Wish("openvino", device="gpu"), EnvironmentFault, "use --engine keras"),
        (["n.keras"], Wish("keras", "int8", "cpu"), EnvironmentFault, "not compute in int8"),
    ],
)
def test_an_engine_that_cannot_run_a_bundle_says_which_can(files, wish, error, message) -> None:
    with pytest.raises(error, match=message):
        choose_engine(bundle_of(*files), wish)


@pytest.mark.parametrize(
    ("files", "installed", "engine", "reason"),
    [
        (["n.keras"], {"keras"}, "keras", "Keras runs .*, and OpenVINO is not installed"),
        (["n.onnx"], {"onnxruntime"}, "onnx", "ONNX Runtime runs .*, and OpenVINO is not"),
    ],
)
def test_auto_takes_what_is_installed_and_says_what_is_not(
    monkeypatch: pytest.MonkeyPatch, files, installed: set[str], engine: str, reason: str
) -> None:
    monkeypatch.setattr(EngineKind, "installed", property(lambda kind: kind.package in installed))
    chosen = choose_engine(bundle_of(*files), Wish(device="cpu"))
    assert chosen.name == engine
    assert re.search(reason, chosen.reason)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EngineKind, "installed", False)
    with pytest.raises(EnvironmentFault, match=r'openvino is not .* pip install "voxtile\[openv'):
        choose_engine(bundle_of("n.keras"), Wish("openvino"))
