"""Prepared cases -> a fitted network."""

from collections.abc import Sequence

from voxtile.models.backend import keras
from voxtile.models.spec import ModelSpec

from .coach import Coach
from .dataset import Sampling, TileBatches
from .loss import make_loss
from .preparation import PlaneStack
from .recipe import Recipe, settled
from .schedule import rate_at

# Gradients longer than this are shortened: one odd batch must not undo the work of many.
_LONGEST_GRADIENT = 1.0


def fit(
    network: keras.Model,
    stacks: Sequence[Sequence[PlaneStack]],
    spec: ModelSpec,
    recipe: Recipe,
    coach: Coach,
) -> None:
    """Fit the network until the coach says that the budget is used."""
    backend = keras.config.backend()
    sampling = Sampling(
        tile=spec.tile,
        context_slices=spec.context_slices,
        labels=spec.labels,
        softmax=spec.activation == "softmax",
        batch=settled(recipe.batch),
        seed=recipe.seed,
        foreground=recipe.foreground,
        flips=recipe.flips,
        augmentation=recipe.augmentation,
    )
    # tf.data prefetches by itself; elsewhere two threads make Keras prepare batches ahead.
    batches = TileBatches(stacks, sampling, workers=1 if backend == "tensorflow" else 2)
    # A second model over the same layers: the one that is saved is never compiled.
    learner = keras.Model(network.inputs, network.outputs)
    optimizer = keras.optimizers.AdamW(
        rate_at(0, recipe.learning_rate),
        weight_decay=recipe.weight_decay,
        global_clipnorm=_LONGEST_GRADIENT,
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema or 0.99,
    )
    # Pulling biases and the gains of normalisations towards 0 only fights the data.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    learner.compile(
        optimizer,
        loss=make_loss(softmax=sampling.softmax),
        # On a CPU, TensorFlow's own kernels outrun XLA's; JAX has no other way than to compile.
        jit_compile=False if backend == "tensorflow" and not _has_gpu() else "auto",
    )
    learner.fit(
        batches,
        epochs=recipe.epochs or 10**9,
        steps_per_epoch=recipe.steps_per_epoch,
        callbacks=[coach],
        shuffle=False,  # the stream is random already
        verbose=0,
    )


def _has_gpu() -> bool:
    """Whether the backend sees a GPU."""
    return bool(keras.distribution.list_devices("gpu"))
