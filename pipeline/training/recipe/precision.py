"""Which arithmetic is the fastest here: measured with the network and batch of the training."""

from collections.abc import Sequence
from time import monotonic

import numpy as np

from voxtile.machine.processors import processor_model
from voxtile.models.backend import keras
from voxtile.training.fitting.learner import Learner, has_gpu

from .recipe import Precision, Recipe

# Seconds of steps for each precision, after one step that compiles.
_TRIAL_S = 1.0
# Another precision than float32 must be faster by this factor, or it is not worth its rounding.
_WORTH = 1.1


def choose_precision(
    network: keras.Model,
    recipe: Recipe,
    *,
    softmax: bool,
    candidates: Sequence[Precision] | None = None,
) -> tuple[Precision, str]:
    """Return the precision to fit in, and why.

    Parameters
    ----------
    network : keras.Model
        Copied, not changed.
    recipe : Recipe
        Settled but for the precision.
    softmax : bool
    candidates : sequence of str, optional
        What to try beside float32; by default what the machine has units for.

    Notes
    -----
    A network that fits in half the time sees twice the tiles. On a GPU and on
    a CPU with AMX, bfloat16 is the faster; where only AVX-512 has it, or
    nothing, it is emulated or bound by memory, and not tried.
    """
    candidates = half_precisions() if candidates is None else tuple(candidates)
    if not candidates:
        return "float32", "this machine has no units for shorter numbers"
    rates = {
        precision: _steps_per_second(network, recipe, softmax, precision)
        for precision in ("float32", *candidates)
    }
    best: Precision = max(candidates, key=lambda precision: rates[precision])
    measured = ", ".join(f"{name} {rate:.3g} steps/s" for name, rate in rates.items())
    if rates[best] > _WORTH * rates["float32"]:
        return best, f"the fastest here: {measured}"
    return "float32", f"nothing is faster by a tenth here: {measured}"


def half_precisions() -> tuple[Precision, ...]:
    """Return the shorter precisions that this machine computes in."""
    if has_gpu():
        return ("mixed_bfloat16",) if _gpu_has_bfloat16() else ("mixed_float16",)
    return ("mixed_bfloat16",) if "amx_bf16" in processor_model()[1] else ()


def _gpu_has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 (NVIDIA: compute capability 8.0 and later)."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow

        details = tensorflow.config.experimental.get_device_details(
            tensorflow.config.list_physical_devices("GPU")[0]
        )
        return tuple(details.get("compute_capability") or (8, 0)) >= (8, 0)
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_bf16_supported())
    return True


def _steps_per_second(
    network: keras.Model,
    recipe: Recipe,
    softmax: bool,
    precision: Precision,
) -> float:
    """Return how many steps of the training's batch a fresh copy of the network does."""
    learner = Learner(network, recipe, softmax=softmax, precision=precision)
    rows, columns = recipe.tiles[0]
    shape = (recipe.batch or 1, rows, columns)
    images = np.zeros((*shape, network.input_shape[-1]), np.float32)
    targets = np.zeros((*shape, network.output_shape[-1]), np.float32)
    learner.step(images, targets, 1e-6)
    begin, steps = monotonic(), 0
    while steps < 2 or monotonic() - begin < _TRIAL_S:
        learner.step(images, targets, 1e-6)
        steps += 1
    return steps / (monotonic() - begin)
