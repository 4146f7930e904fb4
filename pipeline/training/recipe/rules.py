"""The rules that make the open choices of a recipe, each with its reason.

``docs/training.md`` explains them for people. A rule uses the fingerprint and
the choices of the user, never a score.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, inf
from statistics import median
from typing import Any

from voxtile.errors import UsageError
from voxtile.models.spec import (
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

from .budget_rules import (
    GpuRate,
    Load,
    augmentation_for,
    batch_for,
    filters_for,
    members_for,
    steps_for,
)
from .recipe import BUDGETS, Recipe, check_tile, settled
from .tile_rules import depth_for, elastic, shown, tile_for, tile_pixels

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
# With fewer steps for each view, one network that learns all views is better.
_ENOUGH_TO_DIFFER = 1500
# The middles of most labels vary by at most this (standard deviation), where a scan goes from -1 to
# 1. If labels were anywhere, it would be 0.58.
_SAME_PLACE = 0.2
_LEAST_STEPS, _MOST_STEPS = 25, 250
# On a GPU a step takes milliseconds, and several steps of an epoch are one call.
_LEAST_GPU_STEPS = 100
# Peak of the learning rate times filters. Adam's best rate is inversely proportional to the width
# (Yang et al. 2021, "Tensor Programs V", table 3).
_RATE = 0.08
_WHY_MUON = "AdamW needs up to three times as many steps to the same score, see docs/accuracy.md"
# A tile is learned without a channel as often as cases lack it, within these limits.
_LEAST_DROPPED, _MOST_DROPPED = 0.1, 0.5
# nnU-Net's fraction of tiles on a label, and the fraction for small or rare labels.
_FOREGROUND, _MORE_FOREGROUND = 1 / 3, 0.5
_RARE_VOXELS, _RARE_PLANES = 1e-3, 1 / 3
# Largest weight of a rare label's pixels in the cross-entropy.
_MOST_WEIGHT = 8.0
# If at least this fraction of the voxels is 0, the background was removed (skull-stripped).
_CUT_AWAY = 0.25


Reasons = dict[str, str]


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
    if recipe.network is None:
        choose("network", *_network(recipe, fingerprint, rate))
    choose("context_slices", *_context(fingerprint, views))
    choose("position", *_position(fingerprint))
    choose("intensity", *_intensity(fingerprint))
    choose("depth", *depth_for(shown(fingerprint, recipe, views)[0], recipe.tiles))
    depth = recipe.depth or 1
    choose("tile", *tile_for(fingerprint, recipe, depth))
    for tile in recipe.tiles:
        check_tile(tile, depth)
    pixels = tile_pixels(recipe)
    choose("batch", *batch_for(recipe, len(fingerprint.channels) or 1, pixels, rate))
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
    load = Load(len(fingerprint.channels) or 1, outputs, pixels, rate)
    choose("filters", *filters_for(recipe, load))
    choose("members", *members_for(recipe, load))
    choose("augmentation", *augmentation_for(fingerprint, recipe, load))
    if (varied := settled(recipe.augmentation)).elastic_mm is None:
        elastic_mm, why = elastic(fingerprint, recipe, views)
        recipe = replace(recipe, augmentation=replace(varied, elastic_mm=elastic_mm))
        reasons["augmentation"] = "; ".join(filter(None, (reasons.get("augmentation"), why)))
    choose("optimizer", "muon", _WHY_MUON)
    choose("learning_rate", *_learning_rate(settled(recipe.filters)))
    if recipe.class_weights == ():  # an empty list is not written
        recipe = replace(recipe, class_weights=(1.0,) * outputs)
    choose("class_weights", *_class_weights(fingerprint, recipe.labels))
    _check_class_weights(settled(recipe.class_weights), outputs)
    return recipe, reasons


def _learning_rate(filters: int) -> tuple[float, str]:
    """Return the peak of the schedule for networks with random first weights."""
    return float(f"{_RATE / filters:.2g}"), (
        f"{_RATE:g} / {filters} filters: the peak of the schedule, for networks with random first "
        "weights"
    )


def _network(recipe: Recipe, fingerprint: Fingerprint, rate: float) -> tuple[str, str]:
    """Return whether each view has its own network, or one network learns all views."""
    if len(settled(recipe.views)) == 1:
        return "per_view", "there is one view"
    why = "the anatomy looks different in each view"
    if recipe.minutes is None or rate == inf:
        return "per_view", why
    each, _ = settle(replace(recipe, network="per_view", members=1), fingerprint, rate=rate)
    outputs = len(each.labels) + is_exclusive(each.labels)
    load = Load(len(fingerprint.channels) or 1, outputs, tile_pixels(each), rate)
    steps = steps_for(each, load)
    if steps >= _ENOUGH_TO_DIFFER:
        return "per_view", why
    return "shared", (
        f"a network for each view would have time for about {steps:.2g} steps, fewer than "
        f"{_ENOUGH_TO_DIFFER}; one network for all views has time for all of them"
    )


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
        if fingerprint.is_flat(view):
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
    if all(fingerprint.is_flat(view) for view in views):
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
