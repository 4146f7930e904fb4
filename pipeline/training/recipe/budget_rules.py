"""The rules for what a budget allows: tiles of a step, width, networks, and variation."""

from dataclasses import replace
from math import floor, inf
from typing import NamedTuple

from voxtile.models.cost import unet_flops
from voxtile.models.spec import POSITION_CHANNELS
from voxtile.preparation.planes import in_plane, slice_axis
from voxtile.training.data.fingerprint import Fingerprint
from voxtile.training.fitting.augmentation import Augmentation

from .recipe import Recipe, settled

# After this many steps a network improves little. A larger budget is used for wider networks, and
# then for more networks.
ENOUGH_STEPS = 3000
# Multiples of 16, because vector registers have 16 numbers.
_FILTERS = (32, 16)
# On a GPU a wider network costs less than a processor's.
_GPU_FILTERS = (64, *_FILTERS)
# Filters of the last level of the first U-Net (Ronneberger et al. 2015); with more, most weights
# would be there.
_MOST_CHANNELS = 1024
# Maximum of networks of each kind; the time of a batch run grows with their number.
_MOST_MEMBERS = 3
# A step is one pass forward and two backward, for activations and for weights.
_PASSES = 3
# Pixels of a batch: 16 tiles of 48x64. On a CPU, many small steps learn more in the same time than
# a few large steps.
_BATCH_PIXELS = 16 * 48 * 64
_LEAST_BATCH, _MOST_BATCH = 4, 64
# With less work a GPU's step is not faster, so a batch has up to so many times as many pixels.
_LEAST_GPU_STEP_S, _MOST_GPU_PIXELS = 5e-3, 4
# With so many looks at every pixel, tiles are varied as much as in nnU-Net's long training runs.
_OFTEN = 7
_UNCOUNTED = "{}: steps can be predicted only for a budget in minutes, at a known speed"


class GpuRate(float):
    """Operations per second of a fit on a GPU."""


class Load(NamedTuple):
    """Pixels of a tile, and operations per second: the work of a step, and its speed."""

    channels: int
    outputs: int
    pixels: int
    rate: float


def batch_for(recipe: Recipe, channels: int, pixels: int, rate: float) -> tuple[int, str]:
    """Return how many tiles a step takes: more on a GPU that a usual step would not keep busy."""
    wanted, why = _BATCH_PIXELS, ""
    if isinstance(rate, GpuRate) and recipe.minutes is not None:
        inputs, depth = input_channels(recipe, channels), settled(recipe.depth)
        work = _PASSES * unet_flops(inputs, 1, filters=_FILTERS[0], depth=depth) * _BATCH_PIXELS
        share = min(_MOST_GPU_PIXELS, max(1, int(rate * _LEAST_GPU_STEP_S / work)))
        wanted *= share
        why = (
            f", {share} times as many as on a CPU: the GPU does {rate / 1e12:.3g} TFLOP/s, and "
            f"steps of less than {1e3 * _LEAST_GPU_STEP_S:g} ms are not faster"
        )
    batch = min(_MOST_BATCH, max(_LEAST_BATCH, wanted // pixels))
    return batch, f"about {wanted} pixels per step, {_LEAST_BATCH} to {_MOST_BATCH} tiles{why}"


def filters_for(recipe: Recipe, load: Load) -> tuple[int, str]:
    """Return the largest number of filters for which the budget allows enough steps."""
    if recipe.minutes is None or load.rate == inf:
        return _FILTERS[0], _UNCOUNTED.format("the usual width")
    known = _GPU_FILTERS if isinstance(load.rate, GpuRate) else _FILTERS
    fitting = [width for width in known if width << settled(recipe.depth) <= _MOST_CHANNELS]
    widths = fitting or [_FILTERS[-1]]
    widest = widths[0]
    steps = {width: int(steps_for(replace(recipe, filters=width), load)) for width in widths}
    chosen = next((width for width in widths if steps[width] >= ENOUGH_STEPS), widths[-1])
    why = (
        f"with {widest} filters there is time for about {steps[widest]} steps of each network at "
        f"{load.rate / 1e9:.0f} GFLOP/s, "
    )
    if chosen == widest:
        return chosen, f"{why}and {ENOUGH_STEPS} are enough"
    return chosen, f"{why}fewer than {ENOUGH_STEPS}; with {chosen} for {steps[chosen]}"


def members_for(recipe: Recipe, load: Load) -> tuple[int, str]:
    """Return the number of networks of a kind for which the budget allows enough steps."""
    if recipe.minutes is None or load.rate == inf:
        return 1, _UNCOUNTED.format("one network")
    steps = steps_for(replace(recipe, members=1), load)
    members = min(_MOST_MEMBERS, max(1, floor(steps / ENOUGH_STEPS)))
    return members, (
        f"there is time for about {steps:.2g} steps; one network per {ENOUGH_STEPS} steps, at "
        f"most {_MOST_MEMBERS}: the mean of several networks makes fewer errors"
    )


def augmentation_for(
    fingerprint: Fingerprint, recipe: Recipe, load: Load
) -> tuple[Augmentation, str]:
    """Return how much tiles are varied: more if the budget shows every plane very often."""
    steps: float | None = recipe.steps
    if recipe.epochs is not None:
        steps = recipe.epochs * settled(recipe.steps_per_epoch)
    if recipe.minutes is not None and load.rate != inf:
        steps = steps_for(recipe, load)
    if steps is None:
        return Augmentation(), _UNCOUNTED.format("the usual variation")
    shape = [spread.median for spread in fingerprint.shape]
    if recipe.pixel_mm is not None:
        pairs = zip(fingerprint.extent_mm, recipe.pixel_mm, strict=True)
        shape = [extent.median / mm for extent, mm in pairs]
    pixels = 0.0
    for view in recipe.kinds[0]:
        rows, columns = in_plane(view, shape)
        pixels += fingerprint.planes[slice_axis(view)] * rows * columns
    often = steps * settled(recipe.batch) * load.pixels / max(pixels, 1)
    if often < _OFTEN:
        return Augmentation(), f"tiles show every pixel about {often:.2g} times, less than {_OFTEN}"
    return Augmentation.strong(), (
        f"tiles show every pixel about {often:.2g} times, at least {_OFTEN}: without strong "
        "variations the networks would learn the planes by heart"
    )


def steps_for(recipe: Recipe, load: Load) -> float:
    """Return the number of steps that each network has time for."""
    seconds = 60 * settled(recipe.minutes) / len(recipe.networks)
    inputs = input_channels(recipe, load.channels)
    filters, depth = settled(recipe.filters), settled(recipe.depth)
    each = unet_flops(inputs, load.outputs, filters=filters, depth=depth)
    step_s = _PASSES * each * load.pixels * settled(recipe.batch) / load.rate
    return seconds / max(step_s, _LEAST_GPU_STEP_S if isinstance(load.rate, GpuRate) else 0.0)


def input_channels(recipe: Recipe, channels: int) -> int:
    """Return the number of input channels of the networks."""
    position = POSITION_CHANNELS * settled(recipe.position)
    return channels * settled(recipe.context_slices) + position
