"""Confidence intervals of means: percentile intervals of the bootstrap.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. Groups
(patients) are drawn with replacement, not cases, because two scans of one
patient do not hold twice the information. The draws are seeded and do not
depend on the order of the cases.
"""

from collections.abc import Sequence

import numpy as np

SEED = 0
DRAWS = 5000
LEVEL = 0.95
# Numbers drawn at once; this limits memory for cohorts of any size.
_BLOCK = 2**17


def mean_intervals(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return a confidence interval for the mean of each column.

    Parameters
    ----------
    values : ndarray of float, shape (cases, columns)
        NaN if a case has no value; it is left out of that column.
    groups : sequence of str, length cases
        Cases of one group are drawn together.

    Returns
    -------
    ndarray of float64, shape (columns, 2)
        Lower and upper end; NaN if fewer than two groups have values.

    Examples
    --------
    >>> values = np.array([[0.0], [1.0], [1.0], [2.0]])
    >>> mean_intervals(values, ["a", "b", "c", "d"]).round(2).tolist()
    [[0.25, 1.75]]
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    known = ~np.isnan(values)
    columns = values.shape[1]
    sums, counts = (np.zeros((len(names), columns)) for _ in range(2))
    # Sorted within a group, because a sum of floats depends on the order of its terms.
    for column in range(columns):
        used = np.flatnonzero(known[:, column])
        used = used[np.lexsort((values[used, column], member[used]))]
        np.add.at(sums[:, column], member[used], values[used, column])
        np.add.at(counts[:, column], member[used], 1)
    intervals = np.full((columns, 2), np.nan)
    usable = np.flatnonzero((counts > 0).sum(axis=0) >= 2)
    if usable.size:
        means = _drawn_means(sums[:, usable], counts[:, usable])
        tail = 100 * (1 - LEVEL) / 2
        intervals[usable] = np.nanpercentile(means, (tail, 100 - tail), axis=0).T
    return intervals


def _drawn_means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of each column in each draw of groups; NaN if the draw has no value."""
    groups = len(sums)
    random = np.random.default_rng(SEED)
    block = max(1, _BLOCK // groups)
    means = []
    for start in range(0, DRAWS, block):
        draws = min(block, DRAWS - start)
        drawn = random.integers(0, groups, (draws, groups))
        flat = (drawn + groups * np.arange(draws)[:, np.newaxis]).ravel()
        times = np.bincount(flat, minlength=draws * groups).reshape(draws, groups)
        with np.errstate(invalid="ignore"):
            means.append((times @ sums) / (times @ counts))
    return np.concatenate(means)
