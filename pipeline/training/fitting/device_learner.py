"""A network in training that cuts its own tiles, from planes in the memory of its device.

On JAX, the processor sends a few numbers for each tile of several steps, and waits only for the
losses of all; on a GPU these steps are one program. On other backends, tiles are cut by one call
and each step is another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from voxtile.models.backend import keras

from .device_batches import DeviceBatches, Numbers
from .learner import Learner, Predict

# Steps of one call; with more, the processor's part of a step is not noticeably smaller.
_STEPS = 16


class DeviceLearner(Learner):
    """A `Learner` whose batches are the numbers of `DeviceBatches`.

    Parameters
    ----------
    batches : DeviceBatches
    *arguments, **options
        Those of `Learner`.
    """

    def __init__(self, batches: DeviceBatches, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._batches = batches
        # Variables of network and optimiser on the device, if they are newer than Keras' own.
        self._newer: Any = None
        self._run: Callable[..., Any] | None = None
        # On a processor XLA computes convolutions inside a loop many times slower.
        self.loops = self.device.is_gpu
        if keras.config.backend() == "jax":
            self.at_once = _STEPS
        else:
            self._cut = self.device.compiled(batches.cut)

    def steps(self, batches: Sequence[Numbers], rates: Sequence[float]) -> list[float]:
        """Learn from at most `at_once` batches, each with its rate, and return their losses."""
        if keras.config.backend() == "jax":
            return self._several(batches, rates)
        losses = []
        for batch, rate in zip(batches, rates, strict=True):
            numbers = {name: self.device.send(array) for name, array in batch.items()}
            tiles = self._cut(self._batches.stored, numbers)
            # PyTorch cannot learn from tensors that were made without a record for gradients.
            images, targets = map(keras.ops.copy, tiles)
            losses.append(self.step(images, targets, rate))
        return losses

    @contextmanager
    def at_rest(self) -> Iterator[tuple[Predict, list[np.ndarray]]]:
        """Yield the network with its mean weights as a callable, and those weights."""
        self._give_back()
        with super().at_rest() as resting:
            yield resting

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that decides the next step, by name."""
        self._give_back()
        return super().state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore a state that `state` returned."""
        self._newer = None
        super().restore(state)

    def _several(self, batches: Sequence[Numbers], rates: Sequence[float]) -> list[float]:
        """Learn from several batches on JAX, and wait only for the last."""
        count = len(batches)
        filled = [*batches, *[batches[-1]] * (self.at_once - count)]
        numbers = {
            name: self.device.send(np.stack([one[name] for one in filled])) for name in batches[0]
        }
        padded = np.pad(np.asarray(rates, np.float32), (0, self.at_once - count))
        with self.device.placed():
            if self._run is None:
                self._run = self._looped() if self.loops else self._one_by_one()
            state = self._copied() if self._newer is None else self._newer
            carried = state, keras.ops.zeros_like(padded)
            self._newer, losses = self._run(carried, count, padded, numbers, self._batches.stored)
            return [float(loss) for loss in np.asarray(losses)[:count]]

    def _looped(self) -> Callable[..., Any]:
        """Return the function of several steps as one program."""
        import jax

        def several(carried: Any, count: Any, *arrays: Any) -> Any:
            return jax.lax.fori_loop(0, count, lambda *at: self._one(*at, *arrays), carried)

        run: Callable[..., Any] = jax.jit(several, donate_argnums=0)
        return run

    def _one_by_one(self) -> Callable[..., Any]:
        """Return the function of several steps as one program for each step."""
        import jax

        step = jax.jit(self._one, donate_argnums=1)

        def several(carried: Any, count: int, *arrays: Any) -> Any:
            for index in range(count):
                carried = step(np.int32(index), carried, *arrays)
            return carried

        return several

    def _one(self, index: Any, carried: Any, rates: Any, numbers: Any, stored: Any) -> Any:
        """Return the state and the losses after the step with an index."""
        state, losses = carried
        tiles = self._batches.cut(stored, {name: rows[index] for name, rows in numbers.items()})
        state, loss = self._stateless_step(state, rates[index], *tiles)
        return state, losses.at[index].set(loss)

    def _stateless_step(self, state: Any, rate: Any, images: Any, targets: Any) -> Any:
        """Return the state after a step as `Learner.step` takes it, and the loss."""
        import jax

        model, optimizer = self._model, self._model.optimizer
        trainable, others, kept = state
        place = next(
            index
            for index, variable in enumerate(optimizer.variables)
            if variable is self._optimizer.learning_rate
        )
        kept = [rate if index == place else value for index, value in enumerate(kept)]

        def loss_of(trainable: Any) -> Any:
            answer, moved, extra = model.stateless_call(
                trainable, others, images, training=True, return_losses=True
            )
            loss = self._loss(targets, answer) + sum(extra)
            with keras.StatelessScope(list(zip(optimizer.variables, kept, strict=True))):
                return optimizer.scale_loss(loss), (loss, moved)

        (_, (loss, moved)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        trainable, kept = optimizer.stateless_apply(kept, gradients, trainable)
        if self._overflows:
            fine = jax.numpy.isfinite(loss)
            moved = [jax.numpy.where(fine, a, b) for a, b in zip(moved, others, strict=True)]
        return (trainable, moved, kept), loss

    def _parts(self) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Return the variables of the state, in the order of `_stateless_step`."""
        model = self._model
        return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables

    def _copied(self) -> Any:
        """Return copies of all variables, because JAX reuses the memory of a state."""
        import jax

        return tuple([jax.numpy.array(v.value, copy=True) for v in part] for part in self._parts())

    def _give_back(self) -> None:
        """Give Keras' variables their newest values."""
        if self._newer is None:
            return
        with self.device.placed():
            for variables, values in zip(self._parts(), self._newer, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
        self._newer = None
