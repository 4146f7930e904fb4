"""A folded network computes the same function."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.engines.folding import folded
from voxtile.engines.keras_engine import _at_precision
from voxtile.models.backend import keras
from voxtile.models.unet import build_unet

layers = keras.layers


def shaken(model, seed=0):
    """Return a model whose weights are not those that it was made with."""
    rng = np.random.default_rng(seed)
    weights = [
        # Variances must stay positive, so all are moved up a little.
        (value * rng.uniform(0.8, 1.2, value.shape) + rng.uniform(0, 0.05, value.shape))
        for value in model.get_weights()
    ]
    model.set_weights(weights)
    return model


def answers(model, *shape):
    tiles = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return np.asarray(keras.ops.convert_to_numpy(model(tiles, training=False)))


def logits_of(model):
    return keras.Model(model.input, model.layers[-2].output)


@settings(max_examples=6, deadline=None)
@given(
    normalisation=st.sampled_from(["none", "batch", "instance", "group"]),
    channels=st.sampled_from([1, 3, 8, 9]),
    classes=st.sampled_from([1, 3]),
)
def test_a_folded_network_gives_the_same_logits(normalisation, channels, classes):
    model = logits_of(
        shaken(
            build_unet(
                (None, None, channels), classes, filters=4, depth=1, normalisation=normalisation
            )
        )
    )
    before = [value.copy() for value in model.get_weights()]
    expected = answers(model, 2, 16, 16, channels)
    given_back = answers(folded(model), 2, 16, 16, channels)
    np.testing.assert_allclose(given_back, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_no_normalisation_is_left_and_the_last_convolution_is_a_product():
    network = build_unet((None, None, 5), 2, filters=4, depth=1, normalisation="batch")
    model = folded(shaken(network))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert "BatchNormalization" not in kinds
    assert kinds.count("_PixelProduct") == 1
    assert len(model.get_weights()) < len(network.get_weights())
    assert model.input_shape == (None, None, None, 5)


def graph(join):
    """Return a network in which `join` puts a convolution and a normalisation together."""
    tiles = keras.Input((8, 8, 8))
    return shaken(keras.Model(tiles, join(tiles)))


def test_a_normalisation_after_a_transposed_convolution_is_folded():
    model = graph(lambda x: layers.BatchNormalization()(layers.Conv2DTranspose(6, 2, strides=2)(x)))
    other = folded(model)
    assert len(other.get_weights()) == 2
    np.testing.assert_allclose(
        answers(other, 1, 8, 8, 8), answers(model, 1, 8, 8, 8), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "join",
    [
        pytest.param(
            lambda x: (lambda y: layers.Add()([layers.BatchNormalization()(y), y]))(
                layers.Conv2D(6, 3, padding="same")(x)
            ),
            id="the convolution is used twice",
        ),
        pytest.param(
            lambda x: layers.BatchNormalization()(layers.Conv2D(6, 3, activation="relu")(x)),
            id="an activation lies between",
        ),
        pytest.param(
            lambda x: layers.BatchNormalization()(layers.AveragePooling2D(2)(x)),
            id="no convolution comes before",
        ),
        pytest.param(
            lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(6, 3, padding="same")(x)),
            id="rows are normalised, not channels",
        ),
    ],
)
def test_other_normalisations_stay(join):
    model = graph(join)
    other = folded(model)
    assert any(isinstance(layer, layers.BatchNormalization) for layer in other.layers)
    np.testing.assert_allclose(
        answers(other, 1, 8, 8, 8), answers(model, 1, 8, 8, 8), rtol=1e-5, atol=1e-5
    )


def test_a_layer_that_is_used_at_two_places_stays_shared():
    shared = layers.Conv2D(8, 3, padding="same")
    model = graph(lambda x: layers.BatchNormalization()(shared(shared(x))))
    np.testing.assert_allclose(
        answers(folded(model), 1, 8, 8, 8), answers(model, 1, 8, 8, 8), rtol=1e-4, atol=1e-4
    )


def test_a_folded_network_has_its_last_layers_in_float32_at_every_precision():
    model = folded(
        shaken(build_unet((None, None, 1), 2, filters=4, depth=1, normalisation="batch"))
    )
    short = _at_precision(model, "bfloat16")
    assert [layer.compute_dtype for layer in short.layers[-2:]] == ["float32", "float32"]
    assert {layer.compute_dtype for layer in short.layers[1:-2]} == {"bfloat16"}
    np.testing.assert_allclose(answers(short, 1, 8, 8, 1), answers(model, 1, 8, 8, 1), atol=0.1)
