"""How certain a network was of a case: the mean entropy of its probabilities.

Background with a probability above 0.9 is left out: in a large scan it would hide the rest.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

# Pixels count if their foreground is at least this probable.
_DOUBT = 0.1
# Number of probabilities that are summed at once.
_BLOCK = 2**16
# Replaces 0 in logarithms.
_LEAST = np.float32(1e-30)


class EntropyWatch:
    """Sums the entropy of each plane's probabilities as the planes pass.

    `activation` is the network's; with softmax the first class is background.
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

        # A loop's variable would keep a plane in memory while the next plane is made.
        return map(seen, planes)

    def add(self, total: float, pixels: int) -> None:
        """Add the sums of planes that were computed elsewhere."""
        self._total += total
        self._pixels += pixels

    @property
    def mean(self) -> float | None:
        """Mean entropy over all pixels with foreground of at least 0.1; None if there are none.

        It is 0 if the network is certain, and 1 if all classes are equally
        likely (Shannon's entropy divided by its maximum; for a sigmoid, the
        mean of the labels' binary entropies).
        """
        return self._total / self._pixels if self._pixels else None

    def _add(self, plane: np.ndarray) -> None:
        """Add the entropies of one plane."""
        # A few rows at a time fit into the CPU's cache, even with a hundred classes.
        step = max(1, _BLOCK // plane[0].size)
        for start in range(0, len(plane), step):
            part = plane[start : start + step]
            foreground = 1 - part[..., 0] if self._softmax else part.max(axis=-1)
            chosen = part[foreground >= _DOUBT]
            if self._softmax:
                self._total += _entropy(chosen) / np.log2(plane.shape[-1])
            else:
                self._total += (_entropy(chosen) + _entropy(1 - chosen)) / plane.shape[-1]
            self._pixels += len(chosen)


def _entropy(probabilities: np.ndarray) -> float:
    """Return the sum of ``-p log2 p``, 0 at 0."""
    shares = probabilities.clip(0, 1)
    terms = np.log2(np.maximum(shares, _LEAST))
    terms *= shares
    return -float(terms.sum(dtype=np.float64))
