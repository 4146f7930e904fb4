"""Every engine says what Keras says, and what is exported is checked, kept and not trusted."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from phantoms import ball, make_bundle

from voxtile.engines import Engine, Wish, cached_networks, choose_engine, load_models
from voxtile.engines import translated as exported
from voxtile.engines.fitting import adapted
from voxtile.engines.trial_tiles import trial_tiles
from voxtile.errors import EnvironmentFault, ModelError
from voxtile.inference.segmenter import load_segmenter, make_plans
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.unet import build_unet
from voxtile.preparation.plan import PlanWish

KERAS, OPENVINO = Engine("keras"), Engine("openvino")
BUNDLE = make_bundle()  # without files


@pytest.fixture(scope="module", params=["batch", "instance"])
def bundle(request, tmp_path_factory) -> Bundle:
    """A bundle of a tiny real network whose answers are not all alike."""
    import keras

    keras.utils.set_random_seed(1)
    model = build_unet((None, None, 3), 2, filters=4, depth=2, normalisation=request.param)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # fresh moving averages would hide a normalisation that is lost
        if weight.ndim == 1:
            weight.assign(np.asarray(weight) + rng.uniform(0, 0.3, weight.shape))
    odds = np.log(np.asarray(model(rng.normal(size=(1, 32, 48, 3)).astype(np.float32))))
    bias = model.get_layer("logits").bias  # both labels shall occur
    bias.assign(np.asarray(bias) - np.median(odds, axis=(0, 1, 2)))
    folder = tmp_path_factory.mktemp("engines")
    model.save(folder / "n.keras")
    content = (folder / "n.keras").read_bytes()
    return load_bundle(
        write_bundle(folder / "b", content, intensity={"method": "zscore"}, tile=(32, 48))
    )


def test_openvino_says_what_keras_says(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    (keras_model,), (model,) = load_models(bundle, KERAS), load_models(bundle, OPENVINO)
    for shape in ((1, 32, 48), (5, 16, 16), (2, 64, 32), (3, 32, 48)):
        tiles = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
        wanted, got = keras_model(tiles), model(tiles)
        assert got.dtype == np.float32
        assert np.ptp(wanted) > 0.1  # the trial tells something
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    image, _ = ball(shape=(50, 40, 6))
    plans = make_plans(bundle, PlanWish())
    masks = [load_segmenter(bundle, plans, engine)(image).array for engine in (KERAS, OPENVINO)]
    assert 0 < np.mean(masks[0]) < 1
    assert np.mean(masks[0] != masks[1]) <= 1e-3  # ties


def test_openvino_gives_the_same_bytes_whatever_the_batch_and_threads(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    tiles = trial_tiles(bundle.spec, 7)
    answers = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        (model,) = load_models(bundle, OPENVINO)
        answers.append(model(tiles[:1]))
        answers[-1] = np.concatenate([answers[-1], model(tiles[1:])])
        answers += [model(tiles), np.concatenate([model(tile[np.newaxis]) for tile in tiles])]
    assert len({answer.tobytes() for answer in answers}) == 1


def test_openvino_refuses_what_the_processor_cannot_compute(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from voxtile.engines import openvino_engine

    monkeypatch.setitem(openvino_engine._CAPABILITIES, "bfloat16", "no such unit")
    with pytest.raises(EnvironmentFault, match="does not compute in bfloat16; use --precision"):
        load_models(bundle, Engine("openvino", "bfloat16"))


def test_the_process_that_drives_a_run_loads_nothing_heavy(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    program = f"""if True:
        import sys
        from voxtile.engines import choose_engine, load_models
        from voxtile.models.bundle import load_bundle
        bundle = load_bundle({str(bundle.folder)!r})
        print(choose_engine(bundle).name, [m for m in HEAVY if m in sys.modules])
        load_models(bundle, choose_engine(bundle))
        print([m for m in HEAVY if m in sys.modules])"""
    program = program.replace("HEAVY", "('keras', 'tensorflow', 'torch', 'openvino')")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["openvino []", "['openvino']"]


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
    monkeypatch.setattr(exported, "ask_child", fake_export(made))
    (network,) = BUNDLE.spec.networks
    found = [exported.ensure(BUNDLE, network) for _ in range(2)]
    assert found[0] == found[1]
    assert made == ["none.keras"]
    for damaged in ("model.bin", "model.xml", "entry.json"):
        path = found[0].with_name(damaged)
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)
        exported.ensure(BUNDLE, network)
        assert path.read_bytes() != bytes(content)
    assert len(made) == 4
    found[0].unlink()
    exported.ensure(BUNDLE, network)
    assert len(made) == 5
    assert [path.name for path in empty_cache.glob("networks/.new-*")] == []


def test_many_at_once_make_one_export(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(exported, "ask_child", fake_export(made))
    (network,) = BUNDLE.spec.networks
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(exported.ensure(BUNDLE, network)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert made == ["none.keras"]


def test_the_oldest_exports_go_first(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "ask_child", fake_export([]))
    monkeypatch.setattr(cached_networks, "_MOST_BYTES", 2800)  # the new one has a little over 1000
    for name, age_s in (("old", 9000), ("older", 9999), ("in use", 60)):
        (empty_cache / "networks" / name).mkdir(parents=True)
        (empty_cache / "networks" / name / "model.bin").write_bytes(bytes(700))
        then = time.time() - age_s
        os.utime(empty_cache / "networks" / name, (then, then))
    newest = exported.ensure(BUNDLE, BUNDLE.spec.networks[0])
    left = {path.name for path in (empty_cache / "networks").iterdir() if path.is_dir()}
    assert left == {"old", "in use", newest.parent.name}


def test_what_is_refused_is_refused_once_and_auto_goes_on_with_keras(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    made: list[str] = []
    refusal = {"refused": "none.keras says something else; use --engine keras"}
    monkeypatch.setattr(exported, "ask_child", fake_export(made, refusal))
    for _ in range(2):
        engine = choose_engine(BUNDLE, Wish(device="cpu"))
        assert (engine.name, engine.precision) == ("keras", "float32")
        assert engine.reason.startswith("none.keras says something else; float32")
        with pytest.raises(ModelError, match="says something else; use --engine keras"):
            choose_engine(BUNDLE, Wish(engine="openvino"))
    assert made == ["none.keras"]


def test_a_network_that_openvino_computes_otherwise_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from voxtile.engines import openvino_engine
    from voxtile.engines import translating as exporting

    right = openvino_engine.open_model

    def wrong(path: Path, engine: Engine):
        model = right(path, engine)
        return lambda tiles: model(tiles) + np.float32(2e-4)

    monkeypatch.setattr(openvino_engine, "open_model", wrong)
    with pytest.raises(ModelError, match=r"differ by up to 0\.0002, at most 0\.0001 is allowed"):
        exporting.export("openvino", bundle, bundle.spec.networks[0], tmp_path)


def test_an_exporter_that_dies_is_told_with_its_last_words(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "command", lambda _: "import sys; sys.exit('no room')")
    network = BUNDLE.spec.networks[0]
    with pytest.raises(
        EnvironmentFault, match=r"died \(exit code 1, no room\); use --engine keras"
    ):
        exported.ensure(BUNDLE, network)
    with pytest.raises(EnvironmentFault, match=r"no room\); use --engine onnx"):
        exported.ensure(BUNDLE, network.model_copy(update={"file": "none.onnx"}))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "fault"),
        (RuntimeError("bad allocation"), "fault"),
        (RuntimeError("no such layer"), "refused"),
    ],
)
def test_memory_that_runs_out_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    from voxtile.engines import keras_engine
    from voxtile.engines import translating as exporting

    def build(bundle, network):
        raise ModelError("none.keras cannot be built by Keras") from error

    monkeypatch.setattr(keras_engine, "build", build)
    told = exporting.answer("openvino", BUNDLE, BUNDLE.spec.networks[0], tmp_path)
    assert list(told) == [kind]


def test_an_export_that_failed_in_passing_is_tried_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "command", lambda _: """print('{"fault": "memory ran out"}')""")
    with pytest.raises(EnvironmentFault, match="memory ran out; use --engine keras"):
        exported.ensure(BUNDLE, BUNDLE.spec.networks[0])
    monkeypatch.setattr(exported, "ask_child", fake_export([]))
    assert exported.ensure(BUNDLE, BUNDLE.spec.networks[0]).is_file()


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_foreign_layouts_and_logits_become_probabilities(
    bundle: Bundle, layout: str, activation: str
) -> None:
    logits = np.array([[-200.0, 0.0, 3.0], [1.0, 1.0, 200.0]], np.float32)[
        :, np.newaxis, np.newaxis
    ]
    axes = (0, 3, 1, 2) if layout == "channels_first" else (0, 1, 2, 3)

    def model(tiles: np.ndarray) -> np.ndarray:
        assert tiles.shape == tuple(np.array((2, 1, 1, 3))[list(axes)])
        return logits.transpose(axes).copy()

    network = bundle.spec.networks[0].model_copy(update={"layout": layout, "output": "logits"})
    spec = bundle.spec.model_copy(update={"activation": activation})
    got = adapted(model, network, spec)(np.zeros((2, 1, 1, 3), np.float32))[:, 0, 0]
    wide = logits[:, 0, 0].astype(np.float64)
    wanted = (
        1 / (1 + np.exp(-wide))
        if activation == "sigmoid"
        else np.exp(wide) / np.exp(wide).sum(axis=-1, keepdims=True)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-7)
