"""Packed variables are the same variables, for every kind of network and optimiser."""

from dataclasses import replace

import numpy as np
import pytest
from training_cohort import TINY

from voxtile.models.backend_name import backend_name
from voxtile.models.unet import build_unet
from voxtile.training.fitting.learner import UNDECAYED, Learner, fitting_device, make_optimizer
from voxtile.training.fitting.packed import Packing

pytestmark = pytest.mark.skipif(backend_name() != "jax", reason="only JAX takes packed variables")


@pytest.mark.parametrize(
    ("precision", "normalisation", "dropout", "ema"),
    [("mixed_float16", "batch", 0.5, 0.9), ("float32", "none", 0.0, 0.0)],
)
def test_packing_and_unpacking_changes_no_variable(precision, normalisation, dropout, ema) -> None:
    recipe = replace(TINY, ema=ema)
    network = build_unet(
        (None, None, 1), 2, filters=2, depth=1, normalisation=normalisation, dropout=dropout
    )
    learner = Learner(
        network, recipe, softmax=True, precision=precision, device=fitting_device("cpu")
    )
    rng = np.random.default_rng(0)
    learner.restore(
        {
            name: np.asarray(rng.integers(1, 100, value.shape), value.dtype)
            for name, value in learner.state().items()
        }
    )
    before = learner.state()
    scaled = precision == "mixed_float16"
    packing = Packing(learner.model, make_optimizer(recipe, scaled=scaled), UNDECAYED)
    state = packing.state()
    assert all(value is not None for value in state[2])
    weights = [np.concatenate(state[0]), *(v.numpy().ravel() for v in network.trainable_variables)]
    assert len(weights[0]) == sum(map(len, weights[1:]))
    learner.restore({name: np.zeros_like(value) for name, value in before.items()})
    packing.assign(state)
    after = learner.state()
    assert list(before) == list(after)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
        assert after[name].dtype == value.dtype
