"""Predict the Dice of masks without references, and learn how from cases with references.

    probabilities -> expected Dice -> predicted Dice, and a bound that 9 of 10 masks reach

The expected Dice of a label (`voxtile.inference.entropy`) falls where views, networks, tiles or
mirrored planes disagree, because it is computed from their mean. Calibration cases say how much
too high it is. The bound is the jackknife+ (Barber et al. 2021, "Predictive inference with the
jackknife+", section 2), one for each label, which is split conformal prediction (Angelopoulos and
Bates 2021, arXiv:2107.07511) for few cases: each group of cases is left out once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from scipy.special import bdtrc

from voxtile.models.bundle import Bundle
from voxtile.models.quality import FEWEST, LabelQuality, Quality
from voxtile.models.spec import Label

from .domain import Flag
from .verdict import LEAST_DICE

# The bound holds for this share of new cases, with this confidence in the choice of calibration
# cases: with few cases it is therefore lower.
LEVEL, CONFIDENCE = 0.9, 0.7
NO_DICE = "no predicted Dice: the model has no calibration (voxtile models calibrate makes one)"
OTHER_THRESHOLDS = (
    "no predicted Dice: a calibration is valid only for the model's own thresholds, without "
    "--threshold"
)
# Dice nearer to 0 or 1 are as good as this, so that logits are finite.
_NEAREST = 0.005
# Calibration cases are alike, so they hardly say how the Dice falls with the expected Dice. On the
# logit scale it falls about as fast: the prior of the slope is 1 with this standard deviation.
_SLOPE_SD = 0.1


@dataclass(frozen=True, slots=True)
class DicePrediction:
    """The predicted Dice of one label, and its lower bound."""

    label: int
    predicted: float
    lower: float

    def __str__(self) -> str:
        """Return the prediction in words."""
        return f"{self.predicted:.2f} ({LEVEL:.0%} bound {self.lower:.2f})"


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a calibration case: one value for each label of the model, or None."""

    group: str
    expected: tuple[float | None, ...]
    dice: tuple[float | None, ...]


def predict_dice(
    quality: Quality | None, labels: Sequence[Label], expected: Sequence[float | None]
) -> tuple[DicePrediction, ...]:
    """Return the predictions for the labels that were calibrated and have a mask."""
    if quality is None:
        return ()
    known = {one.label: one for one in quality.labels}
    return tuple(
        _predict(known[label.value], value)
        for label, value in zip(labels, expected, strict=True)
        if label.value in known and value is not None
    )


def dice_flags(predictions: Sequence[DicePrediction], labels: Sequence[Label]) -> Iterator[Flag]:
    """Yield a flag for each label whose Dice may be below the limit of the verdict."""
    names = {label.value: label.name for label in labels}
    for one in predictions:
        if one.lower < LEAST_DICE:
            sentence = f"{names[one.label]} has a predicted Dice of {one}"
            severity = 1 + 9 * (LEAST_DICE - one.lower) / LEAST_DICE
            yield Flag("dice", sentence, severity, one.label)


def learn_quality(
    bundle: Bundle, observations: Sequence[Observation], source: str
) -> Quality | None:
    """Calibrate a bundle; None if no label has enough cases with a value.

    `source` says which cases these are. They may not have taken part in the fit of the weights.
    """
    learned = []
    for index, label in enumerate(bundle.spec.labels):
        rows = [
            (one.group, _logit(expected), _logit(dice))
            for one in observations
            if (expected := one.expected[index]) is not None
            and (dice := one.dice[index]) is not None
        ]
        if len(rows) >= FEWEST and len({group for group, _, _ in rows}) >= FEWEST:
            learned.append(_learn(label.value, rows))
    if not learned:
        return None
    return Quality(model=bundle.sha256, source=source, labels=tuple(learned))


def _predict(one: LabelQuality, expected: float) -> DicePrediction:
    """Return the prediction of a label from its expected Dice."""
    place = _logit(expected)
    bounds = sorted(offset + slope * place + error for offset, slope, error in one.left_out)
    predicted = one.offset + one.slope * place
    lower = min(bounds[_rank(len(bounds)) - 1], predicted)
    return DicePrediction(one.label, round(_dice(predicted), 4), round(_dice(lower), 4))


def _rank(cases: int) -> int:
    """Return which of the sorted bounds is used, from 1.

    The k-th lowest of n holds for at least the level with the probability that k or more of n
    cases are among the worst tenth (Vovk 2012, "Conditional validity of inductive conformal
    predictors", proposition 2a); the largest k with enough confidence is used.
    """
    return int((bdtrc(np.arange(cases), cases, 1 - LEVEL) >= CONFIDENCE).sum())


def _learn(label: int, rows: Sequence[tuple[str, float, float]]) -> LabelQuality:
    """Fit one label to all cases, and without each group."""
    groups = np.array([group for group, _, _ in rows])
    places, values = (np.array(column) for column in list(zip(*rows, strict=True))[1:])
    fits = {group: _fit(places[groups != group], values[groups != group]) for group in {*groups}}
    offset, slope = _fit(places, values)
    left_out = []
    for group, place, value in zip(groups, places, values, strict=True):
        one, other = fits[group]
        left_out.append((one, other, round(float(value - one - other * place), 6)))
    return LabelQuality(label=label, offset=offset, slope=slope, left_out=tuple(left_out))


def _fit(places: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return offset and slope: least squares with a prior for the slope."""
    centred = places - places.mean()
    noise = max(float(np.var(values - values.mean() - centred)), 1e-6)
    weight = noise / _SLOPE_SD**2
    slope = (centred @ values + weight) / (centred @ centred + weight)
    return round(float(values.mean() - slope * places.mean()), 6), round(float(slope), 6)


def _logit(share: float) -> float:
    """Return ``log(p / (1 - p))`` of a share that is kept away from 0 and 1."""
    inside = min(max(share, _NEAREST), 1 - _NEAREST)
    return log(inside / (1 - inside))


def _dice(logit: float) -> float:
    """Return the share that has a logit."""
    return 1 / (1 + exp(-logit))
