"""The cost of a network, computed from the configuration in its archive; nothing is built.

Every layer of a U-Net works at the tile's resolution divided by a stride, so
arithmetic and memory are proportional to the pixels of a tile: a few numbers
per pixel give both for a tile of any size.
"""

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from .bundle import Bundle
from .spec import Network

# Layers whose output at one pixel depends on the whole tile.
_STATISTICS = {"GroupNormalization", "LayerNormalization"}
# Layers that a compiler merges with their neighbour, or that compute nothing.
_FREE = {"InputLayer", "Dropout", "SpatialDropout2D", "BatchNormalization", "Activation", "ReLU"}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one network."""

    # Operations for each pixel of a tile; a multiplication and an addition count as two.
    flops: float
    values: float  # maximum of numbers in memory at one time, per pixel of a tile
    # Whether a layer has statistics over the tile, so that the size of a tile changes the output.
    tile_bound: bool
    # The only tile size (rows, columns) that the network takes; None if it takes several.
    fixed: tuple[int, int] | None
    parameters: int


def network_cost(bundle: Bundle, network: Network) -> Cost | None:
    """Return the cost of a network; None for an .onnx network, whose graph is not read.

    ModelError if the file is refused.
    """
    if not network.file.endswith(".keras"):
        return None
    with zipfile.ZipFile(BytesIO(bundle.read_network(network))) as archive:
        config = json.loads(archive.read("config.json"))
    return cost_of(config)


def cost_of(config: dict[str, Any]) -> Cost:
    """Return the cost of a functional Keras network, from its ``config.json``.

    Only convolutions count: all other layers have less than a hundredth of the
    arithmetic.
    """
    layers = config["config"]["layers"]
    shape = next(layer for layer in layers if layer["class_name"] == "InputLayer")["config"]
    _, rows, columns, channels = shape.get("batch_shape") or shape["batch_input_shape"]
    outputs: dict[str, _Output] = {}
    flops = 0.0
    parameters = 0
    for layer in layers:
        name = layer["config"]["name"]
        inputs = [outputs[source] for source in _sources(layer)]
        own, work, weights = _layer(layer, inputs, channels)
        outputs[name] = own
        flops += work
        parameters += weights
    return Cost(
        flops=flops,
        values=_most_alive(layers, outputs),
        tile_bound=any(layer["class_name"] in _STATISTICS for layer in layers),
        fixed=None if rows is None or columns is None else (rows, columns),
        parameters=parameters,
    )


def unet_flops(channels: int, num_classes: int, *, filters: int, depth: int) -> float:
    """Return the operations for each pixel of a tile of `voxtile.models.unet.build_unet`.

    The result equals `cost_of` for that network, but the network is not built.

    Examples
    --------
    >>> unet_flops(1, 1, filters=1, depth=1)  # 9 + 9 + 4.5 + 9 + 2 + 18 + 9 + 1, each twice
    123.0
    """
    work = filters * num_classes
    before = channels
    for level in range(depth + 1):
        width = filters * 2**level
        convolutions = 9 * width * (before + width)
        if level < depth:
            # The way up: a transposed convolution from twice the width, then two convolutions.
            convolutions += 2 * width * width + 9 * width * (2 * width + width)
        work += convolutions / 4**level
        before = width
    return 2 * work


@dataclass(frozen=True, slots=True)
class _Output:
    """The output of a layer: its channels, and its pixels for each pixel of the tile."""

    channels: int
    density: float


def _layer(
    layer: dict[str, Any], inputs: list[_Output], channels: int
) -> tuple[_Output, float, int]:
    """Return the output of a layer, its operations per pixel of the tile, and its parameters."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "InputLayer":
        return _Output(channels, 1.0), 0.0, 0
    first = inputs[0]
    if kind == "Concatenate":
        return _Output(sum(one.channels for one in inputs), first.density), 0.0, 0
    density = first.density
    strides = math.prod(_pair(config.get("strides") or config.get("pool_size") or 1))
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return _Output(first.channels, density / math.prod(_pair(config["pool_size"]))), 0.0, 0
    if kind == "UpSampling2D":
        return _Output(first.channels, density * math.prod(_pair(config["size"]))), 0.0, 0
    bias = bool(config.get("use_bias"))
    area = math.prod(_pair(config.get("kernel_size", 1)))
    if kind == "Conv2D":
        width, density = config["filters"], density / strides
        weights = area * first.channels * width // config.get("groups", 1)
        return _Output(width, density), 2 * weights * density, weights + bias * width
    if kind == "Conv2DTranspose":
        width = config["filters"]
        weights = area * first.channels * width
        return _Output(width, density * strides), 2 * weights * density, weights + bias * width
    if kind == "DepthwiseConv2D":
        width, density = first.channels * config["depth_multiplier"], density / strides
        return _Output(width, density), 2 * area * width * density, area * width + bias * width
    if kind == "SeparableConv2D":
        middle, width = first.channels * config["depth_multiplier"], config["filters"]
        density /= strides
        weights = area * middle + middle * width
        return _Output(width, density), 2 * weights * density, weights + bias * width
    moments = {"BatchNormalization": 4, "GroupNormalization": 2, "LayerNormalization": 2}
    return first, 0.0, moments.get(kind, 0) * first.channels


def _most_alive(layers: list[dict[str, Any]], outputs: dict[str, _Output]) -> float:
    """Return how many numbers per pixel are in memory while the largest layer runs."""
    last_use = {source: place for place, layer in enumerate(layers) for source in _sources(layer)}
    alive = most = 0.0
    for place, layer in enumerate(layers):
        name = layer["config"]["name"]
        size = outputs[name].channels * outputs[name].density
        in_place = layer["class_name"] in _FREE and layer["class_name"] != "InputLayer"
        alive += size
        most = max(most, alive - (size if in_place else 0))
        alive -= sum(
            outputs[source].channels * outputs[source].density
            for source in set(_sources(layer))
            if last_use[source] == place
        )
    return most


def _sources(layer: dict[str, Any]) -> list[str]:
    """Return the names of the layers whose outputs a layer takes, in order."""
    return [
        part["config"]["keras_history"][0]
        for node in layer["inbound_nodes"][:1]
        for part in _tensors(node.get("args", []))
    ]


def _tensors(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the Keras tensors in the arguments of a call."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _tensors(inner)


def _pair(value: Any) -> tuple[int, int]:
    """Return (rows, columns) from a pair, or from one number that is used for both."""
    if isinstance(value, list | tuple):
        rows, columns = value
        return rows, columns
    return value, value
