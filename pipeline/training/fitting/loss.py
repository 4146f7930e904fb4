"""The loss of a training run: soft Dice and cross-entropy."""

from collections.abc import Callable, Sequence
from typing import Any

from voxtile.models.backend import keras

ops = keras.ops


def make_loss(
    *, softmax: bool, weights: Sequence[float] = (), partial: bool = False
) -> Callable[[Any, Any], Any]:
    """Return the sum of soft Dice loss and cross-entropy (Isensee et al. 2021, online methods).

    Dice is computed over the whole batch, so that a tile without a label adds only
    false positives. It is never computed over the background.

    The loss takes targets and probabilities, both of shape (n, rows, columns,
    classes), and returns a scalar.

    With `softmax`, classes exclude each other and the first is background; else outputs are
    independent. `weights` weight the pixels in the cross-entropy: one number per true class, or
    for sigmoid one per output; by default all are equal. With `partial`, pixels whose targets are
    -1 are left out: neither the loss nor its gradient depends on their probabilities.
    """

    def dice_and_cross_entropy(truth: Any, probability: Any) -> Any:
        truth = ops.cast(truth, probability.dtype)
        known, everything = None, 1.0
        if partial:
            known = truth[..., :1] >= 0
            truth, probability = (ops.where(known, part, 0.0) for part in (truth, probability))
            known = ops.cast(known, probability.dtype)
            # The means below are over all pixels; this makes them means over the known pixels.
            everything = 1 / ops.maximum(ops.mean(known), 1e-7)
        # The weights are converted here, because NumPy arrays do not mix with tensors of PyTorch.
        scale = ops.convert_to_tensor(tuple(weights) or (1.0,), dtype=probability.dtype)
        safe = ops.clip(probability, 1e-7, 1 - 1e-7)
        if softmax:
            entropy = -ops.mean(ops.sum(scale * truth * ops.log(safe), axis=-1))
            truth, probability = truth[..., 1:], probability[..., 1:]
        else:
            both_ways = truth * ops.log(safe) + (1 - truth) * ops.log(1 - safe)
            entropy = -ops.mean(scale * (both_ways if known is None else both_ways * known))
        both = ops.sum(truth * probability, axis=(0, 1, 2))
        either = ops.sum(truth, axis=(0, 1, 2)) + ops.sum(probability, axis=(0, 1, 2))
        # The added pixel defines the Dice of a label that is absent: 1 if it is also not predicted.
        dice = (2 * both + 1) / (either + 1)
        return entropy * everything + 1 - ops.mean(dice)

    return dice_and_cross_entropy
