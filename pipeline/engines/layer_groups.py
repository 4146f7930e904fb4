"""The convolutions of a network by their place: encoder levels, bottleneck, decoder levels, head.

A level is a size of planes, the finest is level 1. It is read from the network that is run, so it
does not depend on the names that a program gave to its layers.
"""

from collections.abc import Sequence
from typing import Any

_WITH_WEIGHTS = {
    "Convolution",
    "ConvolutionBackpropData",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "MatMul",
}


def layer_groups(model: Any, shape: Sequence[int]) -> dict[str, list[str]]:
    """Return the names of the layers with weights by group, in the order of computing.

    `model` is an OpenVINO model, `shape` that of its input. Layers before the first of the smallest
    planes are the encoder, layers after the last of these the decoder, and the last layer of all
    is the head.
    """
    fixed = model.clone()
    fixed.reshape(list(shape))
    pixels: dict[str, int] = {}
    area = 0
    for layer in fixed.get_ordered_ops():
        if layer.get_type_name() in _WITH_WEIGHTS:
            sizes = list(layer.get_output_shape(0))
            # A matrix product knows no planes, and counts to the layer before it.
            area = sizes[-1] * sizes[-2] if layer.get_type_name() != "MatMul" else area
            pixels[layer.get_friendly_name()] = area
    names = list(pixels)
    levels = {area: level for level, area in enumerate(sorted(set(pixels.values()))[::-1], 1)}
    smallest = [place for place, name in enumerate(names) if levels[pixels[name]] == len(levels)]
    groups: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        level = levels[pixels[name]]
        if place == len(names) - 1 and place:
            group = "head"
        elif level == len(levels):
            group = "bottleneck"
        else:
            group = f"{'encoder' if place < smallest[0] else 'decoder'} level {level}"
        groups.setdefault(group, []).append(name)
    return groups
