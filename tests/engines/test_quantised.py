"""Networks in 8-bit integers: made from scans, measured, and used only where that was shown."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from phantoms import ball, threshold_model
from typer.testing import CliRunner

from voxtile.cli import app
from voxtile.engines import Engine, Wish, choose_engine, load_models, openvino_engine, sensitivity
from voxtile.engines import quantised as quantisation
from voxtile.engines.measurements import Evidence, accepted_precision, keep_evidence
from voxtile.engines.quantised import kept_layers, quantise, quantised, quantised_digest
from voxtile.engines.sensitivity import error_shares
from voxtile.errors import EnvironmentFault
from voxtile.measuring import engines as verification
from voxtile.measuring.benchmark import matrix_precision
from voxtile.measuring.engines import verify_model
from voxtile.measuring.samples import Sample
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import Network
from voxtile.writing.nifti import write_mask, write_volume

pytest.importorskip("nncf")
pytestmark = pytest.mark.xdist_group("quantised")  # the networks are made once
INT8 = Wish("openvino", "int8", "cpu")


@pytest.fixture
def bundle(tmp_path: Path, network: bytes, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VOXTILE_CACHE", str(tmp_path / "cache"))
    folder = write_bundle(tmp_path / "b", network, intensity={"method": "zscore"})
    return load_bundle(folder)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    image, truth = ball()
    lines = ["case_id,image,label"]
    for name in "abc":
        write_volume(folder / f"{name}.nii.gz", image)
        lines.append(f"{name},{name}.nii.gz,l.nii.gz")
    write_mask(folder / "l.nii.gz", truth)
    path = folder / "cases.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def cache_and_evidence(
    tmp_path_factory: pytest.TempPathFactory, network: bytes, manifest: Path
) -> tuple[Path, Evidence]:
    """The cache with the int8 networks of such a bundle, and what was measured."""
    folder = tmp_path_factory.mktemp("verified")
    made = write_bundle(folder / "b", network, intensity={"method": "zscore"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXTILE_CACHE", str(folder / "cache"))
        return folder / "cache", verify_model(made, manifest, cases=2, planes=3)


@pytest.fixture
def found(cache_and_evidence: tuple[Path, Evidence], bundle: Bundle) -> Evidence:
    """What was measured, and a copy of that cache for the bundle."""
    folder, evidence = cache_and_evidence
    shutil.copytree(folder, os.environ["VOXTILE_CACHE"])
    return evidence


def test_without_any_it_is_said_how_to_make_them(bundle: Bundle) -> None:
    with pytest.raises(EnvironmentFault, match="no int8 networks here; voxtile models verify"):
        choose_engine(bundle, INT8)


def test_they_are_made_from_scans_and_say_nearly_the_same(bundle: Bundle, found: Evidence) -> None:
    (entry,) = bundle.spec.networks
    assert quantised(entry) is not None
    last = found.measurements[-1]
    assert (last.precision, last.made) == ("int8", quantised_digest(bundle))
    assert last.agreement > 0.9
    engine = choose_engine(bundle, INT8)
    assert engine.decisive()[f"int8 of {bundle.sha256[:12]}"] == last.made
    tiles = np.random.default_rng(0).standard_normal((2, *bundle.spec.tile, 3)).astype(np.float32)
    (short,) = load_models(bundle, engine)
    (exact,) = load_models(bundle, Engine("openvino"))
    difference = np.abs(short(tiles) - exact(tiles)).max()
    assert 0 < difference < 0.1
    np.testing.assert_array_equal(short(tiles)[1:], short(tiles[1:]))


def test_evidence_of_other_int8_networks_does_not_count(bundle: Bundle, found: Evidence) -> None:
    def shown(made: str) -> Evidence:
        """Evidence as it may be for a network that was trained."""
        best = replace(
            found.measurements[-1],
            agreement=0.9999,
            dice_change={"ball": 0.0},
            tiles_per_s=1e6,
            made=made,
        )
        enough = {"planes": 32, "label_planes": {"ball": 8}, "label_voxels": {"ball": 1000}}
        return replace(found, measurements=(*found.measurements[:-1], best), **enough)

    keep_evidence(shown("made elsewhere"))
    assert accepted_precision(bundle, "openvino", "cpu") != "int8"
    made = quantised_digest(bundle)
    assert made is not None
    keep_evidence(shown(made))
    assert accepted_precision(bundle, "openvino", "cpu") == "int8"
    assert choose_engine(bundle, Wish(device="cpu")).precision == "int8"
    other = Engine("openvino", "int8", "cpu", ((f"int8 of {bundle.sha256[:12]}", "another"),))
    with pytest.raises(EnvironmentFault, match="are not in the cache of this machine"):
        load_models(bundle, other)


def test_other_engines_do_not_compute_in_integers(bundle: Bundle) -> None:
    with pytest.raises(EnvironmentFault, match="keras does not compute in int8"):
        choose_engine(bundle, Wish("keras", "int8", "cpu"))


@pytest.mark.usefixtures("found")
def test_a_run_says_which_networks_it_used(bundle: Bundle, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", str(manifest), str(bundle.folder), "--out", str(out), "--precision", "int8"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = (out / "run.json").read_text()
    assert '"precision": "int8"' in text
    assert str(quantised_digest(bundle)) in text


def test_integers_are_held_against_a_multiplication_in_float32() -> None:
    assert matrix_precision(Engine("openvino", "int8")) == "float32"
    assert matrix_precision(Engine("keras", "bfloat16")) == "bfloat16"


def test_a_network_that_cannot_be_quantised_costs_its_own_row_only(
    bundle: Bundle, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("an operation nobody knows")

    monkeypatch.setattr("voxtile.engines.quantised.in_integers", fail)
    said: list[str] = []
    found = verify_model(bundle.folder, manifest, cases=2, planes=3, say=said.append)
    assert {one.precision for one in found.measurements} >= {"float32"}
    assert "int8" not in {one.precision for one in found.measurements}
    assert said == ["warning: n.keras cannot be made int8 (RuntimeError); use another --precision"]


def test_each_network_is_scaled_by_as_many_tiles_of_its_own_views(
    tmp_path: Path, network: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = ("axial", "coronal", "sagittal")
    entries = []
    for view in views:
        (tmp_path / f"{view}.keras").write_bytes(network)
        digest = hashlib.sha256(network).hexdigest()
        entries.append(Network(file=f"{view}.keras", sha256=digest, views=(view,)))
    bundle = load_bundle(write_bundle(tmp_path, network, networks=tuple(entries)))
    image, _ = ball()
    volume = image.with_array(image.array[..., np.newaxis])
    monkeypatch.setattr(verification, "_CALIBRATION_TILES", 8)
    monkeypatch.setattr(verification, "load_models", lambda *_: (threshold_model,) * 3)
    samples = [
        Sample(case_id, volume, None, view, tuple(range(6))) for case_id in "ab" for view in views
    ]
    assert [len(tiles) for tiles in verification._scaling_tiles(bundle, samples)] == [8, 8, 8]


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose biases are not corrected, which take half the time."""

    def make(model, calibration, left, rest):
        return quantisation.in_integers(model, calibration, left, corrected=False)

    monkeypatch.setattr(quantisation, "_closest", make)


