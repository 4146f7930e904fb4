"""Segment a case with a reference, to learn how the Dice of a model is predicted."""

import math
from collections.abc import Callable

from voxtile.inference.entropy import EntropyWatch
from voxtile.models.spec import ModelSpec
from voxtile.report.quality import Observation
from voxtile.scoring.overlap import count_overlaps
from voxtile.volume import Volume


def observe(
    group: str,
    volume: Volume,
    reference: Volume,
    spec: ModelSpec,
    segment: Callable[[Volume, EntropyWatch], Volume],
) -> Observation:
    """Return the expected and the real Dice of each label; `group` is left out together."""
    watch = EntropyWatch(spec.activation, spec.thresholds)
    mask = segment(volume, watch)
    regions = [label.values for label in spec.labels]
    dice = [each.dice for each in count_overlaps(mask.array, reference.array, regions)]
    return Observation(
        group, watch.expected_dice, tuple(None if math.isnan(one) else one for one in dice)
    )
