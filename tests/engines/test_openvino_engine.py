"""OpenVINO gives what Keras gives, whatever the number of tiles and threads."""

import subprocess
import sys

import numpy as np
import pytest
from phantoms import ball

from voxtile.engines import Engine, load_models
from voxtile.engines.trial_tiles import trial_tiles
from voxtile.errors import EnvironmentFault
from voxtile.inference.segmenter import load_segmenter, make_plans
from voxtile.models.bundle import Bundle
from voxtile.preparation.plan import PlanWish

KERAS, OPENVINO = Engine("keras"), Engine("openvino")


def test_openvino_gives_what_keras_gives(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    (keras_model,), (model,) = load_models(bundle, KERAS), load_models(bundle, OPENVINO)
    for shape in ((1, 32, 48), (5, 16, 16), (2, 64, 32), (3, 32, 48)):
        tiles = np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)
        wanted, got = keras_model(tiles), model(tiles)
        assert got.dtype == np.float32
        assert np.ptp(wanted) > 0.1  # answers that are all alike would prove nothing
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


def test_choosing_an_engine_imports_none(bundle: Bundle) -> None:
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
