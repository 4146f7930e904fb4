"""The rules that make the open choices of a recipe, each with its reason.

``docs/training.md`` explains them for people. A rule uses the fingerprint and
the choices of the user, never a score.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, inf, log2, pi
from statistics import median
from typing import Any, Literal, NamedTuple

from voxtile.errors import UsageError
from voxtile.models.cost import unet_flops
from voxtile.models.spec import (
    POSITION_CHANNELS,
    Intensity,
    Label,
    View,
    Window,
    ZScore,
    overlapping,
)
from voxtile.preparation.planes import in_plane, slice_axis
from voxtile.scoring.overlap import plain_labels
from voxtile.training.data.fingerprint import Fingerprint
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.volume import Shape2D

from .recipe import BUDGETS, Recipe, check_tile, settled

_MINUTES = 18.0
_VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
# If the coarsest spacing is less than this multiple of the finest, all views look alike.
_ALIKE = 1.5
# A plane with fewer pixels along a side shows no shapes.
_LEAST_SIDE = 16
# Pixel spacings within this factor are not resampled, which would only blur.
_SAME_SPACING = 1.25
# If slices are this many times as far apart as pixels, neighbour slices have little in common.
_THICK = 2.0
_CONTEXT, _THICK_CONTEXT = 5, 3
# The middles of most labels vary by at most this (standard deviation), where a scan goes from -1 to
# 1. If labels were anywhere, it would be 0.58.
_SAME_PLACE = 0.2
_LARGEST_TILE = 256
# A tile shows this many diameters of a label's median part and of its largest, but has at least
# `_LEAST_TILE` pixels per side. A batch has many small tiles, each centred on another part.
_DIAMETERS, _LARGEST_DIAMETERS = 3, 1
_LEAST_TILE = 64
# Minimum of pixels of a plane's shorter side after all poolings; with fewer, most is padding.
_LEAST_BOTTOM = 5
# With five poolings each output depends on a whole plane of 256 pixels, and on where in it it is.
_LEAST_DEPTH, _MOST_DEPTH = 2, 5
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
_LEAST_STEPS, _MOST_STEPS = 25, 250
# On a GPU a step takes milliseconds, and several steps of an epoch are one call.
_LEAST_GPU_STEPS = 100
# Peak of the learning rate times filters. Adam's best rate is inversely proportional to the width
# (Yang et al. 2021, "Tensor Programs V", table 3).
_RATE = 0.08
# A tile is learned without a channel as often as cases lack it, within these limits.
_LEAST_DROPPED, _MOST_DROPPED = 0.1, 0.5
# With less work a GPU's step is not faster, so a batch has up to so many times as many pixels.
_LEAST_GPU_STEP_S, _MOST_GPU_PIXELS = 5e-3, 4
# nnU-Net's fraction of tiles on a label, and the fraction for small or rare labels.
_FOREGROUND, _MORE_FOREGROUND = 1 / 3, 0.5
_RARE_VOXELS, _RARE_PLANES = 1e-3, 1 / 3
# With so many looks at every pixel, tiles are varied as much as in nnU-Net's long training runs.
_OFTEN = 100
# Largest standard deviation of elastic shifts, in diameters of the largest part of any label.
_ELASTIC_SHARE = 0.1
# Largest weight of a rare label's pixels in the cross-entropy.
_MOST_WEIGHT = 8.0
# If at least this fraction of the voxels is 0, the background was removed (skull-stripped).
_CUT_AWAY = 0.25

_UNCOUNTED = "{}: steps can be predicted only for a budget in minutes, at a known speed"

Reasons = dict[str, str]


class GpuRate(float):
    """Operations per second of a fit on a GPU."""


def settle(
    recipe: Recipe, fingerprint: Fingerprint, *, rate: float = inf
) -> tuple[Recipe, Reasons]:
    """Make every open choice of a recipe except the precision, and give the reasons.

    Choices that the recipe already has stay; settling the result again changes nothing.
    `rate` is the expected number of operations per second of the fit, from
    `voxtile.training.recipe.precision.fitting_rate`.
    """
    reasons: Reasons = {}

    def choose(name: str, value: Any, reason: str) -> None:
        nonlocal recipe
        if getattr(recipe, name) is None:
            recipe = replace(recipe, **{name: value})
            reasons[name] = reason

    if all(getattr(recipe, name) is None for name in BUDGETS):
        choose("minutes", _MINUTES, "the default; with reading and choosing about 20 minutes")
    choose("views", *_views(fingerprint))
    views = recipe.views or ()
    choose("spacing_mm", *_spacing(fingerprint, views))
    why = "there is one view" if len(views) == 1 else "the anatomy looks different in each view"
    choose("network", "per_view", why)
    choose("context_slices", *_context(fingerprint, views))
    choose("position", *_position(fingerprint))
    choose("intensity", *_intensity(fingerprint))
    shown, _ = _shown(fingerprint, recipe, views)
    choose("depth", *_depth(shown, recipe.tiles))
    depth = recipe.depth or 1
    choose("tile", *_tile(fingerprint, recipe, depth))
    for tile in recipe.tiles:
        check_tile(tile, depth)
    sizes = [recipe.tile_of(kind) for kind in recipe.kinds]
    pixels = sum(rows * columns for rows, columns in sizes) // len(sizes)
    choose("batch", *_batch(recipe, len(fingerprint.channels) or 1, pixels, rate))
    count = sum(fingerprint.planes[slice_axis(view)] for view in recipe.kinds[0])
    # A budget of epochs must mean the same on every machine.
    many = rate == inf or isinstance(rate, GpuRate)
    least = _LEAST_GPU_STEPS if many and recipe.minutes is not None else _LEAST_STEPS
    choose(
        "steps_per_epoch",
        min(_MOST_STEPS, max(least, count // (recipe.batch or 1))),
        f"as many tiles as the {count} planes, {least} to {_MOST_STEPS} steps",
    )
    choose("foreground", *_foreground(fingerprint, views))
    if any(channel.missing for channel in fingerprint.channels):
        choose("channel_dropout", *_channel_dropout(fingerprint))
    if not recipe.labels:
        found = {value: f"label {value}" for value in fingerprint.values}
        recipe = replace(recipe, labels=plain_labels(found))
        reasons["labels"] = "the values of the training labels"
    outputs = len(recipe.labels) + is_exclusive(recipe.labels)
    load = _Load(len(fingerprint.channels) or 1, outputs, pixels, rate)
    choose("filters", *_filters(recipe, load))
    choose("members", *_members(recipe, load))
    choose("augmentation", *_augmentation(fingerprint, recipe, load))
    if (varied := settled(recipe.augmentation)).elastic_mm is None:
        elastic_mm, why = _elastic(fingerprint, recipe, views)
        recipe = replace(recipe, augmentation=replace(varied, elastic_mm=elastic_mm))
        reasons["augmentation"] = "; ".join(filter(None, (reasons.get("augmentation"), why)))
    filters = settled(recipe.filters)
    choose(
        "learning_rate",
        float(f"{_RATE / filters:.2g}"),
        f"{_RATE:g} / {filters} filters: the peak of the schedule, for networks with random first "
        "weights",
    )
    if recipe.class_weights == ():  # an empty list is not written
        recipe = replace(recipe, class_weights=(1.0,) * outputs)
    choose("class_weights", *_class_weights(fingerprint, recipe.labels))
    _check_class_weights(settled(recipe.class_weights), outputs)
    return recipe, reasons


def is_exclusive(labels: tuple[Label, ...]) -> bool:
    """Whether labels exclude each other: softmax with a background; else sigmoid."""
    return len(labels) > 1 and not overlapping(labels)


def _check_class_weights(weights: Sequence[float], outputs: int) -> None:
    """Refuse weights of another number of outputs."""
    if len(weights) != outputs:
        raise UsageError(
            f"class_weights has {len(weights)} numbers, but there are {outputs} outputs (softmax: "
            "background first)"
        )


def _class_weights(
    fingerprint: Fingerprint, labels: Sequence[Label]
) -> tuple[tuple[float, ...], str]:
    """Return the weight of each output's pixels, which is larger for rare labels."""
    shares = {label.value: label.share for label in fingerprint.labels}
    if not is_exclusive(tuple(labels)) or not shares:
        outputs = len(labels) + is_exclusive(tuple(labels))
        return (1.0,) * outputs, "the outputs are independent, and each label has its own Dice"
    most = max(shares.values())
    roots = ((most / shares.get(label.value, most)) ** 0.5 for label in labels)
    # In halves, so that labels of about the same size have the same weight.
    return (1.0, *(min(_MOST_WEIGHT, round(2 * root) / 2) for root in roots)), (
        "background first; a label with a quarter of the voxels of the largest one has weight 2, "
        f"at most {_MOST_WEIGHT:g}: otherwise rare labels are learned last"
    )


