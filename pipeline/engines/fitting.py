"""Compare a network's input and output with its spec, and adapt networks of other programs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxtile.errors import ModelError
from voxtile.models.spec import ModelSpec, Network

from .engine import Model

Shape = Sequence[int | None]
# How far probabilities may be from 0 to 1, and their sum from 1.
_TOLERANCE = 1e-3


def check_shapes(takes: Shape, gives: Shape, network: Network, spec: ModelSpec, name: str) -> None:
    """Refuse a network that does not take the spec's tiles or give its labels.

    Shapes of input and output are in the network's own layout; None means any size.
    """
    if len(takes) != 4 or len(gives) != 4:
        raise ModelError(
            f"{name} has an input of shape {_words(takes)} and an output of {_words(gives)}; both "
            "must have four axes: tiles, rows, columns, channels"
        )
    if network.layout == "channels_first":
        takes, gives = ((shape[0], shape[2], shape[3], shape[1]) for shape in (takes, gives))
    _, rows, columns, channels = takes
    classes = gives[3]
    hint = (
        f'; if its channels come first, its entry in spec.json needs "layout": "channels_first" '
        f"(input {_words(takes)})"
        if network.layout == "channels_last" and takes[1] == spec.input_channels
        else ""
    )
    if channels not in (None, spec.input_channels):
        raise ModelError(
            f"{name} takes {channels} channels, but the spec says {len(spec.channels)} x "
            f"{spec.context_slices} context slices{' + 3 of the position' * spec.position} = "
            f"{spec.input_channels}{hint}"
        )
    if classes not in (None, spec.output_channels):
        raise ModelError(
            f"{name} gives {classes} classes, but the spec has {len(spec.labels)} labels and "
            f"{spec.activation}, which makes {spec.output_channels}{hint}"
        )
    if (rows, columns) not in ((None, None), spec.tile):
        raise ModelError(
            f"{name} takes only tiles of {(rows, columns)}, but the spec has tile {spec.tile}"
        )


def adapted(model: Model, network: Network, spec: ModelSpec) -> Model:
    """Return a model that takes tiles with channels last and gives probabilities.

    If the spec averages logits, it gives these. `model` takes and gives the layout and output that
    `network` names.
    """
    first = network.layout == "channels_first"
    logits = network.output == "logits" and spec.average == "probabilities"
    return _Adapted(model, first, spec.activation if logits else "") if first or logits else model


@dataclass(frozen=True, slots=True)
class _Adapted:
    """A model whose channels come first, or that gives logits."""

    model: Model
    first: bool
    activation: str  # that the model lacks; empty if it gives probabilities

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the probabilities for some tiles with channels last."""
        seen = np.ascontiguousarray(np.moveaxis(tiles, 3, 1)) if self.first else tiles
        answer = self.model(seen)
        if self.activation:
            answer = activated(answer, self.activation, 1 if self.first else 3)
        return np.moveaxis(answer, 1, 3) if self.first else answer


def check_answer(answer: np.ndarray, tiles: np.ndarray, spec: ModelSpec, name: str) -> None:
    """Refuse an adapted network whose answer to trial tiles is not what its spec says."""
    wanted = (*tiles.shape[:3], spec.output_channels)
    if answer.shape != wanted:
        raise ModelError(f"{name} gave shape {answer.shape} for trial tiles; {wanted} was needed")
    if not np.isfinite(answer).all():
        raise ModelError(f"{name} gave NaN or infinite values for trial tiles")
    low, high = float(answer.min()), float(answer.max())
    off = np.abs(answer.sum(axis=-1, dtype=np.float64) - 1).max()
    if spec.average == "logits":
        return
    soft = spec.activation == "softmax"
    if low < -_TOLERANCE or high > 1 + _TOLERANCE or (soft and off > _TOLERANCE):
        raise ModelError(
            f"{name} gave values from {low:.3g} to {high:.3g}"
            + (f", whose sum over the classes is up to {off:.2g} from 1" if soft else "")
            + f"; {spec.activation} probabilities were needed. If they are logits, add "
            '"output": "logits" to the network in the spec'
        )


def activated(logits: np.ndarray, activation: str, axis: int = -1) -> np.ndarray:
    """Return probabilities; they may replace the logits in memory."""
    values = logits if logits.flags.writeable else logits.copy()
    if activation == "sigmoid":
        # 1 / (1 + exp(-x)) overflows for very negative x; this equal form does not.
        np.multiply(values, 0.5, out=values)
        np.tanh(values, out=values)
        values += 1
        values *= 0.5
        return values
    values -= values.max(axis=axis, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=axis, keepdims=True)
    return values


def _words(shape: Shape) -> str:
    """Return a shape as people write it."""
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
