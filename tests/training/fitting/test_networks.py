"""A network begins with the weights of its bundle, or goes on from its checkpoint, in its order."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle

from voxtile.engines.keras_engine import build
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.unet import build_unet
from voxtile.training.fitting.checkpoint import (
    Standing,
    named_weights,
    read_checkpoint,
    write_checkpoint,
)
from voxtile.training.fitting.judging import Scores
from voxtile.training.fitting.learner import Learner
from voxtile.training.fitting.networks import NetworkFit, build_network, fitted_network
from voxtile.training.recipe.recipe import Recipe

# Without mean weights, which are known only after a step.
RECIPE = Recipe(
    filters=2,
    depth=2,
    normalisation="batch",
    optimizer="muon",
    learning_rate=1e-3,
    precision="float32",
    ema=0,
)
TILES = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)


def bundle_of(folder: Path, *, skip_first: bool) -> Bundle:
    """A bundle whose network has random weights, concatenated in either order."""
    network = build_unet(
        (None, None, 3), 2, filters=2, depth=2, normalisation="batch", skip_first=skip_first
    )
    network.save(folder / "new.keras")
    return load_bundle(write_bundle(folder / "model", (folder / "new.keras").read_bytes()))


@pytest.mark.parametrize("skip_first", [True, False])
def test_fine_tuning_starts_with_the_outputs_of_the_file(tmp_path: Path, skip_first: bool) -> None:
    start = bundle_of(tmp_path, skip_first=skip_first)
    expected = np.asarray(build(start, start.spec.networks[0])(TILES))
    network = build_network(start.spec, RECIPE, 0, start)
    np.testing.assert_array_equal(np.asarray(network(TILES)), expected)
    learner = Learner(network, RECIPE, softmax=True, precision="float32")
    with learner.at_rest() as (predict, _):
        np.testing.assert_allclose(predict(TILES), expected, atol=1e-6)


def fit_of(work: Path, bundle: Bundle) -> NetworkFit:
    """A fit of the first network, from random weights, without any case."""
    return NetworkFit(bundle.spec, 0, RECIPE, (), (), work, None, None)


@pytest.mark.parametrize("version", ["0.1.0", "now"])
def test_a_checkpoint_goes_on_in_the_order_it_began_with(tmp_path: Path, version: str) -> None:
    bundle = bundle_of(tmp_path, skip_first=version == "0.1.0")
    network = build(bundle, bundle.spec.networks[0])
    this = fit_of(tmp_path, bundle)
    standing = Standing(done=True, best_epoch=1, best=Scores((("v", (1.0,)),)))
    this.checkpoint.parent.mkdir(parents=True)
    write_checkpoint(this.checkpoint, standing, named_weights(network.get_weights()))
    if version == "0.1.0":  # which wrote no order
        with np.load(this.checkpoint) as archive:
            arrays = {name: archive[name] for name in archive.files}
        told = json.loads(arrays["standing"].tobytes())
        del told["skip_first"]
        arrays["standing"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        np.savez(this.checkpoint, **arrays)
    found = read_checkpoint(this.checkpoint)
    assert found is not None
    assert found[0] == replace(standing, skip_first=version == "0.1.0")
    import keras

    fitted = keras.saving.load_model(fitted_network(this).file, compile=False)
    # Kernels are rounded to bfloat16 in the file.
    np.testing.assert_allclose(np.asarray(fitted(TILES)), np.asarray(network(TILES)), atol=0.02)
