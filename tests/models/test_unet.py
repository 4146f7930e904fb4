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
