"""Which of several candidates the validation cases take, and when they keep what is there."""

import numpy as np

# What weights and thresholds must gain of mean Dice, and divisions may not lose. Below it a tenth
# of the cases says nothing.
MARGIN = 0.002
# Fewer cases than this agree too easily.
FEWEST = 5


def dice_of(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the Dice of what was counted.

    Parameters
    ----------
    counts : ndarray of int, shape (..., cases, labels, 2)
        Voxels that both masks have, and that the prediction has.
    totals : ndarray of int, shape (cases, labels)
        Voxels that the reference has.

    Returns
    -------
    ndarray of float64, shape (..., cases, labels)
        NaN where neither mask has any.
    """
    both, ours = counts[..., 0], counts[..., 1]
    with np.errstate(invalid="ignore"):
        dice: np.ndarray = 2 * both / (ours + totals)
    return dice


def mean_dice(dice: np.ndarray) -> np.ndarray:
    """Return the mean over labels of their means over cases, an empty label left empty being 1.

    Parameters
    ----------
    dice : ndarray of float64, shape (..., cases, labels)
    """
    mean: np.ndarray = np.nan_to_num(dice, nan=1.0).mean(axis=(-2, -1))
    return mean


def best_of(dice: np.ndarray, margin: float) -> int:
    """Return which candidate to take; the first is what is there.

    Parameters
    ----------
    dice : ndarray of float64, shape (candidates, cases, labels)
    margin : float
        Mean Dice that must be gained; at least more than nothing.

    Returns
    -------
    int
        The first of those with the highest mean, if it gains more than the
        margin and more cases gain than lose by it; else, or of fewer than
        five cases, 0.
    """
    if dice.shape[1] < FEWEST:
        return 0
    means = mean_dice(dice)
    best = int(means.argmax())
    # Counts are whole numbers, so that a true gain is never as small as this.
    if means[best] - means[0] <= max(margin, 1e-9):
        return 0
    change = np.nan_to_num(dice[best], nan=1.0).mean(axis=1) - np.nan_to_num(dice[0], nan=1.0).mean(
        axis=1
    )
    return best if (change > 0).sum() > (change < 0).sum() else 0
