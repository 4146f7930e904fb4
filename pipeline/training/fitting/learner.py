"""A network in training, one step at a time, on any Keras backend.

The saved network stays in float32 and is never compiled. A copy of it learns in
the precision of the fit; the weights of the copy are also float32 (Micikevicius
et al. 2018, "Mixed Precision Training", section 3.1).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from voxtile.engines.device import Device, gpus
from voxtile.models.backend import keras
from voxtile.training.recipe.recipe import Precision, Recipe, settled

from .fused_norm import FusedBatchNormalization
from .loss import make_loss
from .muon import Muon
from .schedule import rate_at

# Longer gradients are shortened, so that one unusual batch does not undo the work of many.
_LONGEST_GRADIENT = 1.0
# It has no benefit to decay biases and normalisation weights.
UNDECAYED = ("bias", "gamma", "beta")
# The last layers compute probabilities from features; they are float32 in every precision.
_FLOAT32_LAYERS = 2

Predict = Callable[[np.ndarray], np.ndarray]


class Learner:
    """A copy of an uncompiled float32 network that can be fitted, with a settled recipe.

    It computes on `device`, by default on a GPU if there is one.
    """

    # How many steps `steps` takes in one call, at most.
    at_once = 1

    def __init__(
        self,
        network: keras.Model,
        recipe: Recipe,
        *,
        softmax: bool,
        precision: Precision,
        device: Device | None = None,
    ) -> None:
        self._mean = recipe.ema > 0
        self.device = device or fitting_device("auto")
        self._loss = make_loss(
            softmax=softmax, weights=recipe.class_weights or (), partial=recipe.ignore is not None
        )
        self._overflows = precision == "mixed_float16"
        with self.device.placed():
            self._model = in_precision(network, precision)
            self._model.set_weights(network.get_weights())
            self._compile(recipe)

    def _compile(self, recipe: Recipe) -> None:
        """Give the copy its optimiser and loss."""
        optimizer = self._make_optimizer(recipe)
        self._optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        # On a CPU, TensorFlow's own kernels are faster than XLA's; JAX always compiles with XLA.
        own_kernels = keras.config.backend() == "tensorflow" and not self.device.is_gpu
        self._model.compile(
            optimizer,
            loss=self._loss,
            jit_compile=False if own_kernels else "auto",
        )
        self._model.optimizer.build(self._model.trainable_variables)

    def _make_optimizer(self, recipe: Recipe) -> Any:
        """Return an optimiser for this precision and device."""
        return make_optimizer(recipe, scaled=self._overflows, exact=not self.device.is_gpu)

    def steps(self, batches: Sequence[Any], rates: Sequence[float]) -> list[float]:
        """Learn from at most `at_once` batches, each with its rate, and return their losses."""
        pairs = zip(batches, rates, strict=True)
        return [self.step(images, targets, rate) for (images, targets), rate in pairs]

    def step(self, images: Any, targets: Any, rate: float) -> float:
        """Learn from one batch and return its loss; an overflow in float16 changes nothing."""
        with self.device.placed():
            return self._step(images, targets, rate)

    def _step(self, images: Any, targets: Any, rate: float) -> float:
        """Learn from one batch."""
        self._optimizer.learning_rate.assign(rate)
        self._model.reset_metrics()  # otherwise Keras returns the mean since the first step
        statistics = self._model.non_trainable_variables if self._overflows else []
        before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in statistics]
        loss = float(self._model.train_on_batch(images, targets))
        if not np.isfinite(loss):
            # Loss scaling skips such gradients, but a moving mean would stay NaN.
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
        return loss

    @contextmanager
    def at_rest(self) -> Iterator[tuple[Predict, list[np.ndarray]]]:
        """Yield the network with its mean weights as a callable, and those weights."""
        with self.device.placed():
            moving = self._model.get_weights()
            if self._mean and int(self._optimizer.iterations) > 0:  # else there is no mean yet
                self._optimizer.finalize_variable_values(self._model.trainable_variables)
            weights = [np.array(value) for value in self._model.get_weights()]
            # This is a copy, because JAX reuses memory that the optimiser and the network share.
            self._model.set_weights(weights)
        try:
            yield self.predict, weights
        finally:
            with self.device.placed():
                self._model.set_weights(moving)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that decides the next step, by name."""
        return {
            f"{kind}/{index:04d}": np.array(keras.ops.convert_to_numpy(variable))
            for kind, variables in self._variables().items()
            for index, variable in enumerate(variables)
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore a state that `state` returned."""
        for kind, variables in self._variables().items():
            values = [state[name] for name in sorted(state) if name.startswith(f"{kind}/")]
            shapes = [tuple(variable.shape) for variable in variables]
            if [value.shape for value in values] != shapes:
                raise ValueError(
                    f"the checkpoint has {len(values)} {kind} variables that do not fit the "
                    f"{len(shapes)} of this network"
                )
            with self.device.placed():
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)

    def _variables(self) -> dict[str, Sequence[Any]]:
        """Return every variable that changes in a step, in a fixed order."""
        return {"model": self._model.variables, "optimizer": self._model.optimizer.variables}

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Return probabilities, float32."""
        with self.device.placed():
            return np.asarray(keras.ops.convert_to_numpy(self._model.predict_on_batch(tiles)))

    @property
    def model(self) -> keras.Model:
        """The copy; inside `at_rest` it has its mean weights."""
        return self._model


def make_optimizer(recipe: Recipe, *, scaled: bool, exact: bool = True) -> Any:
    """Return the optimiser of a settled recipe.

    `scaled` scales the loss, which float16 needs; `exact` says whether matrices are multiplied
    exactly to float32, see `Muon`.
    """
    rate = rate_at(0, settled(recipe.learning_rate))
    options: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": _LONGEST_GRADIENT,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema or 0.99,
    }
    if settled(recipe.optimizer) == "muon":
        optimizer = Muon(rate, exact=exact, **options)
    else:
        optimizer = keras.optimizers.AdamW(rate, **options)
    optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    # In float16 small gradients become 0 (Micikevicius et al. 2018, section 3.2). Keras scales
    # the loss itself only if the model has the policy, but in a clone only the layers have it.
    # The inner optimiser clips gradients after they are scaled back.
    return keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer


def in_precision(network: keras.Model, precision: Precision) -> keras.Model:
    """Return a network with the same layers in another precision, and separate weights."""
    in_float32 = {layer.name for layer in network.layers[-_FLOAT32_LAYERS:]}

    def same(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name not in in_float32:
            config["dtype"] = precision
        kind = type(layer)
        if kind is keras.layers.BatchNormalization and _has_fused_norm(config):
            kind = FusedBatchNormalization
        return kind.from_config(config)

    return keras.models.clone_model(network, clone_function=same)


def _has_fused_norm(config: Mapping[str, Any]) -> bool:
    """Whether `FusedBatchNormalization` can replace a batch normalisation."""
    return (
        keras.config.backend() in ("tensorflow", "jax")
        and config["axis"] in (-1, 3, [3])
        and config["scale"]
        and config["center"]
    )


def has_gpu() -> bool:
    """Whether the backend sees a GPU."""
    return bool(gpus())


def fitting_device(name: str) -> Device:
    """Return the device of a name; "auto" is a GPU if there is one. EnvironmentFault if missing."""
    return Device(name if name != "auto" else "gpu" if has_gpu() else "cpu")
