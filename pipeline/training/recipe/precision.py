"""How fast this machine fits networks: an estimate for the rules, and the fastest precision."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from voxtile.engines.short_numbers import gains, pays
from voxtile.machine.processors import thread_count
from voxtile.models.backend_name import backend_name

from .budget_rules import GpuRate
from .recipe import Precision, Recipe

# Operations per second of one core in float32, forward and backward. Two cores with AVX-512 do 130
# to 200 * 10^9 (docs/training.md); the rules expect a little less.
_CORE_RATE = 60e9
# Expected rate of a fit on a GPU, as a fraction of the rate of large convolutions alone. (A guess:
# no fit on a GPU was measured yet.)
_GPU_SHARE = 0.25

# Seconds for which steps are timed in each precision, after one step that compiles.
_TRIAL_S = 1.0
# Another precision than float32 must be faster by this factor, or it is not worth its rounding.
_WORTH = 1.1


def fitting_rate(device: str = "auto") -> float:
    """Return the expected operations per second of a fit; infinite if a GPU cannot be measured.

    For processors the number depends only on their count, and for a GPU on a measurement that is
    cached, so that the same machine gets the same recipe even if it is busy.
    """
    # This looks for a driver first, because asking Keras takes seconds.
    if device != "cpu" and Path("/dev/nvidiactl").exists():
        from voxtile.engines.device_rate import device_rate
        from voxtile.training.fitting.learner import has_gpu

        if has_gpu():
            rate = device_rate("gpu" if device == "auto" else device)
            return inf if rate is None else GpuRate(_GPU_SHARE * rate)
    return _CORE_RATE * thread_count()


def choose_precision(
    network: Any,
    recipe: Recipe,
    *,
    softmax: bool,
    candidates: Sequence[Precision] | None = None,
    device: str = "auto",
) -> tuple[Precision, str]:
    """Return the precision to fit in, and why.

    The network is copied, not changed; the recipe is settled except for the
    precision. `candidates` are tried in addition to float32; by default these are
    the `half_precisions` of this machine.
    """
    candidates = half_precisions(device) if candidates is None else tuple(candidates)
    if not candidates:
        gain = gains(backend_name()).get("bfloat16")
        known = "" if gain is None else f": bfloat16 has {gain:.2g} times the rate of float32"
        return "float32", f"this machine does not compute faster in 16 bits{known}"
    rates = {
        precision: _steps_per_second(network, recipe, softmax, device, precision)
        for precision in ("float32", *candidates)
    }
    best: Precision = max(candidates, key=lambda precision: rates[precision])
    measured = ", ".join(f"{name} {rate:.3g} steps/s" for name, rate in rates.items())
    if rates[best] > _WORTH * rates["float32"]:
        return best, f"the fastest here: {measured}"
    return "float32", f"no other precision is 10 % faster here: {measured}"


def half_precisions(device: str = "auto") -> tuple[Precision, ...]:
    """Return the 16-bit precisions that are faster here.

    A GPU's driver says which these are; on a processor a short measurement does.
    """
    from voxtile.training.fitting.learner import fitting_device

    if fitting_device(device).is_gpu:
        return ("mixed_bfloat16",) if _gpu_has_bfloat16() else ("mixed_float16",)
    return ("mixed_bfloat16",) if pays(backend_name()) else ()


def _gpu_has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 (NVIDIA: compute capability 8.0 and later)."""
    from voxtile.models.backend import keras

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
    network: Any, recipe: Recipe, softmax: bool, device: str, precision: Precision
) -> float:
    """Return how many steps per second a new copy of the network does, on batches of zeros."""
    from voxtile.training.fitting.device_batches import FixedBatches
    from voxtile.training.fitting.device_learner import DeviceLearner
    from voxtile.training.fitting.learner import Learner, fitting_device

    place = fitting_device(device)
    rows, columns = recipe.tiles[0]
    shape = (recipe.batch or 1, rows, columns)
    images = np.zeros((*shape, network.input_shape[-1]), np.float32)
    targets = np.zeros((*shape, network.output_shape[-1]), np.float32)
    options: dict[str, Any] = {"softmax": softmax, "precision": precision, "device": place}
    batch: Any = (images, targets)
    if place.is_gpu:  # the step that the fit takes, which a compiler finishes soonest
        fixed = FixedBatches(place.send(images), place.send(targets))
        learner: Learner = DeviceLearner(fixed, network, recipe, **options)
        batch = fixed[0]
    else:
        learner = Learner(network, recipe, **options)
    learner.steps([batch], [1e-6])
    begin, steps = monotonic(), 0
    while steps < 2 or monotonic() - begin < _TRIAL_S:
        learner.steps([batch], [1e-6])
        steps += 1
    return steps / (monotonic() - begin)