def _views(fingerprint: Fingerprint) -> tuple[tuple[View, ...], str]:
    """Return all three views for near-isotropic scans, else the view with the finest detail."""
    spacing = [spread.median for spread in fingerprint.spacing_mm]
    size = [spread.median for spread in fingerprint.shape]
    for view in _VIEWS:
        if _is_flat(fingerprint, view):
            return (view,), "every case is a single plane"
    ratio = max(spacing) / min(spacing)
    if ratio < _ALIKE and min(size) >= _LEAST_SIDE:
        return _VIEWS, (
            f"median spacings differ by a factor of {ratio:.2g}, less than {_ALIKE:g}: all views "
            "show the same detail, and their mean makes fewer errors than one view"
        )
    # Spacings within a tenth count as equal; then the axis with the fewest planes is chosen.
    coarse = [axis for axis in range(3) if spacing[axis] * 1.1 >= max(spacing)]
    view = min(
        (view for view in _VIEWS if slice_axis(view) in coarse),
        key=lambda view: size[slice_axis(view)],
    )
    if ratio < _ALIKE:
        return (view,), f"an axis has only {min(size):g} voxels: other planes would be strips"
    return (view,), (
        f"median spacings differ by a factor of {ratio:.2g}: these planes show the finest detail"
    )


def _is_flat(fingerprint: Fingerprint, view: View) -> bool:
    """Whether every case is a single plane in a view."""
    return fingerprint.shape[slice_axis(view)].most == 1


