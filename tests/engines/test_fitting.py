"""Networks of other programs are adapted to voxtile's layout and probabilities."""

import numpy as np
import pytest
from phantoms import make_bundle

from voxtile.engines.fitting import adapted


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_other_layouts_and_logits_become_probabilities(layout: str, activation: str) -> None:
    bundle = make_bundle()
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
