"""The U-Nets of nnU-Net, built in Keras from the arrays of a checkpoint.

They are PlainConvUNet and ResidualEncoderUNet of the package dynamic_network_architectures:

    block      convolution, instance normalisation, leaky ReLU
    residual   two blocks, plus the input (averaged where it is strided, 1x1 convolved where it is
               wider), leaky ReLU
    encoder    stages of blocks, the first of each strided
    decoder    transposed convolution, concatenated with the encoder's stage, blocks

Rows and columns can be swapped: then each kernel is transposed, so that the network gives the
transposed output for a transposed plane. The last layer gives logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxtile.errors import ModelError
from voxtile.models.backend import keras

layers = keras.layers


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the arrays of a network do not say."""

    residual: bool  # whether the encoder has residual blocks
    strides: tuple[tuple[int, int], ...]  # (rows, columns) of each stage of the encoder
    epsilon: float = 1e-5  # of the normalisations
    slope: float = 0.01  # of the leaky ReLU below 0


def build_network(
    arrays: Mapping[str, np.ndarray],
    architecture: Architecture,
    tile: tuple[int, int],
    channels: int,
    *,
    swapped: bool = False,
) -> Any:
    """Return the Keras network of a checkpoint, for one tile size (rows, columns).

    `arrays` have PyTorch's names and axes. With `swapped`, rows of the tile are the columns that
    the network was trained on. ModelError if an array is missing, left over or has another shape.
    """
    parts = _Parts(arrays, architecture, swapped)
    inputs = x = keras.Input((*tile, channels), name="tiles")
    if architecture.residual:
        x = parts.blocks(x, "encoder.stem.convs", (1, 1))
    skips = []
    for index, stride in enumerate(architecture.strides):
        x = (
            parts.residuals(x, f"encoder.stages.{index}.blocks", stride)
            if architecture.residual
            else parts.blocks(x, f"encoder.stages.{index}.0.convs", stride)
        )
        skips.append(x)
    for index, skip in enumerate(reversed(skips[:-1])):
        stride = architecture.strides[-1 - index]
        x = parts.upsampled(x, f"decoder.transpconvs.{index}", stride)
        if x.shape[1:3] != skip.shape[1:3]:
            raise ModelError(
                f"a tile of {tile} does not go through strides {architecture.strides}; the plans "
                "do not belong to this checkpoint"
            )
        x = layers.Concatenate(name=f"skip{index}")([x, skip])
        x = parts.blocks(x, f"decoder.stages.{index}.convs", (1, 1))
    x = parts.convolved(x, f"decoder.seg_layers.{len(skips) - 2}")
    parts.check_all_used(len(skips) - 2)
    return keras.Model(inputs, x, name="nnunet")


