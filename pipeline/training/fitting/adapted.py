"""Adapt a network to other channels and labels, and keep the weights that fit.

first layer   channels of the same name keep their weights; a new channel gets their mean
last layer    new, if the labels are others
all others    unchanged
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from voxtile.errors import UsageError

_LAST, _ACTIVATION = "logits", "probabilities"


def adapted(
    network: Any,
    channels: tuple[Sequence[str], Sequence[str]],
    outputs: int,
    activation: str,
    *,
    new_last: bool,
    context_slices: int,
) -> Any:
    """Return a U-Net of voxtile with other inputs and outputs; the given network is unchanged.

    `channels` are the names of the old and of the new channels; `outputs` is the number of
    outputs. With `new_last`, the last layer gets random weights. Input channels after the
    `context_slices` of each channel, which say where a pixel is, stay.
    """
    before, after = channels
    config = network.get_config()
    found = {layer["config"]["name"]: layer for layer in config["layers"]}
    if not {_LAST, _ACTIVATION} <= set(found):
        raise UsageError(
            "the networks of --init were not made by voxtile, so their last layer is not known; "
            "use the same channels and labels, or train without --init"
        )
    others = context_slices * (len(after) - len(before))
    for layer in config["layers"]:
        layer.pop("build_config", None)  # it has the shapes of the old channels
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"] = (
                *network.input_shape[:-1],
                network.input_shape[-1] + others,
            )
    found[_LAST]["config"]["filters"] = outputs
    found[_ACTIVATION]["config"]["activation"] = activation
    new = type(network).from_config(config)
    first = next(layer.name for layer in network.layers if layer.get_weights())
    for layer in new.layers:
        weights = network.get_layer(layer.name).get_weights()
        if layer.name == _LAST and new_last:
            continue
        if layer.name == first and tuple(before) != tuple(after):
            weights = [_first_kernel(weights[0], before, after, context_slices), *weights[1:]]
        layer.set_weights(weights)
    return new


def _first_kernel(
    kernel: np.ndarray, before: Sequence[str], after: Sequence[str], context_slices: int
) -> np.ndarray:
    """Return the kernel of the first layer for other channels, each with its planes."""
    rows, columns, _, filters = kernel.shape
    of_channels, rest = np.split(kernel, [len(before) * context_slices], axis=2)
    parts = of_channels.reshape(rows, columns, len(before), context_slices, filters)
    mean = parts.mean(axis=2)
    names = list(before)
    chosen = [parts[:, :, names.index(name)] if name in names else mean for name in after]
    return np.concatenate([*chosen, rest], axis=2)
