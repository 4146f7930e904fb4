"""Muon: the step of a convolution kernel is its momentum, made orthogonal.

A kernel as a matrix (offsets and inputs by outputs) gets a step whose singular values are all
about 1, so that the few directions that dominate a gradient do not decide how far all others go
(Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"). Its length is that
of a step of AdamW, so that both have the same rates (Liu et al. 2025, "Muon is scalable for LLM
training", section 2.2). Biases, normalisation and the last layer learn with AdamW.

Keras' own Muon takes only variables that are matrices, so convolutions would learn with AdamW.
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from math import prod
from typing import Any

from voxtile.models.backend import keras

ops = keras.ops

# Momentum and coefficients of the quintic Newton-Schulz iteration: Jordan et al. 2024. After five
# rounds, singular values are between 0.7 and 1.2.
_MOMENTUM = 0.95
_LINEAR, _CUBIC, _QUINTIC = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
# Root mean square of AdamW's steps, in units of the rate (Liu et al. 2025, section 2.2).
_STEP_RMS = 0.2
# A kernel with more outputs is made orthogonal in parts, because the work grows with the cube
# (Khaled et al. 2025, "MuonBP: Faster Muon via block-periodic orthogonalization").
_MOST_OUTPUTS = 256
# The layer of the last weights (`voxtile.models.unet`).
_LAST = "logits"

Shape = tuple[int, ...]


class Muon(keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW for all variables but the kernels of hidden layers.

    It has the variables of AdamW, so the second moments of kernels are there and remain 0.

    Parameters
    ----------
    rate : float
        Learning rate.
    exact : bool
        Whether products of matrices in float32 are exact to float32, as on a processor; a GPU may
        round factors to 10 bits (TF32).
    **options
        Those of AdamW.
    """

    def __init__(self, rate: float, *, exact: bool, **options: Any) -> None:
        super().__init__(rate, **options)
        self._exact = exact
        self._vectors: dict[str, Sequence[Shape]] = {}
        # Shapes of the hidden kernels in each variable that has any, by the variable's place.
        self._kernels: dict[int, Sequence[Shape]] = {}

    def pack(self, name: str, kernels: Sequence[Shape]) -> None:
        """Say, before `build`, that the variable of this name is a vector of these kernels."""
        self._vectors[name] = kernels

    def build(self, variables: Sequence[Any]) -> None:
        """Make the optimiser's variables."""
        super().build(variables)
        for place, variable in enumerate(variables):
            if variable.name in self._vectors:
                self._kernels[place] = self._vectors[variable.name]
            elif is_hidden_kernel(variable):
                self._kernels[place] = [tuple(variable.shape)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change a variable."""
        place = self._get_variable_index(variable)
        if place not in self._kernels:
            super().update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(learning_rate, variable.dtype)
        momentum = self._momentums[place]
        self.assign(momentum, _MOMENTUM * momentum + (1 - _MOMENTUM) * gradient)
        # Nesterov: the momentum after the next step, if its gradient is the same.
        ahead = ops.reshape(_MOMENTUM * momentum + (1 - _MOMENTUM) * gradient, (-1,))
        shapes = self._kernels[place]
        ends = list(accumulate(map(prod, shapes)))
        parts = ops.split(ahead, ends[:-1]) if len(shapes) > 1 else [ahead]
        blocks = [
            _blocks(ops.reshape(part, (-1, shape[-1])))
            for part, shape in zip(parts, shapes, strict=True)
        ]
        found = iter(orthogonal(list(chain(*blocks)), exact=self._exact))
        steps = []
        for kernel in blocks:
            step = _joined([next(found) for _ in kernel], axis=1)
            steps.append(ops.reshape(_STEP_RMS * max(step.shape) ** 0.5 * step, (-1,)))
        self.assign_sub(variable, rate * ops.reshape(_joined(steps, axis=0), variable.shape))


def is_hidden_kernel(variable: Any) -> bool:
    """Whether a variable is the kernel of a convolution that is not the last."""
    return len(variable.shape) == 4 and _LAST not in variable.path


def _blocks(matrix: Any) -> list[Any]:
    """Return a matrix in parts of at most `_MOST_OUTPUTS` columns."""
    return list(ops.split(matrix, -(-matrix.shape[1] // _MOST_OUTPUTS), axis=1))


def _joined(parts: Sequence[Any], axis: int) -> Any:
    """Return parts as one tensor."""
    return ops.concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]


def orthogonal(matrices: Sequence[Any], *, exact: bool) -> list[Any]:
    """Return matrices with the same singular vectors and singular values near 1.

    Parameters
    ----------
    matrices : tensors of shape (rows, columns), float32
        Those with the same smaller side are multiplied together, which a GPU does in the time of
        one.
    exact : bool
        Whether products are exact to float32. Then the iteration runs on the product of a matrix
        with itself, which is less than half of the work. With factors rounded to 10 bits, a
        singular value became 5 in that way.
    """
    wide = [one if one.shape[0] <= one.shape[1] else ops.transpose(one) for one in matrices]
    found: dict[int, Any] = {}
    for side in dict.fromkeys(one.shape[0] for one in wide):
        places = [place for place, one in enumerate(wide) if one.shape[0] == side]
        most = max(wide[place].shape[1] for place in places)
        # Columns of zeros change no product.
        padded = [
            ops.pad(wide[place], ((0, 0), (0, most - wide[place].shape[1]))) for place in places
        ]
        stack = ops.stack(padded)
        stack = stack / (ops.norm(stack, axis=(1, 2), keepdims=True) + 1e-7)
        stack = _on_squares(stack) if exact else _on_matrices(stack)
        found |= dict(zip(places, ops.unstack(stack, num=len(places)), strict=True))
    whole = [found[place][:, : one.shape[1]] for place, one in enumerate(wide)]
    return [
        one if one.shape == like.shape else ops.transpose(one)
        for one, like in zip(whole, matrices, strict=True)
    ]


def _on_matrices(matrices: Any) -> Any:
    """Iterate on the matrices themselves."""
    for _ in range(_ROUNDS):
        matrices = ops.matmul(_polynomial(_square(matrices)), matrices)
    return matrices


def _on_squares(matrices: Any) -> Any:
    """Iterate on the product of each matrix with itself: all factors of the rounds commute."""
    square = _square(matrices)
    factor = product = _polynomial(square)
    for _ in range(_ROUNDS - 1):
        square = ops.matmul(factor, ops.matmul(square, factor))
        factor = _polynomial(square)
        product = ops.matmul(factor, product)
    return ops.matmul(product, matrices)


def _square(matrices: Any) -> Any:
    """Return the product of each matrix with its transpose."""
    return ops.matmul(matrices, ops.transpose(matrices, (0, 2, 1)))


def _polynomial(squares: Any) -> Any:
    """Return what a round multiplies the matrices by."""
    quartic = ops.matmul(squares, squares)
    return _LINEAR * ops.eye(squares.shape[-1]) + _CUBIC * squares + _QUINTIC * quartic