@pytest.mark.usefixtures("rough")
def test_layers_that_are_left_out_compute_in_another_precision_and_are_named(
    bundle: Bundle,
) -> None:
    (entry,) = bundle.spec.networks
    rng = np.random.default_rng(0)
    tiles = list(rng.standard_normal((2, *bundle.spec.tile, 3)).astype(np.float32))
    (exact,) = load_models(bundle, Engine("openvino"))
    every = ("encoder level 1", "encoder level 2", "bottleneck", "decoder level 2")
    errors, digests = [], []
    for kept in ((), (*every, "decoder level 1", "head")):
        quantise(bundle, entry, tiles, kept, "float32")
        assert kept_layers(entry) == (kept, "float32")
        (short,) = load_models(bundle, Engine("openvino", "int8"))
        errors.append(float(np.abs(short(tiles[0][None]) - exact(tiles[0][None])).max()))
        digests.append(quantised_digest(bundle))
    assert errors[0] > 1e-4 > 1e-5 > errors[1]  # nothing is left in integers
    assert digests[0] != digests[1]
    engine = choose_engine(bundle, INT8)
    assert engine.reason == f"float32 in {', '.join(kept)}"
    quantise(bundle, entry, tiles, kept, "bfloat16")
    assert quantised_digest(bundle) not in digests  # the files are the same, the numbers are not
    with pytest.raises(EnvironmentFault, match="are not in the cache of this machine"):
        load_models(bundle, engine)
    if "bfloat16" in openvino_engine.precisions():
        (short,) = load_models(bundle, Engine("openvino", "int8"))
        assert 1e-5 < np.abs(short(tiles[0][None]) - exact(tiles[0][None])).max() < 0.1


def test_the_share_of_the_error_is_what_goes_with_a_group(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = bundle.spec.networks
    asked = []

    def error(short, exact, inputs, rest) -> float:
        asked.append((len(short), len(inputs), rest))
        return {0: 0.4, 1: 0.3}.get(len(short), 0.1)  # the longer group matters most

    groups = {"encoder level 1": ["a", "b"], "bottleneck": ["c", "d", "e"], "head": ["f"]}
    monkeypatch.setattr(sensitivity, "read_source", lambda *_: None)
    monkeypatch.setattr(sensitivity, "layer_groups", lambda model, shape: groups)
    monkeypatch.setattr(sensitivity, "in_integers", lambda model, some, left, corrected: left)
    monkeypatch.setattr(sensitivity, "mean_error", error)
    tiles = [np.zeros((*bundle.spec.tile, 3), np.float32)] * 20
    found = error_shares(bundle, entry, tiles, "bfloat16")
    assert found == pytest.approx({"encoder level 1": 0.75, "bottleneck": 0.75, "head": 0.25})
    assert asked == [(0, 8, "float32"), *((count, 8, "bfloat16") for count in (2, 3, 1))]


@pytest.mark.parametrize("best", [True, False])
def test_biases_are_corrected_only_if_that_comes_closer(
    monkeypatch: pytest.MonkeyPatch, best: bool
) -> None:
    monkeypatch.setattr(quantisation, "in_integers", lambda *_, corrected: corrected)
    monkeypatch.setattr(quantisation, "mean_error", lambda one, *_: 0.1 if one is best else 0.2)
    assert quantisation._closest(None, [np.zeros(1)] * 3, (), "float32") is best
