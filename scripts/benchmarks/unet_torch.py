"""The U-Net of `voxtile.models.unet` as a PyTorch module, with its weights."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

# The default of Keras; that of PyTorch is 1e-5.
_EPSILON = 1e-3


class Block(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, width):
            layers += [
                nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, eps=_EPSILON),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """The network, from (n, 1, rows, columns) to (n, classes, rows, columns).

    Parameters
    ----------
    filters, depth, classes : int
    softmax : bool
        Whether the output is probabilities; otherwise logits, as nnU-Net needs.
    """

    def __init__(self, filters: int, depth: int, classes: int, *, softmax: bool = True) -> None:
        super().__init__()
        widths = [filters * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            Block(1 if level == 0 else widths[level - 1], widths[level]) for level in range(depth)
        )
        self.bottom = Block(widths[depth - 1], widths[depth])
        levels = list(reversed(range(depth)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, 2) for level in levels
        )
        self.merge = nn.ModuleList(Block(2 * widths[level], widths[level]) for level in levels)
        self.logits = nn.Conv2d(filters, classes, 1)
        self.softmax = softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities (or logits) of a batch."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for index, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            x = merge(torch.cat([up(x), skips[-1 - index]], 1))
        x = self.logits(x)
        return torch.softmax(x, 1) if self.softmax else x


def load_unet(
    folder: Path, filters: int, depth: int, classes: int, *, softmax: bool = True
) -> UNet:
    """Return the network with the weights of ``weights.npz``, for inference."""
    network = UNet(filters, depth, classes, softmax=softmax).eval()
    weights = np.load(folder / "weights.npz")

    def put(parameter: torch.Tensor, name: str, order: tuple[int, ...] | None = None) -> None:
        """Copy one array; Keras stores kernels as (rows, columns, in, out)."""
        value = weights[name] if order is None else weights[name].transpose(order)
        if tuple(parameter.shape) != value.shape:
            raise ValueError(f"{name} has shape {value.shape}, not {tuple(parameter.shape)}")
        parameter.data = torch.from_numpy(np.ascontiguousarray(value))

    def put_block(block: Block, level: str) -> None:
        """Copy two convolutions and their statistics."""
        for index, part in enumerate("ab"):
            convolution, norm = block[3 * index], block[3 * index + 1]
            put(convolution.weight, f"{level}_conv_{part}/0", (3, 2, 0, 1))
            for place, parameter in enumerate(
                (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            ):
                put(parameter, f"{level}_norm_{part}/{place}")

    for level, block in enumerate(network.down, start=1):
        put_block(block, f"down{level}")
    put_block(network.bottom, "bottom")
    for index, (up, merge) in enumerate(zip(network.up, network.merge, strict=True)):
        level = depth - index
        put(up.weight, f"up{level}/0", (3, 2, 0, 1))
        put(up.bias, f"up{level}/1")
        put_block(merge, f"merge{level}")
    put(network.logits.weight, "logits/0", (3, 2, 0, 1))
    put(network.logits.bias, "logits/1")
    return network
