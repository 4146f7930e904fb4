"""What a network costs, against Keras and a pencil."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtile.models.cost import cost_of, unet_flops
from voxtile.models.unet import build_unet


def cost(model):
    return cost_of(json.loads(model.to_json()))


@pytest.mark.parametrize("normalisation", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize(("filters", "depth", "channels"), [(4, 2, 1), (6, 3, 5)])
def test_parameters_are_those_that_keras_counts(normalisation, filters, depth, channels) -> None:
    model = build_unet(
        (None, None, channels), 3, filters=filters, depth=depth, normalisation=normalisation
    )
    assert cost(model).parameters == model.count_params()


def test_the_classic_network_has_its_31_million_parameters() -> None:
    assert cost(build_unet()).parameters == 31_031_745


@given(st.integers(1, 6), st.integers(2, 5), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=10)
def test_the_arithmetic_of_a_unet_is_known_before_there_is_one(
    channels: int, classes: int, filters: int, depth: int
) -> None:
    model = build_unet((None, None, channels), classes, filters=filters, depth=depth)
    expected = unet_flops(channels, classes, filters=filters, depth=depth)
    assert cost(model).flops == pytest.approx(expected)


def test_one_convolution_by_pencil() -> None:
    import keras

    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Conv2D(8, 5, padding="same")(inputs)
    found = cost(keras.Model(inputs, outputs))
    assert found.flops == 2 * 5 * 5 * 3 * 8
    assert found.parameters == 5 * 5 * 3 * 8 + 8
    assert found.values == 3 + 8  # the tile is alive until its convolution is done


def test_poolings_and_transposed_convolutions_by_pencil() -> None:
    import keras

    layers = keras.layers
    inputs = keras.Input((None, None, 1))
    first = layers.Conv2D(4, 3, padding="same")(inputs)  # 2 * 9 * 1 * 4
    small = layers.MaxPooling2D(2)(first)
    second = layers.Conv2D(8, 3, padding="same")(small)  # 2 * 9 * 4 * 8 / 4
    up = layers.Conv2DTranspose(4, 2, strides=2)(second)  # 2 * 4 * 8 * 4 / 4
    joined = layers.Concatenate()([first, up])
    outputs = layers.Conv2D(2, 1)(joined)  # 2 * 8 * 2
    found = cost(keras.Model(inputs, outputs))
    assert found.flops == 72 + 144 + 64 + 32
    # Alive while joining: the skip (4), what came up (4) and both together (8).
    assert found.values == 16


def test_a_strided_depthwise_and_separable_convolution_by_pencil() -> None:
    import keras

    layers = keras.layers
    inputs = keras.Input((None, None, 4))
    one = layers.DepthwiseConv2D(3, strides=2, padding="same")(inputs)
    outputs = layers.SeparableConv2D(8, 3, padding="same")(one)
    model = keras.Model(inputs, outputs)
    found = cost(model)
    assert found.parameters == model.count_params()
    assert found.flops == 2 * 9 * 4 / 4 + 2 * (9 * 4 + 4 * 8) / 4


@pytest.mark.parametrize(
    ("normalisation", "bound"),
    [("none", False), ("batch", False), ("group", True), ("instance", True)],
)
def test_statistics_over_the_tile_bind_it(normalisation, bound) -> None:
    model = build_unet((None, None, 1), 2, filters=4, depth=2, normalisation=normalisation)
    assert cost(model).tile_bound == bound


def test_a_network_of_one_size_says_so() -> None:
    assert cost(build_unet((32, 16, 1), 2, filters=2, depth=2)).fixed == (32, 16)
    assert cost(build_unet((None, None, 1), 2, filters=2, depth=2)).fixed is None
