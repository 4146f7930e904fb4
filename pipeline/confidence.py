"""How sure a network was of a case: the mean entropy of what it decided.

Blended probabilities are near 0 and 1 where tiles and views agree, and in
between where they contradict each other or where the network itself wavers.
Background that nobody doubts is left out: in a large scan it would drown the
rest.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

# Foreground at least this probable is doubted, or decided for.
_DOUBT = 0.1
# Probabilities that are looked at at once.
_BLOCK = 2**18


class EntropyWatch:
    """Looks at the probabilities of each plane as it passes, and keeps two sums.

    Parameters
    ----------
    activation : {"softmax", "sigmoid"}
        Of the network: whether the first class is background.
    """

    def __init__(self, activation: Literal["softmax", "sigmoid"]) -> None:
        self._softmax = activation == "softmax"
        self._total = 0.0
        self._pixels = 0

    def __call__(self, planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield each plane unchanged, shape (rows, columns, classes)."""

        def seen(plane: np.ndarray) -> np.ndarray:
            self._add(plane)
            return plane

        # Not a loop: its variable would keep a plane alive while the next one is made.
        return map(seen, planes)

    @property
    def mean(self) -> float | None:
        """Mean entropy over all pixels with foreground of at least 0.1; None without any.

        0 where the network is certain, 1 where all classes are equally likely
        (Shannon's entropy divided by its maximum; for a sigmoid, the mean
        over the labels of each one's binary entropy).
        """
        return self._total / self._pixels if self._pixels else None

    def _add(self, plane: np.ndarray) -> None:
        """Add the entropies of one plane."""
        foreground = 1 - plane[..., 0] if self._softmax else plane.max(axis=-1)
        rows, columns = np.nonzero(foreground >= _DOUBT)
        # Some pixels at a time: a hundred classes in float64 would outgrow the plane itself.
        block = max(1, _BLOCK // plane.shape[-1])
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            chosen = plane[rows[part], columns[part]].astype(np.float64).clip(0, 1)
            if self._softmax:
                entropies = _terms(chosen).sum(axis=-1) / np.log2(plane.shape[-1])
            else:
                entropies = (_terms(chosen) + _terms(1 - chosen)).mean(axis=-1)
            self._total += float(entropies.sum())
        self._pixels += len(rows)


def _terms(probabilities: np.ndarray) -> np.ndarray:
    """Return ``-p log2 p``, 0 at 0."""
    positive = np.where(probabilities > 0, probabilities, 1)
    terms: np.ndarray = -probabilities * np.log2(positive)
    return terms
