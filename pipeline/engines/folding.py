"""A network as a GPU computes it fastest: the same function, in fewer passes over memory.

On a GPU most of a U-Net's time outside its multiplications goes into reading
and writing features. Two changes avoid that; each leaves the function as it
is, but for rounding:

- A batch normalisation that follows a convolution becomes part of its weights
  (Jacob et al. 2018, arXiv:1712.05877, section 3.2), so that the compiler joins
  the convolution, its offset and ReLU.
- A convolution of 1x1 pixels becomes a matrix product, because the compiler
  joins a change of precision only with a product.

Channels of zeros, up to the eight that matrix units take at once, were tried
for the first convolution and gained nothing (docs/gpu.md).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from voxtile.models.backend import keras


class _PixelProduct(keras.layers.Conv2D):  # type: ignore[misc]
    """A convolution of 1x1 pixels, computed as a matrix product."""

    def call(self, inputs: Any) -> Any:
        """Return the product of each pixel's channels."""
        answer = keras.ops.matmul(inputs, self.kernel[0, 0])
        return self.activation(answer + self.bias if self.use_bias else answer)


class _Unchanged(keras.layers.Layer):  # type: ignore[misc]
    """What is left of a normalisation that is part of a convolution's weights."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Return the input."""
        return inputs


def folded(model: Any) -> Any:
    """Return a network of the same function with fewer passes over memory.

    Parameters
    ----------
    model : keras.Model
        Is not changed. Layers that none of the changes apply to are copied.
    """
    into = _normalised(model)  # the convolution of each normalisation, by its name
    after = {convolution.name: norm for norm, convolution in into.values()}

    def changed(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in into:
            return _Unchanged(name=layer.name, dtype=config["dtype"])
        kind = layer.__class__
        if kind is keras.layers.Conv2D and _sees_single_pixels(layer):
            kind = _PixelProduct
        if layer.name in after:
            config["use_bias"] = True
        return kind.from_config(config)

    other = keras.models.clone_model(model, clone_function=changed)
    for old, new in zip(model.layers, other.layers, strict=True):
        if old.name not in into:
            weights = old.get_weights()
            if old.name in after:
                weights = _joined(old, after[old.name], weights)
            new.set_weights(weights)
    return other


def _sees_single_pixels(layer: Any) -> bool:
    """Whether a convolution multiplies the channels of each pixel, and nothing else."""
    facts = layer.kernel_size, layer.strides, layer.groups, layer.data_format
    return bool(facts == ((1, 1), (1, 1), 1, "channels_last"))


def _normalised(model: Any) -> Mapping[str, tuple[Any, Any]]:
    """Return each normalisation that follows a convolution alone, with that convolution."""
    layers = [layer for layer in model.layers if len(layer._inbound_nodes) == 1]
    makers: dict[int, Any] = {
        id(layer.output): layer for layer in layers if not isinstance(layer.output, list)
    }
    uses = Counter(
        id(tensor)
        for layer in model.layers
        for node in layer._inbound_nodes
        for tensor in node.input_tensors
    )
    uses.update(id(tensor) for tensor in model.outputs)
    found = {}
    for layer in layers:
        if type(layer) is keras.layers.BatchNormalization:
            source: Any = makers.get(id(layer.input))
            if (
                type(source) in (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
                and source.activation is keras.activations.linear
                and source.data_format == "channels_last"
                and layer.axis in (-1, 3)
                and uses[id(layer.input)] == 1
            ):
                found[layer.name] = layer, source
    return found


def _joined(convolution: Any, norm: Any, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Return kernel and offset of a convolution followed by its normalisation."""
    kernel = weights[0].astype(np.float64)
    offset = weights[1] if convolution.use_bias else 0.0
    mean, variance = np.float64(norm.moving_mean), np.float64(norm.moving_variance)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * np.float64(norm.gamma)
    offset = (offset - mean) * scale
    if norm.center:
        offset = offset + np.float64(norm.beta)
    transposed = isinstance(convolution, keras.layers.Conv2DTranspose)
    kernel = kernel * (scale[:, np.newaxis] if transposed else scale)
    return [kernel.astype(np.float32), offset.astype(np.float32)]
