"""Batch normalisation in few operations has the numbers of Keras' own layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.models.backend import keras
from voxtile.models.unet import build_unet
from voxtile.training.fitting.fused_norm import FusedBatchNormalization
from voxtile.training.fitting.learner import in_precision

pytestmark = pytest.mark.skipif(
    keras.config.backend() == "torch", reason="only for TensorFlow and JAX"
)


def gradients_of(layer, images: np.ndarray, slope: np.ndarray) -> list:
    """The layer's output, its gradients by images and weights, and its statistics afterwards."""
    if keras.config.backend() == "jax":
        import jax

        def loss(weights, images):
            output, others = layer.stateless_call(
                weights, layer.non_trainable_variables, images, training=True
            )
            return (output * slope).sum(), (output, others)

        weights = [variable.value for variable in layer.trainable_variables]
        (_, (output, others)), (by_weights, by_images) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(weights, images)
        for variable, value in zip(layer.non_trainable_variables, others, strict=True):
            variable.assign(value)
        return [output, by_images, *by_weights]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        watched = tf.constant(images)
        tape.watch(watched)
        output = layer(watched, training=True)
        loss = tf.reduce_sum(output * slope)
    return [output, *tape.gradient(loss, [watched, *layer.trainable_variables])]


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(1, 6), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_it_normalises_learns_and_remembers_as_keras_does(
    shape: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    images = rng.normal(3, 2, shape).astype(np.float32)
    slope = rng.normal(size=shape).astype(np.float32)
    found = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(shape)
        channels = shape[-1]
        layer.set_weights([np.linspace(low, 2, channels) for low in (0.5, -1, 1, 1.5)])
        learned = gradients_of(layer, images, slope)
        found.append([*learned, *layer.get_weights(), layer(images, training=False)])
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