class _Parts:
    """Layers with the arrays of a checkpoint, each of which is used once."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], architecture: Architecture, swapped: bool
    ) -> None:
        self._arrays = {
            name: array
            for name, array in arrays.items()
            # PyTorch lists the encoder again as a part of the decoder, and each block's layers
            # again as a sequence.
            if not name.startswith("decoder.encoder.") and ".all_modules." not in name
        }
        self._architecture = architecture
        self._swapped = swapped
        self._used: set[str] = set()

    def blocks(self, x: Any, prefix: str, stride: tuple[int, int]) -> Any:
        """Apply consecutive blocks, the first of them strided."""
        for index in range(self._count(prefix)):
            x = self._block(x, f"{prefix}.{index}", stride if index == 0 else (1, 1))
        return x

    def residuals(self, x: Any, prefix: str, stride: tuple[int, int]) -> Any:
        """Apply consecutive residual blocks, the first of them strided."""
        for index in range(self._count(prefix)):
            name, step = f"{prefix}.{index}", self._turned(stride) if index == 0 else (1, 1)
            skip = x
            if step != (1, 1):
                skip = layers.AveragePooling2D(step, name=_named(f"{name}.pool"))(skip)
            projected = f"{name}.skip.{int(step != (1, 1))}"
            if f"{projected}.conv.weight" in self._arrays:
                skip = self._block(skip, projected, (1, 1), active=False)
            x = self._block(x, f"{name}.conv1", stride if index == 0 else (1, 1))
            x = self._block(x, f"{name}.conv2", (1, 1), active=False)
            x = layers.Add(name=_named(f"{name}.add"))([x, skip])
            x = self._leaky(x, name)
        return x

    def convolved(self, x: Any, name: str, stride: tuple[int, int] = (1, 1)) -> Any:
        """Apply a convolution, padded on both sides as PyTorch does."""
        kernel = self._kernel(f"{name}.weight", x, (2, 3, 1, 0))
        size, step = kernel.shape[:2], self._turned(stride)
        if any(length % 2 == 0 for length in size):
            raise ModelError(f"{name} has a kernel of {size}; only odd sizes are supported")
        # Keras' own padding of a strided convolution would be on one side only.
        plain = step == (1, 1)
        margins = tuple(((length - 1) // 2,) * 2 for length in size)
        if not plain and size != (1, 1):
            x = layers.ZeroPadding2D(margins, name=_named(f"{name}.pad"))(x)
        return self._filled(
            layers.Conv2D(
                kernel.shape[3],
                size,
                step,
                padding="same" if plain else "valid",
                use_bias=f"{name}.bias" in self._arrays,
                name=_named(name),
            ),
            x,
            [kernel, *self._bias(name)],
        )

    def upsampled(self, x: Any, name: str, stride: tuple[int, int]) -> Any:
        """Apply a transposed convolution whose kernel is as large as its stride."""
        kernel = self._kernel(f"{name}.weight", x, (2, 3, 1, 0), given=0)
        if kernel.shape[:2] != self._turned(stride):
            raise ModelError(f"{name} has a kernel of {kernel.shape[:2]}, not of its stride")
        layer = layers.Conv2DTranspose(
            kernel.shape[2],
            kernel.shape[:2],
            self._turned(stride),
            use_bias=f"{name}.bias" in self._arrays,
            name=_named(name),
        )
        return self._filled(layer, x, [kernel, *self._bias(name)])

    def check_all_used(self, last: int) -> None:
        """Refuse arrays that this architecture does not have; deep outputs are not needed."""
        deep = {
            f"decoder.seg_layers.{index}.{part}"
            for index in range(last)
            for part in ("weight", "bias")
        }
        others = sorted(self._arrays.keys() - self._used - deep)
        if others:
            raise ModelError(
                f"the checkpoint has {others[0]} and {len(others) - 1} more arrays that its plans "
                "do not have; another trainer changed the network, which cannot be imported"
            )

    def _block(self, x: Any, name: str, stride: tuple[int, int], *, active: bool = True) -> Any:
        """Apply a convolution, its normalisation, and the leaky ReLU if it is active."""
        x = self.convolved(x, f"{name}.conv", stride)
        layer = layers.GroupNormalization(
            -1, epsilon=self._architecture.epsilon, name=_named(f"{name}.norm")
        )
        moments = [self._take(f"{name}.norm.{part}") for part in ("weight", "bias")]
        x = self._filled(layer, x, moments)
        return self._leaky(x, name) if active else x

    def _leaky(self, x: Any, name: str) -> Any:
        """Apply the leaky ReLU."""
        slope = self._architecture.slope
        return layers.LeakyReLU(negative_slope=slope, name=_named(f"{name}.relu"))(x)

    def _filled(self, layer: Any, x: Any, weights: Sequence[np.ndarray]) -> Any:
        """Apply a layer and give it its weights."""
        x = layer(x)
        try:
            layer.set_weights(weights)
        except ValueError as error:
            raise ModelError(
                f"{layer.name} has arrays of shapes {[one.shape for one in weights]}, which do "
                "not fit the layers before it; the plans do not belong to this checkpoint"
            ) from error
        return x

    def _kernel(
        self, name: str, x: Any, axes: tuple[int, int, int, int], given: int = 1
    ) -> np.ndarray:
        """Return a kernel with Keras' axes (rows, columns, ...); `given` is the axis of inputs."""
        array = self._take(name)
        if array.ndim != 4 or array.shape[given] != x.shape[-1]:
            raise ModelError(
                f"{name} has shape {array.shape}, but {x.shape[-1]} channels come before it; only "
                "2D networks whose plans belong to the checkpoint can be imported"
            )
        kernel = array.transpose(axes)
        return kernel.swapaxes(0, 1) if self._swapped else kernel

    def _bias(self, name: str) -> list[np.ndarray]:
        """Return a layer's bias, if it has one."""
        return [self._take(f"{name}.bias")] if f"{name}.bias" in self._arrays else []

    def _take(self, name: str) -> np.ndarray:
        """Return an array."""
        if name not in self._arrays:
            raise ModelError(
                f"the checkpoint has no array {name}; its plans describe another network"
            )
        self._used.add(name)
        return np.asarray(self._arrays[name], np.float32)

    def _count(self, prefix: str) -> int:
        """Return how many numbered parts the arrays have after a prefix."""
        names = [name for name in self._arrays if name.startswith(f"{prefix}.")]
        return len({name[len(prefix) + 1 :].partition(".")[0] for name in names})

    def _turned(self, pair: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the tile for those of the training."""
        return (pair[1], pair[0]) if self._swapped else pair


def _named(name: str) -> str:
    """Return a name that Keras allows for a layer."""
    return name.replace(".", "_")
