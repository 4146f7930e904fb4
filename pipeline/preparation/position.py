"""Input channels that say where in its scan a pixel is.

A convolution gives the same answer wherever anatomy lies. Labels that look alike, such as
vertebrae, differ only in their place, and channels with the place let a network use it
(Liu et al. 2018, "An intriguing failing of convolutional neural networks and the CoordConv
solution", section 3). There are three, which follow all other channels:

    row, column, plane      -1 at the first of the plane or scan, 1 at the last

They count what a network sees: rows and columns after resampling.
"""

from collections.abc import Sequence

import numpy as np

from voxtile.models.spec import POSITION_CHANNELS
from voxtile.volume import Shape2D


def relative(indices: np.ndarray | float, count: int) -> np.ndarray:
    """Return where pixels or planes are among `count` of them, float32: -1 first, 1 last.

    Indices beyond the first or the last count as these. A single pixel or plane is at 0.

    Examples
    --------
    >>> relative(np.arange(-1, 4), 3).tolist(), relative(0, 1).tolist()
    ([-1.0, -1.0, 0.0, 1.0, 1.0], 0.0)
    """
    last = max(count - 1, 1)
    inside = np.clip(indices, 0, count - 1)
    return np.asarray((2 * inside - (count - 1)) / last, np.float32)


def position_channels(rows: np.ndarray, columns: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Return the channels of a plane or tile, float32, (rows, columns, 3), from `relative`."""
    channels = np.empty((len(rows), len(columns), POSITION_CHANNELS), np.float32)
    channels[..., 0] = rows[:, np.newaxis]
    channels[..., 1] = columns
    channels[..., 2] = plane
    return channels


def of_plane(shape: Shape2D, index: int, count: int) -> np.ndarray:
    """Return the channels of plane `index` of `count` planes with (rows, columns) pixels."""
    rows, columns = (relative(np.arange(size), size) for size in shape)
    return position_channels(rows, columns, relative(index, count))


def of_tile(plane: Sequence[int], first: Sequence[float], tile: Shape2D) -> list[np.ndarray]:
    """Return where the rows and the columns of a tile are on a plane of (rows, columns) pixels.

    `first` is the row and the column of the plane that the tile begins with; a part of the tile
    may be beyond the plane.
    """
    return [
        relative(start + np.arange(length), size)
        for size, start, length in zip(plane, first, tile, strict=True)
    ]
