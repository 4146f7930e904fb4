"""The used part of a fit's budget, and the learning rate that depends on it."""

from dataclasses import dataclass
from math import cos, pi

# Fraction of the budget in which the rate rises, while Adam's second moments are inaccurate.
_WARM_UP = 0.03
# Fraction of the peak that remains at the end, so that the last steps still count.
_LAST = 0.01


@dataclass(frozen=True, slots=True)
class Budget:
    """What a fit may use: either seconds (for steps and validations) or steps."""

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("a budget is either seconds or steps; give one of them")

    def used(self, seconds: float, steps: int, *, reserve_s: float = 0.0) -> float:
        """Return the used fraction, 0 to 1; `reserve_s` is kept for the last validation.

        Examples
        --------
        >>> Budget(seconds=100).used(45, 7, reserve_s=10), Budget(steps=8).used(45, 6)
        (0.5, 0.75)
        """
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        left = max((self.seconds or 0.0) - reserve_s, 1e-9)
        return min(1.0, seconds / left)


def rate_at(fraction: float, peak: float) -> float:
    """Return the learning rate at a fraction of the budget: a linear rise, then half a cosine.

    (Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.)

    Examples
    --------
    >>> [round(rate_at(fraction, 1.0), 3) for fraction in (0.0, 0.03, 0.515, 1.0)]
    [0.01, 1.0, 0.505, 0.01]
    """
    if fraction < _WARM_UP:
        return peak * (_LAST + (1 - _LAST) * fraction / _WARM_UP)
    progress = (fraction - _WARM_UP) / (1 - _WARM_UP)
    return peak * (_LAST + (1 - _LAST) * (1 + cos(pi * progress)) / 2)
