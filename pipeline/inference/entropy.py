"""How certain a network was of a case: its mean entropy, and the Dice that it lets expect.

Background with a probability above 0.9 is left out: in a large scan it would hide the rest.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

# Pixels count if their foreground is at least this probable.
_DOUBT = 0.1
# Number of probabilities that are summed at once.
_BLOCK = 2**16
# Replaces 0 in logarithms.
_LEAST = np.float32(1e-30)


class EntropyWatch:
    """Sums the entropy of each plane's probabilities as the planes pass, and those of each label.

    `activation` and `thresholds` are the spec's; with softmax the first class is background.
    """

    def __init__(
        self, activation: Literal["softmax", "sigmoid"], thresholds: Sequence[float] = ()
    ) -> None:
        self._softmax = activation == "softmax"
        self._thresholds = np.array(thresholds or 0.5, np.float32)
        self._labels: np.ndarray | None = None
        self._total = 0.0
        self._pixels = 0

    def __call__(self, planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield each plane unchanged, shape (rows, columns, classes)."""

        def seen(plane: np.ndarray) -> np.ndarray:
            self._add(plane)
            return plane

        # A loop's variable would keep a plane in memory while the next plane is made.
        return map(seen, planes)

    def add(self, total: float, pixels: int, labels: np.ndarray) -> None:
        """Add the sums of planes.

        `labels`, (labels, 3), has for each label the number of its pixels, the sum of its
        probabilities in them, and their sum over all pixels with at least 0.1.
        """
        self._total += total
        self._pixels += pixels
        self._labels = labels if self._labels is None else self._labels + labels

    @property
    def expected_dice(self) -> tuple[float | None, ...]:
        """The Dice of each label that its probabilities let expect; None where it has no pixel.

        For a mask M and probabilities p that are right on average it is 2 sum(p in M) / (|M| +
        sum(p)), the ratio of the expected values (Nowozin 2014, "Optimal Decisions from
        Probabilistic Models", section 3). Networks are usually too certain.
        """
        rows = () if self._labels is None else self._labels.tolist()
        return tuple(
            2 * inside / (pixels + everywhere) if pixels else None
            for pixels, inside, everywhere in rows
        )

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
                total = _entropy(chosen) / np.log2(plane.shape[-1])
            else:
                total = (_entropy(chosen) + _entropy(1 - chosen)) / plane.shape[-1]
            self.add(float(total), len(chosen), self._sums(chosen))

    def _sums(self, chosen: np.ndarray) -> np.ndarray:
        """Return the sums of each label over pixels (n, classes), shape (labels, 3)."""
        everywhere = np.where(chosen >= _DOUBT, chosen, 0).sum(axis=0, dtype=np.float64)
        if self._softmax:
            winner, size = chosen.argmax(axis=-1), chosen.shape[-1]
            counts = np.bincount(winner, minlength=size)
            inside = np.bincount(winner, chosen.max(axis=-1), minlength=size)
            return np.stack([counts, inside, everywhere], axis=-1)[1:]
        decided = chosen >= self._thresholds
        inside = np.where(decided, chosen, 0).sum(axis=0, dtype=np.float64)
        return np.stack([decided.sum(axis=0), inside, everywhere], axis=-1)


def _entropy(probabilities: np.ndarray) -> float:
    """Return the sum of ``-p log2 p``, 0 at 0."""
    shares = probabilities.clip(0, 1)
    terms = np.log2(np.maximum(shares, _LEAST))
    terms *= shares
    return -float(terms.sum(dtype=np.float64))
