"""The rule by which validation cases choose one of several candidates."""

import numpy as np
from scipy import stats

# Weights and thresholds must raise the mean Dice by more than this; divisions may not lower it by
# more. On a tenth of the cases a smaller difference is chance.
MARGIN = 0.002
# With fewer cases nothing is chosen, because chance would decide.
FEWEST = 5
# A gain counts if the one-sided confidence interval of its mean, paired by case, is above 0.
CONFIDENCE = 0.95


def dice_of(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return Dice, shape (..., cases, labels): NaN if neither mask has the label.

    `counts`, (..., cases, labels, 2), has the number of the label's voxels in both masks, and in
    the prediction; `totals`, (cases, labels), their number in the reference.
    """
    both, predicted = counts[..., 0], counts[..., 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / (predicted + totals))


def mean_dice(dice: np.ndarray) -> np.ndarray:
    """Return the mean over cases and labels (the last two axes); NaN (both empty) counts as 1."""
    return np.asarray(np.nan_to_num(dice, nan=1.0).mean(axis=(-2, -1)))


def best_of(dice: np.ndarray, margin: float) -> int:
    """Return the index of the chosen candidate; the first is the present state.

    The candidate with the highest mean (in a tie, the first) is chosen if its gain
    is more than the margin, the lower end of the gain's interval is above 0, and more
    cases improve than get worse. Otherwise, and with fewer than five cases, the first
    is chosen. `dice` has shape (candidates, cases, labels).
    """
    if dice.shape[1] < FEWEST:
        return 0
    means = mean_dice(dice)
    best = int(means.argmax())
    # Counts are integers, so a real gain is never as small as this.
    if means[best] - means[0] <= max(margin, 1e-9):
        return 0
    change = np.diff(np.nan_to_num(dice[[0, best]], nan=1.0).mean(axis=2), axis=0)[0]
    return best if is_gain(change) and (change > 0).sum() > (change < 0).sum() else 0


def is_gain(change: np.ndarray) -> bool:
    """Whether the mean of paired differences, shape (cases,), is more than chance above 0.

    It is if the lower end of its one-sided 95 % interval (Student's t) is: two cases
    that gain much by luck do not decide for all others.

    Examples
    --------
    >>> is_gain(np.array([0.01, 0.02, 0.01, 0.0, 0.02]))
    True
    >>> is_gain(np.array([0.4, 0.0, 0.0, 0.0, -0.01]))
    False
    """
    error = change.std(ddof=1) / np.sqrt(len(change))
    return bool(change.mean() > stats.t.ppf(CONFIDENCE, len(change) - 1) * error)
