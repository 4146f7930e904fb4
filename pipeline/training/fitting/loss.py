"""The loss of a training: soft Dice and cross-entropy."""

from collections.abc import Callable, Sequence
from typing import Any

from voxtile.models.backend import keras

ops = keras.ops


def make_loss(*, softmax: bool, weights: Sequence[float] = ()) -> Callable[[Any, Any], Any]:
    """Return the sum of soft Dice loss and cross-entropy (Isensee et al. 2021, online methods).

    Dice is computed over the whole batch, so that a tile without a label only
    counts false positives, and never over the background.

    It takes targets and probabilities, both of shape (n, rows, columns,
    classes), and returns a scalar.

    With `softmax`, classes exclude each other and the first is background; else outputs are
    independent. `weights` are those of a pixel in the cross-entropy by its true class, or for
    sigmoid by output; equal by default.
    """

    def dice_and_cross_entropy(truth: Any, probability: Any) -> Any:
        truth = ops.cast(truth, probability.dtype)
        # Converted here, because NumPy arrays do not mix with tensors of PyTorch.
        scale = ops.convert_to_tensor(tuple(weights) or (1.0,), dtype=probability.dtype)
        safe = ops.clip(probability, 1e-7, 1 - 1e-7)
        if softmax:
            entropy = -ops.mean(ops.sum(scale * truth * ops.log(safe), axis=-1))
            truth, probability = truth[..., 1:], probability[..., 1:]
        else:
            both_ways = truth * ops.log(safe) + (1 - truth) * ops.log(1 - safe)
            entropy = -ops.mean(scale * both_ways)
        both = ops.sum(truth * probability, axis=(0, 1, 2))
        either = ops.sum(truth, axis=(0, 1, 2)) + ops.sum(probability, axis=(0, 1, 2))
        # The added pixel defines the Dice of an absent label: 1 if it is not predicted either.
        dice = (2 * both + 1) / (either + 1)
        return entropy + 1 - ops.mean(dice)

    return dice_and_cross_entropy