def _spacing(fingerprint: Fingerprint, views: tuple[View, ...]) -> tuple[Any, str]:
    """Return the median spacing if spacings differ more than augmentation varies, else "native"."""
    ratios = [spread.most / spread.least for spread in fingerprint.spacing_mm]
    spread = max(max(in_plane(view, ratios)) for view in views)
    if spread <= _SAME_SPACING:
        return "native", (
            f"pixel spacings differ by a factor of {spread:.3g}, at most {_SAME_SPACING:g}: "
            "networks learn such differences, and resampling blurs"
        )
    median = tuple(float(f"{spread.median:.4g}") for spread in fingerprint.spacing_mm)
    return median, (
        f"pixel spacings differ by a factor of {spread:.3g}, more than {_SAME_SPACING:g}: the "
        "median of the cases (only inside the planes)"
    )


def _context(fingerprint: Fingerprint, views: tuple[View, ...]) -> tuple[int, str]:
    """Return the number of context slices: fewer if slices are far apart, 1 for a single plane."""
    if all(_is_flat(fingerprint, view) for view in views):
        return 1, "a single plane has no neighbours"
    spacing = [spread.median for spread in fingerprint.spacing_mm]
    ratio = max(spacing[slice_axis(view)] / min(in_plane(view, spacing)) for view in views)
    if ratio < _THICK:
        return _CONTEXT, "neighbour slices are about as close as neighbour pixels"
    return _THICK_CONTEXT, (
        f"slices are {ratio:.2g} times as far apart as pixels: only the nearest slices show the "
        "same anatomy"
    )


def _position(fingerprint: Fingerprint) -> tuple[bool, str]:
    """Return whether channels say where a pixel is: if labels are at about the same place."""
    known = [max(label.place_sd) for label in fingerprint.labels if label.place_sd is not None]
    if not known:
        return False, "too few cases say whether labels are at the same place in all scans"
    spread = median(known)
    same = spread <= _SAME_PLACE
    return same, (
        f"the middle of a label varies by {spread:.2g} (SD, along the axis where it varies most; "
        f"a scan goes from -1 to 1), {'at most' if same else 'more than'} {_SAME_PLACE:g}: "
        f"{'its place tells labels apart' if same else 'labels can be anywhere'}"
    )


