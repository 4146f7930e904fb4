"""Shapes and weights that are computed from a configuration are those of Keras."""

import json
import zipfile
from pathlib import Path

import keras
import pytest

from voxtile.models.keras_archive import check_keras_archive
from voxtile.models.keras_shapes import layer_sizes

layers = keras.layers


def every_kind(form: str, size: int | None) -> keras.Model:
    """A network with every stock layer that is allowed."""
    axis = 3 if form == "channels_last" else 1
    shape = (size, size, 4) if axis == 3 else (4, size, size)
    kind = {"data_format": form}
    x = inputs = keras.Input(shape)
    x = layers.Conv2D(8, (3, 5), padding="same", groups=2, dilation_rate=2, **kind)(x)
    x = layers.BatchNormalization(axis=axis)(x)
    x = layers.GroupNormalization(groups=2, axis=axis)(layers.ReLU()(x))
    x = layers.LayerNormalization(axis=axis)(layers.LeakyReLU()(x))
    skip = layers.SpatialDropout2D(0.1, **kind)(layers.ELU()(x))
    x = layers.MaxPooling2D(2, **kind)(skip)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, **kind)(x)
    x = layers.AveragePooling2D(3, strides=1, padding="same", **kind)(layers.Dropout(0.1)(x))
    x = layers.Cropping2D(((1, 0), (0, 1)), **kind)(layers.ZeroPadding2D(1, **kind)(x))
    x = layers.Cropping2D(((0, 1), (1, 0)), **kind)(x)
    x = layers.SeparableConv2D(8, 3, padding="same", **kind)(x)
    x = layers.PReLU(shared_axes=[1, 2] if axis == 3 else [2, 3])(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", **kind)(x)
    shared = layers.Conv2D(8, 1, **kind)
    x = layers.Concatenate(axis=axis)([layers.Add()([shared(x), skip]), shared(skip)])
    x = layers.Multiply()([x, layers.Average()([x, x])])
    x = layers.UpSampling2D(2, **kind)(layers.Conv2D(4, 2, strides=2, **kind)(x))
    x = layers.Rescaling(0.5)(layers.Activation("relu")(x))
    inner_in = keras.Input(x.shape[1:])
    inner = keras.Model(inner_in, layers.Conv2D(2, 1, **kind)(inner_in))
    return keras.Model(inputs, layers.Softmax(axis=axis)(inner(x)))


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
@pytest.mark.parametrize("size", [None, 16])
def test_shapes_and_weights_are_those_of_keras(tmp_path: Path, form: str, size: int | None) -> None:
    model = every_kind(form, size)
    model.save(tmp_path / "n.keras")
    check_keras_archive((tmp_path / "n.keras").read_bytes(), "n.keras", (16, 16), 4)
    with zipfile.ZipFile(tmp_path / "n.keras") as archive:
        config = json.loads(archive.read("config.json"))
    arrays, weights = layer_sizes(config, (16, 16), 4)
    seeds = sum(int(one.shape[0]) for one in model.variables if "seed" in one.path)
    assert weights == sum(one.value.shape.num_elements() for one in model.variables) - seeds
    if size is not None:
        shapes = dict(arrays)
        for layer in model.layers:
            if len(layer._inbound_nodes) == 1 and hasattr(layer.output, "shape"):
                assert tuple(shapes[layer.name])[1:] == tuple(layer.output.shape)[1:], layer.name
