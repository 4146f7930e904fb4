"""The rule by which validation cases choose one of several candidates."""

import numpy as np

# Weights and thresholds must gain more mean Dice than this; divisions may not lose more. A smaller
# difference on a tenth of the cases is chance.
MARGIN = 0.002
# Fewer cases do not choose, because chance would decide.
FEWEST = 5


def dice_of(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return Dice, shape (..., cases, labels): NaN if neither mask has the label.

    `counts`, (..., cases, labels, 2), has the voxels of the label in both masks, and in the
    prediction; `totals`, (cases, labels), those in the reference.
    """
    both, predicted = counts[..., 0], counts[..., 1]
    with np.errstate(invalid="ignore"):
        dice: np.ndarray = 2 * both / (predicted + totals)
    return dice


def mean_dice(dice: np.ndarray) -> np.ndarray:
    """Return the mean over cases and labels (the last two axes); NaN (both masks empty) is 1."""
    mean: np.ndarray = np.nan_to_num(dice, nan=1.0).mean(axis=(-2, -1))
    return mean


def best_of(dice: np.ndarray, margin: float) -> int:
    """Return the index of the chosen candidate; the first is the present state.

    The candidate with the highest mean (the first of several) is chosen if it
    gains more than the margin and more cases improve than get worse; otherwise,
    and with fewer than five cases, the first. `dice` has shape (candidates,
    cases, labels).
    """
    if dice.shape[1] < FEWEST:
        return 0
    means = mean_dice(dice)
    best = int(means.argmax())
    # Counts are integers, so that a real gain is never as small as this.
    if means[best] - means[0] <= max(margin, 1e-9):
        return 0
    change = np.diff(np.nan_to_num(dice[[0, best]], nan=1.0).mean(axis=2), axis=0)[0]
    return best if (change > 0).sum() > (change < 0).sum() else 0
