"""A network in training that cuts its own tiles, from planes in the memory of its device.

On JAX, the processor sends a few numbers for each tile of several steps, calls one program for
each step without waiting for the last, and waits only for the losses of all. On other backends,
tiles are cut by one call and each step is another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from voxtile.engines.device import Tensor
from voxtile.models.backend import keras
from voxtile.training.recipe.recipe import Recipe

from .device_batches import DeviceBatches, FixedBatches, Numbers
from .learner import UNDECAYED, Learner, Predict
from .packed import Packing, State

# Steps of one call; with more, the processor's part of a step is not noticeably smaller.
_STEPS = 16


class DeviceLearner(Learner):
    """A `Learner` whose batches are the numbers of `DeviceBatches`.

    Parameters
    ----------
    batches : DeviceBatches or FixedBatches
    *arguments, **options
        Those of `Learner`.
    """

    def __init__(
        self, batches: DeviceBatches | FixedBatches, *arguments: Any, **options: Any
    ) -> None:
        self._batches = batches
        # The newest state on the device, if it is newer than Keras' variables.
        self._newer: State | None = None
        self._run: Callable[..., Any] | None = None
        super().__init__(*arguments, **options)
        if keras.config.backend() == "jax":
            self.at_once = _STEPS
        else:
            self._cut = self.device.compiled(batches.cut)

    def _compile(self, recipe: Recipe) -> None:
        """Give the copy its optimiser and loss; on JAX they work on packed variables."""
        super()._compile(recipe)
        if keras.config.backend() == "jax":
            self._packing = Packing(self._model, self._make_optimizer(recipe), UNDECAYED)

    def steps(self, batches: Sequence[Numbers], rates: Sequence[float]) -> list[float]:
        """Learn from at most `at_once` batches, each with its rate, and return their losses."""
        if keras.config.backend() == "jax":
            return self._several(batches, rates)
        losses = []
        for batch, rate in zip(batches, rates, strict=True):
            tiles = self._cut(self._batches.stored(batch.group), *self._sent(batch))
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

    def _sent(self, batch: Numbers) -> list[Tensor]:
        """Return the numbers of a batch on the device."""
        return [self.device.send(array) for array in (batch.whole, batch.real)]

    def _several(self, batches: Sequence[Numbers], rates: Sequence[float]) -> list[float]:
        """Learn from several batches on JAX, and wait only for the last."""
        import jax

        sent = [self._sent(one) for one in batches]
        with self.device.placed():
            # With all steps as one program, a GPU was not ready to begin after a minute.
            self._run = self._run or jax.jit(self._one, donate_argnums=0)
            newer = self._newer or self._packing.state()
            losses = []
            for one, numbers, rate in zip(batches, sent, rates, strict=True):
                stored = self._batches.stored(one.group)
                newer, loss = self._run(newer, np.float32(rate), stored, *numbers)
                losses.append(loss)
            self._newer = newer
            return [float(loss) for loss in losses]

    def _one(self, state: State, rate: Any, stored: Any, *numbers: Any) -> Any:
        """Return the state after a step that cuts its tiles, and the loss."""
        return self._stateless_step(state, rate, *self._batches.cut(stored, *numbers))

    def _stateless_step(self, state: State, rate: Any, images: Any, targets: Any) -> Any:
        """Return the state after a step as `Learner.step` takes it, and the loss."""
        import jax

        packing, optimizer = self._packing, self._packing.optimizer
        weights, others, kept = state
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        place = packing.place(inner.learning_rate)
        kept = [rate if index == place else value for index, value in enumerate(kept)]

        def loss_of(weights: Any) -> Any:
            answer, moved, extra = packing.called(weights, others, images)
            loss = self._loss(targets, answer) + sum(extra)
            with keras.StatelessScope(list(zip(optimizer.variables, kept, strict=True))):
                return optimizer.scale_loss(loss), (loss, moved)

        (_, (loss, moved)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
        weights, kept = optimizer.stateless_apply(kept, gradients, weights)
        if self._overflows:
            fine = jax.numpy.isfinite(loss)
            moved = [jax.numpy.where(fine, a, b) for a, b in zip(moved, others, strict=True)]
        return (weights, moved, kept), loss

    def _give_back(self) -> None:
        """Give Keras' variables their newest values."""
        if self._newer is None:
            return
        with self.device.placed():
            self._packing.assign(self._newer)
        self._newer = None
