"""The U-Net: the only file with layers.

The default network is the classic one of Ronneberger et al. 2015 ("U-Net:
Convolutional Networks for Biomedical Image Segmentation", figure 1), with
`same` padding so that a mask is as large as its image:

    input -> [C C] ------------------------------------> [C C] -> 1x1 -> output
               | pool                            up |
             [C C] ----------------------------> [C C]
               | pool                        up |
             [C C] --------------------> [C C]
               | pool                up |
             [C C] ------------> [C C]
               | pool        up |
               +---> [C C] -----+        C: 3x3 convolution (+ norm), ReLU

On the way up, the channels from below come first and the skipped ones second,
``concatenate([up, skip])``, as in the usual Keras tutorials.

It has only stock Keras layers, so that a saved network needs no code of voxtile.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from .backend import keras
from .spec import Normalisation

layers = keras.layers

Activation = Literal["sigmoid", "softmax", "linear"]


def build_unet(
    input_shape: Sequence[int | None] = (128, 128, 3),
    num_classes: int = 1,
    *,
    filters: int = 64,
    depth: int = 4,
    normalisation: Normalisation = "none",
    dropout: float = 0.0,
    activation: Activation | None = None,
    skip_first: bool = False,
    name: str = "unet",
) -> keras.Model:
    """Return an uncompiled U-Net.

    Parameters
    ----------
    input_shape : (rows, columns, channels), default (128, 128, 3)
        Size of one tile. Rows and columns may be None: such a network takes
        any multiple of ``2**depth``.
    num_classes : int, default 1
        Channels of the output, background included for softmax.
    filters : int, default 64
        Filters of the first level; each level below has twice as many.
    depth : int, default 4
        Number of poolings.
    normalisation : {"none", "batch", "group", "instance"}, default "none"
        What follows each convolution. "group" has 8 groups (or as many as
        divide the filters). "group" and "instance" have statistics over the
        tile, so their output depends on the tile's size.
    dropout : float, default 0
        Rate of the spatial dropout in the bottleneck and the two levels next
        to it; 0 adds no layer.
    activation : {"sigmoid", "softmax", "linear"} or None
        Last activation. None means sigmoid for one class and softmax for
        more; overlapping regions need "sigmoid".
    skip_first : bool, default False
        Concatenate the skipped channels before the upsampled ones, as voxtile
        0.1.0 did. Use it only for the weights of such a network: they would load
        into the other order without an error, but give another output.
    name : str, default "unet"
        Name of the network.

    Returns
    -------
    keras.Model
        float32 of shape (n, rows, columns, channels) to float32 of shape
        (n, rows, columns, num_classes). With default arguments it has
        31,031,745 parameters.

    Raises
    ------
    ValueError
        If rows or columns are not a multiple of ``2**depth``, or another
        argument is out of range.
    """
    _check(input_shape, num_classes, filters, depth, dropout)
    if normalisation not in get_args(Normalisation):
        raise ValueError(
            f"normalisation {normalisation!r} is not known; use none, batch, group or instance"
        )
    if activation == "softmax" and num_classes == 1:
        raise ValueError("softmax over one class is always 1; use sigmoid or num_classes=2")
    inputs = keras.Input(tuple(input_shape), name="tiles")
    x = _levels(inputs, filters, depth, normalisation, dropout, skip_first=skip_first)
    # float32 in every precision, because probabilities are compared with thresholds.
    x = layers.Conv2D(num_classes, 1, dtype="float32", name="logits")(x)
    last = activation or ("sigmoid" if num_classes == 1 else "softmax")
    outputs = layers.Activation(last, dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name=name)


def _levels(
    x: Any, filters: int, depth: int, normalisation: Normalisation, rate: float, *, skip_first: bool
) -> Any:
    """Apply encoder, bottleneck and decoder; return features of the input's size."""

    def level(x: Any, number: int, name: str, *, drops: bool) -> Any:
        x = _convolutions(x, filters * 2**number, normalisation, name)
        if rate and drops:
            x = layers.SpatialDropout2D(rate, name=f"{name}_dropout")(x)
        return x

    skips = []
    for number in range(depth):
        x = level(x, number, f"down{number + 1}", drops=number == depth - 1)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{number + 1}")(x)
    x = level(x, depth, "bottom", drops=True)
    for number in reversed(range(depth)):
        width, name = filters * 2**number, f"up{number + 1}"
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same", name=name)(x)
        both = [skips[number], x] if skip_first else [x, skips[number]]
        x = layers.Concatenate(name=f"skip{number + 1}")(both)
        x = level(x, number, f"merge{number + 1}", drops=number == depth - 1)
    return x


def _check(
    input_shape: Sequence[int | None], num_classes: int, filters: int, depth: int, dropout: float
) -> None:
    """Refuse sizes with which no network can be built."""
    if len(input_shape) != 3 or not input_shape[2] or input_shape[2] < 1:
        raise ValueError(
            f"input_shape {tuple(input_shape)} must be (rows, columns, channels), "
            "with at least one channel"
        )
    if depth < 1 or filters < 1 or num_classes < 1:
        raise ValueError(
            f"depth {depth}, filters {filters} and num_classes {num_classes} must be at least 1"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout {dropout} must be at least 0 and below 1")
    multiple = 2**depth
    for axis, size in zip(("rows", "columns"), input_shape, strict=False):
        if size is not None and (size < multiple or size % multiple):
            raise ValueError(
                f"{axis} {size} must be a multiple of {multiple} (2**depth, depth={depth}); "
                f"the next one is {max(1, -(-size // multiple)) * multiple}"
            )


def _convolutions(x: Any, width: int, normalisation: Normalisation, level: str) -> Any:
    """Apply two 3x3 convolutions, each followed by its normalisation and ReLU."""
    plain = normalisation == "none"
    for part in ("a", "b"):
        x = layers.Conv2D(
            width,
            3,
            padding="same",
            activation="relu" if plain else None,
            use_bias=plain,  # a normalisation has its own offset
            kernel_initializer="he_normal",
            name=f"{level}_conv_{part}",
        )(x)
        if not plain:
            x = _normaliser(normalisation, width, f"{level}_norm_{part}")(x)
            x = layers.Activation("relu", name=f"{level}_relu_{part}")(x)
    return x


def _normaliser(normalisation: Normalisation, width: int, name: str) -> keras.layers.Layer:
    """Return the layer that follows a convolution of `width` filters."""
    if normalisation == "batch":
        # With Keras' default of 0.99 the first weights still count after hundreds of steps, and a
        # training run of a minute has no more. A batch has thousands of pixels: 0.95 is enough.
        return layers.BatchNormalization(momentum=0.95, name=name)
    if normalisation == "instance":
        return layers.GroupNormalization(groups=-1, name=name)
    groups = next(n for n in range(min(8, width), 0, -1) if width % n == 0)
    return layers.GroupNormalization(groups=groups, name=name)
