"""Tiles to try a network on, without a scan at hand."""

import numpy as np

from voxtile.models.spec import ModelSpec


def trial_tiles(spec: ModelSpec, count: int = 1, seed: int = 0) -> np.ndarray:
    """Return tiles with structure at every scale, in the range of a spec's scaled intensities.

    Noise of 1, 2, 4, ... pixels is added up, because an image has edges and
    wide slopes. The tiles have mean 0 and standard deviation 1, or values in
    the `output_range` of the spec's intensity method.

    They are float32, (count, *spec.tile, spec.input_channels).
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
    if spec.intensity.output_range is None:
        return tiles
    low, high = spec.intensity.output_range
    # Three standard deviations on either side of the mean.
    return np.clip(tiles / 6 + 0.5, 0, 1) * np.float32(high - low) + np.float32(low)
