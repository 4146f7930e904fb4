"""Batch normalisation in one kernel has the numbers of Keras' own layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.models.backend import keras
from voxtile.models.unet import build_unet
from voxtile.training.fitting.fused_norm import FusedBatchNormalization
from voxtile.training.fitting.learner import in_precision

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="a kernel of TensorFlow"
)


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(1, 6), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_it_normalises_learns_and_remembers_as_keras_does(
    shape: tuple[int, ...], seed: int
) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    images = tf.constant(rng.normal(3, 2, shape).astype(np.float32))
    slope = tf.constant(rng.normal(size=shape).astype(np.float32))
    found = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(shape)
        channels = shape[-1]
        layer.set_weights([np.linspace(low, 2, channels) for low in (0.5, -1, 1, 1.5)])
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images, training=True)
            loss = tf.reduce_sum(output * slope)
        gradients = tape.gradient(loss, [images, *layer.trainable_variables])
        at_rest = layer(images, training=False)
        found.append([output, *gradients, *layer.get_weights(), at_rest])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(np.asarray(theirs), np.asarray(ours), rtol=2e-4, atol=2e-4)


def test_a_frozen_layer_keeps_its_statistics() -> None:
    layer = FusedBatchNormalization()
    layer.build((1, 2, 2, 1))
    layer.trainable = False
    before = layer.get_weights()
    layer(np.full((1, 2, 2, 1), 7, np.float32), training=True)
    np.testing.assert_array_equal(before, layer.get_weights())


def test_what_learns_has_it_and_what_is_saved_has_not() -> None:
    network = build_unet((None, None, 1), 2, filters=4, depth=1, normalisation="batch")
    norms = [layer for layer in in_precision(network, "float32").layers if "norm" in layer.name]
    assert len(norms) == 6
    assert {type(layer) for layer in norms} == {FusedBatchNormalization}
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in network.layers)
