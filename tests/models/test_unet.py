"""The default network is the classic one, to the parameter."""

import json

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from voxtile.models.bundle import check_keras_archive  # noqa: E402
from voxtile.models.unet import build_unet  # noqa: E402


def test_default_network_is_the_classic_one() -> None:
    network = build_unet()
    assert network.count_params() == 31_031_745
    assert network.input_shape == (None, 128, 128, 3)
    assert network.output_shape == (None, 128, 128, 1)
    widths = [
        layer.filters
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
        and not isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    down = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert widths == [*down, 512, 512, 256, 256, 128, 128, 64, 64, 1]
    assert network.layers[-1].activation.__name__ == "sigmoid"


def tutorial_unet(shape: tuple[int, int, int], num_classes: int, filters: int) -> keras.Model:
    """The U-Net as Keras tutorials write it, without any code of ours."""
    layers = keras.layers

    def double_conv(x, width):
        x = layers.Conv2D(width, (3, 3), activation="relu", padding="same")(x)
        return layers.Conv2D(width, (3, 3), activation="relu", padding="same")(x)

    inputs = layers.Input(shape)
    conv1 = double_conv(inputs, filters)
    conv2 = double_conv(layers.MaxPooling2D((2, 2))(conv1), filters * 2)
    conv3 = double_conv(layers.MaxPooling2D((2, 2))(conv2), filters * 4)
    conv4 = double_conv(layers.MaxPooling2D((2, 2))(conv3), filters * 8)
    x = double_conv(layers.MaxPooling2D((2, 2))(conv4), filters * 16)
    for conv, width in ((conv4, 8), (conv3, 4), (conv2, 2), (conv1, 1)):
        up = layers.Conv2DTranspose(filters * width, (2, 2), strides=(2, 2), padding="same")(x)
        x = double_conv(layers.concatenate([up, conv]), filters * width)
    activation = "sigmoid" if num_classes == 1 else "softmax"
    return keras.Model(inputs, layers.Conv2D(num_classes, (1, 1), activation=activation)(x))


@pytest.mark.parametrize(
    ("shape", "num_classes", "filters"), [((128, 128, 3), 1, 64), ((32, 48, 1), 4, 4)]
)
def test_weights_of_the_tutorials_network_give_its_output(shape, num_classes, filters) -> None:
    keras.utils.set_random_seed(0)
    tutorial = tutorial_unet(shape, num_classes, filters)
    network = build_unet(shape, num_classes, filters=filters)
    with_weights = [[layer for layer in one.layers if layer.weights] for one in (network, tutorial)]
    for layer, source in zip(*with_weights, strict=True):
        # Random biases as well, which Keras begins with 0.
        values = [v + np.float32(0.01) * np.random.randn(*v.shape) for v in source.get_weights()]
        source.set_weights(values)
        layer.set_weights(source.get_weights())
    tiles = np.random.default_rng(0).random((1, *shape), np.float32)
    expected = np.asarray(tutorial(tiles))
    assert expected.std() > 1e-4
    np.testing.assert_allclose(np.asarray(network(tiles)), expected, rtol=0, atol=1e-6)


def test_the_order_of_version_0_1_0_can_still_be_built() -> None:
    weights = build_unet((16, 16, 1), 2, filters=2, depth=2).get_weights()
    tiles = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    outputs = []
    for skip_first in (False, True):
        network = build_unet((16, 16, 1), 2, filters=2, depth=2, skip_first=skip_first)
        network.set_weights(weights)
        # The skip is the output of down1; "up1" gives the upsampled features.
        first, second = (network.get_layer(name).output for name in ("down1_conv_b", "up1"))
        joined = network.get_layer("skip1").input
        assert [id(tensor) for tensor in joined] == [
            id(tensor) for tensor in ((first, second) if skip_first else (second, first))
        ]
        outputs.append(np.asarray(network(tiles)))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-6


def test_several_classes_compete() -> None:
    network = build_unet((None, None, 2), 3, filters=4, depth=2, normalisation="batch")
    tiles = np.random.default_rng(0).random((2, 16, 24, 2), np.float32)
    out = np.asarray(network(tiles))
    assert out.shape == (2, 16, 24, 3)
    np.testing.assert_allclose(out.sum(axis=-1), 1, rtol=1e-5)


def test_overlapping_regions_may_use_sigmoid() -> None:
    network = build_unet((8, 8, 1), 3, filters=2, depth=1, activation="sigmoid")
    assert network.layers[-1].activation.__name__ == "sigmoid"


@pytest.mark.parametrize("normalisation", ["none", "batch", "group", "instance"])
def test_every_network_is_stock_and_passes_the_bundle_check(tmp_path, normalisation) -> None:
    network = build_unet(
        (None, None, 1), 2, filters=6, depth=2, normalisation=normalisation, dropout=0.1
    )
    network.save(tmp_path / "n.keras")
    check_keras_archive((tmp_path / "n.keras").read_bytes(), "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", compile=False)
    tiles = np.ones((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(np.asarray(again(tiles)), np.asarray(network(tiles)))
    assert "voxtile" not in json.dumps(network.get_config(), default=str)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (100, 128, 1)}, r"rows 100 must be a multiple of 16 .* next one is 112"),
        ({"input_shape": (128, 8, 1)}, r"columns 8 must be a multiple of 16"),
        ({"input_shape": (128, 128)}, r"must be \(rows, columns, channels\)"),
        ({"depth": 0}, "at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"activation": "softmax"}, "use sigmoid"),
        ({"normalisation": "layer"}, "not known"),
    ],
)
def test_an_impossible_network_says_why(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_unet(**arguments)