def _intensity(fingerprint: Fingerprint) -> tuple[Intensity, str]:
    """Return a fixed window for Hounsfield units, else a z-score of each scan."""
    if fingerprint.is_ct:
        pooled = [part.foreground for part in fingerprint.channels if part.foreground]
        if pooled:
            low = floor(min(part["0.5"] for part in pooled))
            high = ceil(max(part["99.5"] for part in pooled))
            if high > low:
                return Window(center=(low + high) / 2, width=high - low), (
                    f"{fingerprint.channels[0].why}: percentiles 0.5 and 99.5 of the labelled "
                    f"voxels of all cases, {low:g} to {high:g} HU"
                )
    zeros = min((part.zeros.median for part in fingerprint.channels), default=0.0)
    why = "not all channels are CT: intensities differ between scanners, so each scan is scaled"
    if zeros >= _CUT_AWAY:
        return ZScore(nonzero=True, clip=(0.5, 99.5)), (
            f"{why}; {zeros:.0%} of the voxels are exactly 0 (removed background) and do not count"
        )
    return ZScore(clip=(0.5, 99.5)), f"{why}; percentiles 0.5 and 99.5 limit single bright voxels"


def _largest_planes(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> Shape2D:
    """Return the (rows, columns) that hold every plane of some views of every case."""
    shape = [int(spread.most) for spread in fingerprint.shape]
    if recipe.pixel_mm is not None:
        pairs = zip(fingerprint.extent_mm, recipe.pixel_mm, strict=True)
        shape = [max(1, round(extent.most / mm)) for extent, mm in pairs]
    planes = [in_plane(view, shape) for view in views]
    return int(max(rows for rows, _ in planes)), int(max(columns for _, columns in planes))


def _shown(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> tuple[Shape2D, str]:
    """Return the (rows, columns) that a tile of these views should show, and why.

    A lesion looks the same everywhere. But several labels, such as vertebrae or a left and a
    right kidney, may differ only in their place, so their tiles show whole planes.
    """
    planes = _largest_planes(fingerprint, recipe, views)
    if len(fingerprint.labels) > 1:
        return planes, f"{planes[0]}x{planes[1]}"
    spacing = recipe.pixel_mm or [spread.median for spread in fingerprint.spacing_mm]
    usual_mm, largest_mm = _diameter_mm(fingerprint, "median"), _diameter_mm(fingerprint, "most")
    wanted_mm = max(_DIAMETERS * usual_mm, _LARGEST_DIAMETERS * largest_mm)
    finest = [min(in_plane(view, spacing)[axis] for view in views) for axis in (0, 1)]
    enough = [max(_LEAST_TILE, wanted_mm / mm) for mm in finest]
    if all(size <= most for size, most in zip(planes, enough, strict=True)):
        return planes, f"{planes[0]}x{planes[1]}"
    rows, columns = (ceil(min(size, most)) for size, most in zip(planes, enough, strict=True))
    return (rows, columns), (
        f"{planes[0]}x{planes[1]}, but {rows}x{columns} is enough around parts of {usual_mm:.2g} "
        f"mm (median), at most {largest_mm:.2g} mm"
    )


def _diameter_mm(fingerprint: Fingerprint, size: Literal["median", "most"]) -> float:
    """Return the diameter of the median or the largest part; infinity if nothing is labelled.

    Of several labels, the largest of these diameters counts.
    """
    parts = (getattr(label.component_ml, size) for label in fingerprint.labels)
    volume_ml = max(parts, default=0) or inf
    diameter_mm = (6000 * volume_ml / pi) ** (1 / 3)
    for view in _VIEWS:
        if _is_flat(fingerprint, view):  # a disc and not a ball
            thick_mm = fingerprint.spacing_mm[slice_axis(view)].median
            diameter_mm = (4000 * volume_ml / thick_mm / pi) ** (1 / 2)
    return float(diameter_mm)


def _augmentation(
    fingerprint: Fingerprint, recipe: Recipe, load: "_Load"
) -> tuple[Augmentation, str]:
    """Return how much tiles are varied: more if the budget shows every plane very often."""
    steps: float | None = recipe.steps
    if recipe.epochs is not None:
        steps = recipe.epochs * settled(recipe.steps_per_epoch)
    if recipe.minutes is not None and load.rate != inf:
        steps = _steps(recipe, load)
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


def _elastic(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> tuple[float, str]:
    """Return the standard deviation of elastic shifts, which follows pixels and structures."""
    spacing = recipe.pixel_mm or [spread.median for spread in fingerprint.spacing_mm]
    pixel_mm = min(mm for view in views for mm in in_plane(view, spacing))
    most_mm = _ELASTIC_SHARE * _diameter_mm(fingerprint, "most")
    return float(f"{min(pixel_mm, most_mm):.3g}"), (
        f"elastic_mm: the finest pixel is {pixel_mm:.3g} mm, and a tenth of the largest part "
        + (f"{most_mm:.2g} mm" if most_mm < inf else "unknown")
    )


def _depth(planes: Shape2D, tiles: Sequence[Shape2D]) -> tuple[int, str]:
    """Return the number of poolings after which a plane still has enough pixels."""
    shortest = min(min(tile) for tile in (planes, *tiles))
    most = floor(log2(max(shortest, _LEAST_BOTTOM) / _LEAST_BOTTOM))
    depth = min(_MOST_DEPTH, max(_LEAST_DEPTH, most))
    while depth > 1 and any(size % 2**depth for tile in tiles for size in tile):
        depth -= 1
    return depth, (
        f"at least {_LEAST_BOTTOM} of {shortest} pixels remain after it; {_LEAST_DEPTH} to "
        f"{_MOST_DEPTH}"
    )


def _tile(
    fingerprint: Fingerprint, recipe: Recipe, depth: int
) -> tuple[Shape2D | dict[View, Shape2D], str]:
    """Return each network's tile: its largest plane or enough, rounded up for the poolings."""
    multiple = 2**depth
    cap = max(1, _LARGEST_TILE // multiple)

    def fitted(views: Sequence[View]) -> tuple[Shape2D, str]:
        size, words = _shown(fingerprint, recipe, views)
        rows, columns = (multiple * min(cap, ceil(length / multiple)) for length in size)
        return (rows, columns), words

    why = f"at most {_LARGEST_TILE}"
    if len(fingerprint.labels) > 1:
        why += "; several labels may differ only in their place, so tiles show whole planes"
    if len(recipe.kinds) == 1:
        tile, plane = fitted(recipe.kinds[0])
        return tile, f"the largest plane is {plane}; {why}"
    tiles = {views[0]: fitted(views) for views in recipe.kinds}
    planes = ", ".join(f"{view} {plane}" for view, (_, plane) in tiles.items())
    return {view: tile for view, (tile, _) in tiles.items()}, f"the largest planes: {planes}; {why}"


def _batch(recipe: Recipe, channels: int, pixels: int, rate: float) -> tuple[int, str]:
    """Return how many tiles a step takes: more on a GPU that a usual step would not keep busy."""
    wanted, why = _BATCH_PIXELS, ""
    if isinstance(rate, GpuRate) and recipe.minutes is not None:
        inputs, depth = _inputs(recipe, channels), settled(recipe.depth)
        work = _PASSES * unet_flops(inputs, 1, filters=_FILTERS[0], depth=depth) * _BATCH_PIXELS
        share = min(_MOST_GPU_PIXELS, max(1, int(rate * _LEAST_GPU_STEP_S / work)))
        wanted *= share
        why = (
            f", {share} times as many as on a CPU: the GPU does {rate / 1e12:.3g} TFLOP/s, and "
            f"steps of less than {1e3 * _LEAST_GPU_STEP_S:g} ms are not faster"
        )
    batch = min(_MOST_BATCH, max(_LEAST_BATCH, wanted // pixels))
    return batch, f"about {wanted} pixels per step, {_LEAST_BATCH} to {_MOST_BATCH} tiles{why}"


class _Load(NamedTuple):
    """Pixels of a tile, and operations per second: the work of a step, and its speed."""

    channels: int
    outputs: int
    pixels: int
    rate: float


def _filters(recipe: Recipe, load: _Load) -> tuple[int, str]:
    """Return the largest number of filters for which the budget allows enough steps."""
    if recipe.minutes is None or load.rate == inf:
        return _FILTERS[0], _UNCOUNTED.format("the usual width")
    known = _GPU_FILTERS if isinstance(load.rate, GpuRate) else _FILTERS
    fitting = [width for width in known if width << settled(recipe.depth) <= _MOST_CHANNELS]
    widths = fitting or [_FILTERS[-1]]
    widest = widths[0]
    steps = {width: int(_steps(replace(recipe, filters=width), load)) for width in widths}
    chosen = next((width for width in widths if steps[width] >= ENOUGH_STEPS), widths[-1])
    why = (
        f"with {widest} filters there is time for about {steps[widest]} steps of each network at "
        f"{load.rate / 1e9:.0f} GFLOP/s, "
    )
    if chosen == widest:
        return chosen, f"{why}and {ENOUGH_STEPS} are enough"
    return chosen, f"{why}fewer than {ENOUGH_STEPS}; with {chosen} for {steps[chosen]}"


def _members(recipe: Recipe, load: _Load) -> tuple[int, str]:
    """Return the number of networks of a kind for which the budget allows enough steps."""
    if recipe.minutes is None or load.rate == inf:
        return 1, _UNCOUNTED.format("one network")
    steps = _steps(replace(recipe, members=1), load)
    members = min(_MOST_MEMBERS, max(1, floor(steps / ENOUGH_STEPS)))
    return members, (
        f"there is time for about {steps:.2g} steps; one network per {ENOUGH_STEPS} steps, at "
        f"most {_MOST_MEMBERS}: the mean of several networks makes fewer errors"
    )


def _steps(recipe: Recipe, load: _Load) -> float:
    """Return the number of steps that each network has time for."""
    seconds = 60 * settled(recipe.minutes) / len(recipe.networks)
    inputs = _inputs(recipe, load.channels)
    filters, depth = settled(recipe.filters), settled(recipe.depth)
    each = unet_flops(inputs, load.outputs, filters=filters, depth=depth)
    step_s = _PASSES * each * load.pixels * settled(recipe.batch) / load.rate
    return seconds / max(step_s, _LEAST_GPU_STEP_S if isinstance(load.rate, GpuRate) else 0.0)


def _inputs(recipe: Recipe, channels: int) -> int:
    """Return the number of input channels of the networks."""
    position = POSITION_CHANNELS * settled(recipe.position)
    return channels * settled(recipe.context_slices) + position


def _channel_dropout(fingerprint: Fingerprint) -> tuple[float, str]:
    """Return how often a tile is learned without a channel that some cases lack."""
    count, name = max((channel.missing, channel.name) for channel in fingerprint.channels)
    rate = min(_MOST_DROPPED, max(_LEAST_DROPPED, count / fingerprint.cases))
    return round(rate, 3), (
        f"{count} of {fingerprint.cases} cases lack channel {name}; as often as that, at least "
        f"{_LEAST_DROPPED:g} and at most {_MOST_DROPPED:g}"
    )


def _foreground(fingerprint: Fingerprint, views: tuple[View, ...]) -> tuple[float, str]:
    """Return the fraction of tiles on a label, which is larger if labels are small or rare."""
    planes = min(fingerprint.labelled_planes[slice_axis(view)] for view in views)
    if fingerprint.labels and (fingerprint.foreground < _RARE_VOXELS or planes < _RARE_PLANES):
        return _MORE_FOREGROUND, (
            f"only {fingerprint.foreground:.2%} of the voxels and {planes:.0%} of the planes are "
            "labelled: other tiles teach little"
        )
    return _FOREGROUND, "as in nnU-Net: a third of the tiles is centred on a label"
