"""Tiles to try a network on, without a scan at hand."""

import numpy as np

from voxtile.models.spec import ModelSpec


def trial_tiles(spec: ModelSpec, count: int = 1, seed: int = 0) -> np.ndarray:
    """Return tiles with structure at every scale, in the range that a network of a spec sees.

    Noise of 1, 2, 4, ... pixels is added up, as an image has edges and wide
    slopes. What is z-scored has mean 0 and standard deviation 1; what a
    window or the like scales lies between 0 and 1.

    Parameters
    ----------
    spec : ModelSpec
    count : int, default 1
    seed : int, default 0

    Returns
    -------
    ndarray of float32, shape (count, *spec.tile, spec.input_channels)
    """
    rng = np.random.default_rng(seed)
    rows, columns = spec.tile
    tiles = np.zeros((count, rows, columns, spec.input_channels), np.float32)
    step = 1
    while step <= min(rows, columns):
        coarse = rng.standard_normal(
            (count, -(-rows // step), -(-columns // step), spec.input_channels), np.float32
        )
        tiles += coarse.repeat(step, axis=1)[:, :rows].repeat(step, axis=2)[:, :, :columns]
        step *= 2
    tiles -= tiles.mean()
    tiles /= tiles.std()
    if spec.intensity.method in ("window", "minmax", "percentile"):
        return np.clip(tiles / 6 + 0.5, 0, 1)  # three standard deviations to either side
    return tiles
