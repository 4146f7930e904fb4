"""What a training makes small."""

from collections.abc import Callable, Sequence
from typing import Any

from voxtile.models.backend import keras

ops = keras.ops


def make_loss(*, softmax: bool, weights: Sequence[float] = ()) -> Callable[[Any, Any], Any]:
    """Return the sum of soft Dice loss and cross-entropy (Isensee et al. 2021, online methods).

    Dice is taken over the whole batch, so that a tile without a label asks
    only for few false positives, and never over the background.

    Parameters
    ----------
    softmax : bool
        Exclusive classes, the first of them background; else independent
        sigmoid outputs.
    weights : sequence of float, optional
        What a pixel counts in the cross-entropy: by its true class, or for
        sigmoid by output. None counts all alike.

    Returns
    -------
    callable
        Of targets and probabilities, both of shape (n, rows, columns,
        classes), to a scalar.
    """

    def dice_and_cross_entropy(truth: Any, probability: Any) -> Any:
        truth = ops.cast(truth, probability.dtype)
        # Made here: each backend has tensors of its own, and numpy's do not mix with PyTorch's.
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
        # One pixel's worth keeps an absent label defined: 1 where nothing is predicted either.
        dice = (2 * both + 1) / (either + 1)
        return entropy + 1 - ops.mean(dice)

    return dice_and_cross_entropy
