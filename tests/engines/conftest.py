"""A tiny real network, for every engine."""

import numpy as np
import pytest
from bundles import write_bundle

from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.unet import build_unet


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
