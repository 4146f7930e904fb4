"""Small pairs of masks, and every surface metric of a pair as a list."""

import numpy as np
from hypothesis import strategies as st

from voxtile.scoring.surface import SurfaceDistances


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small masks of one shape, dense or sparse, neither empty."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = random.random((2, *shape)) < draw(st.sampled_from((0.05, 0.3, 0.9)))
    masks[:, 0, 0, 0] |= ~masks.any(axis=(1, 2, 3))
    return masks[0], masks[1]


def metrics(distances: SurfaceDistances) -> list[float]:
    """HD, HD95, ASSD and the surface Dice at several tolerances."""
    tolerances = (0, 0.5, 1, 2, 5)
    return [
        distances.hd_mm,
        distances.hd95_mm,
        distances.assd_mm,
        *map(distances.nsd, tolerances),
    ]
