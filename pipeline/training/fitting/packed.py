"""The variables of a network in training, packed into a few long vectors, for JAX.

AdamW treats every number alike, but as 64 variables they are 2,000 operations for the
compiler, and as two vectors 80. So a step holds vectors, and the network gets its variables
as parts of them:

    weights    a vector for each kind: hidden kernels, last kernel, weights without decay
    others     one vector for each type, such as all moving statistics
    kept       the variables of Keras' optimiser, built for these vectors
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from voxtile.models.backend import keras

from .muon import Muon, is_hidden_kernel

# Weights, others and kept, as described above.
State = tuple[list[Any], list[Any], list[Any]]

# What Keras' AdamW has for each variable.
_SLOTS = ("_momentums", "_velocities", "_model_variables_moving_average")
# Names of the vectors with weight decay.
_HIDDEN, _LAST = "hidden_kernels", "last_kernel"


class _Vectors:
    """Some variables as vectors: one for each key."""

    def __init__(self, variables: Sequence[Any], key: Callable[[Any], Hashable]) -> None:
        self.variables = variables
        keys = [key(variable) for variable in variables]
        self._groups = [
            [place for place, one in enumerate(keys) if one == each] for each in dict.fromkeys(keys)
        ]
        self._shapes = [tuple(variable.shape) for variable in variables]

    def joined(self, values: Sequence[Any], numpy: Any = np) -> list[Any]:
        """Return the vectors of values, by the functions of a module such as NumPy."""
        return [
            numpy.concatenate([numpy.reshape(values[place], -1) for place in group])
            for group in self._groups
        ]

    def parts(self, vectors: Sequence[Any], numpy: Any = np) -> list[Any]:
        """Return the values in the order of the variables."""
        found: dict[int, Any] = {}
        for group, vector in zip(self._groups, vectors, strict=True):
            ends = np.cumsum([int(np.prod(self._shapes[place])) for place in group])
            for place, part in zip(group, numpy.split(vector, ends[:-1].tolist()), strict=True):
                found[place] = numpy.reshape(part, self._shapes[place])
        return [found[place] for place in range(len(self._shapes))]


class Packing:
    """How the variables of a network and its optimiser become vectors, and these variables again.

    Parameters
    ----------
    model : keras.Model
        Compiled; its optimiser is built.
    optimizer : keras.optimizers.Optimizer
        Like that of the model, but not built.
    undecayed : sequence of str
        Parts of the names of variables without weight decay.
    """

    def __init__(self, model: Any, optimizer: Any, undecayed: Sequence[str]) -> None:
        def kind(variable: Any) -> str:
            if any(word in variable.name for word in undecayed):
                return undecayed[0]
            return _HIDDEN if is_hidden_kernel(variable) else _LAST

        self.model, self.optimizer = model, optimizer
        trainable = model.trainable_variables
        self._weights = _Vectors(trainable, kind)
        self._others = _Vectors(model.non_trainable_variables, lambda variable: variable.dtype)
        kinds = dict.fromkeys(map(kind, trainable))
        sizes = [len(vector) for vector in self._weights.joined(_values(trainable))]
        vectors = [
            keras.Variable(np.zeros(size, np.float32), name=each)
            for each, size in zip(kinds, sizes, strict=True)
        ]
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(inner, Muon):
            hidden = [tuple(one.shape) for one in trainable if kind(one) == _HIDDEN]
            inner.pack(_HIDDEN, hidden)
        optimizer.build(vectors)
        self._places = {id(one): place for place, one in enumerate(optimizer.variables)}
        for variable in (*vectors, *optimizer.variables):
            variable.value.delete()  # it only stands for a part of the state

    def place(self, variable: Any) -> int:
        """Return the place of a variable of the optimiser in ``kept``."""
        return self._places[id(variable)]

    def state(self) -> State:
        """Return copies of all variables, as vectors in the processor's memory."""
        kept: list[Any] = [None] * len(self._places)
        for old, new in self._pairs():
            found = self._weights.joined(_values(old)) if isinstance(new, list) else _values([old])
            for variable, value in zip(new if isinstance(new, list) else [new], found, strict=True):
                kept[self.place(variable)] = value
        return (
            self._weights.joined(_values(self._weights.variables)),
            self._others.joined(_values(self._others.variables)),
            kept,
        )

    def assign(self, state: State) -> None:
        """Give the variables of the network and its optimiser the values of a state."""
        weights, others, kept = state
        self._assign(self._weights, self._weights.variables, weights)
        self._assign(self._others, self._others.variables, others)
        for old, new in self._pairs():
            if isinstance(new, list):
                self._assign(self._weights, old, [kept[self.place(one)] for one in new])
            else:
                old.assign(kept[self.place(new)])

    def called(self, weights: Sequence[Any], others: Sequence[Any], images: Any) -> Any:
        """Return answer, new others and losses of a training step; a function of tensors alone."""
        import jax.numpy as jnp

        answer, moved, losses = self.model.stateless_call(
            self._weights.parts(weights, jnp),
            self._others.parts(others, jnp),
            images,
            training=True,
            return_losses=True,
        )
        return answer, self._others.joined(moved, jnp), losses

    def _assign(self, how: _Vectors, variables: Sequence[Any], vectors: Sequence[Any]) -> None:
        """Give variables the values of vectors."""
        values = how.parts([np.asarray(vector) for vector in vectors])
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Return each variable of the model's optimiser with ours, or lists for the weights."""
        old, new = self.model.optimizer, self.optimizer
        slots = list(zip(_slots(old), _slots(new), strict=True))
        rest = []
        for one, lists in zip((old, new), zip(*slots, strict=True), strict=True):
            known = {id(variable) for slot in lists for variable in slot}
            rest.append([variable for variable in one.variables if id(variable) not in known])
        return [*slots, *zip(*rest, strict=True)]


def _slots(optimizer: Any) -> list[list[Any]]:
    """Return the lists of an optimiser that have a variable for each weight."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [list(slot) for name in _SLOTS if (slot := getattr(inner, name, None))]


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    """Return copies of the values of variables."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
