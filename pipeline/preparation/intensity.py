"""Bring intensities to the scale that a network was trained on.

Statistics are taken once over the whole volume; the scaling they give is then
applied plane by plane, so that a normalised copy of the volume never exists. Only methods that
need the neighbours of a voxel make such a copy (`scaled_planes`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_fill_holes

from voxtile.models.spec import (
    WHOLE,
    Clahe,
    Fixed,
    Foreground,
    Intensity,
    MinMax,
    ModelSpec,
    NoScaling,
    Percentile,
    View,
    Window,
    ZScore,
)

from .planes import to_planes


@dataclass(frozen=True, slots=True)
class Scaling:
    """Clip to ``[low, high]``, subtract `shift`, divide by `scale`.

    Parameters
    ----------
    shift, scale : float
        In units of the input. `scale` is positive.
    low, high : float
        In units of the input; infinite if nothing is clipped.
    """

    shift: float
    scale: float
    low: float = -np.inf
    high: float = np.inf

    def needs_float64(self, dtype: np.dtype) -> bool:
        """Whether float32 would lose differences of values (at large offsets), or the scale."""
        return (
            dtype.itemsize > 4
            or max(abs(self.shift), self.scale) > 2**20
            or abs(self.shift) > 2**6 * self.scale
            or self.scale < 2**-100
        )

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return the scaled array, float32, same shape."""
        scaled = array.astype(np.float64 if self.needs_float64(array.dtype) else np.float32)
        if self.low > -np.inf or self.high < np.inf:
            np.clip(scaled, self.low, self.high, out=scaled)
        np.subtract(scaled, self.shift, out=scaled)
        np.divide(scaled, self.scale, out=scaled)
        return scaled.astype(np.float32, copy=False)


def measure(array: np.ndarray, intensity: Intensity) -> Scaling:
    """Return the scaling of one channel of one volume.

    Parameters
    ----------
    array : ndarray of int or float, shape (i, j, k)
        The whole channel, finite.
    intensity : Intensity
        The method and its parameters, from the spec.

    Returns
    -------
    Scaling
        A constant channel, or one without any measured voxel, gets scale 1:
        it becomes zeros, not NaN.
    """
    match intensity:
        case NoScaling():
            return Scaling(0, 1)
        case Window(input_range=(low, high)):
            return _between(low, high)
        case Fixed(mean=mean, sd=sd, low=low, high=high):
            return Scaling(mean, sd, low, high)
        case MinMax() | Clahe():  # each plane of Clahe has its own, see `scaled_planes`
            return _between(float(array.min()), float(array.max()))
        case Percentile(lower=lower, upper=upper):
            return _between(*_percentiles(array, lower, upper))
        case Foreground():  # without filled holes and other channels, see `scaled_planes`
            return measure(array, ZScore(nonzero=True))
        case ZScore(nonzero=nonzero, clip=clip):
            measured = array[array != 0] if nonzero else array
            if measured.size == 0:
                return Scaling(0, 1)
            low, high = (-np.inf, np.inf) if clip is None else _percentiles(measured, *clip)
            mean, deviation = _moments(measured, low, high)
            # If all measured voxels are equal, the background becomes -1, in any unit of the scan.
            return Scaling(mean, deviation or abs(mean) or 1, low, high)


def scaled_planes(
    array: np.ndarray, view: View, spec: ModelSpec
) -> tuple[np.ndarray, tuple[Scaling, ...]]:
    """Return planes of a view, (planes, rows, columns, channels), and how to scale each channel.

    `array` has the shape (i, j, k, channels), with the axes of the networks. If a method needs
    more than a voxel itself, the planes are a scaled copy, float32, and the scalings do nothing.
    """
    channels = [(array[..., index], method) for index, method in enumerate(spec.intensities)]
    if not any(isinstance(method, WHOLE) for _, method in channels):
        return to_planes(array, view), tuple(measure(*channel) for channel in channels)
    scaled = np.empty(array.shape, np.float32)
    for index, (channel, method) in enumerate(channels):
        out = scaled[..., index]
        if isinstance(method, Clahe):
            for plane, equal in zip(to_planes(channel, view), to_planes(out, view), strict=True):
                equal[...] = _equalised(plane, method.clip_limit)
        elif isinstance(method, Foreground):
            inside = binary_fill_holes((array != 0).any(axis=3))
            found = measure(channel[inside], ZScore()) if inside.any() else Scaling(0, 1)
            out[...] = np.where(inside, found.apply(channel), 0)
        else:
            out[...] = measure(channel, method).apply(channel)
    return to_planes(scaled, view), (Scaling(0, 1),) * len(channels)


def _equalised(plane: np.ndarray, clip_limit: float) -> np.ndarray:
    """Return a plane with equalised contrast, 0 to 1; a constant plane becomes zeros."""
    from skimage.exposure import equalize_adapthist  # starts slowly

    values = plane.astype(np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(plane.shape, np.float32)
    equal = equalize_adapthist((values - low) / (high - low), clip_limit=clip_limit)
    return np.asarray(equal, np.float32)


def _between(low: float, high: float) -> Scaling:
    """Return the scaling that maps `low` to 0 and `high` to 1, and clips at both."""
    return Scaling(low, high - low if high > low else 1, low, high)


def _percentiles(array: np.ndarray, lower: float, upper: float) -> tuple[float, float]:
    """Return two percentiles over all voxels, interpolated as `numpy.percentile` does."""
    if array.dtype.kind == "f":
        low, high = np.percentile(array, (lower, upper))
        return float(low), float(high)
    # NumPy subtracts two neighbours in their own type, and int16 may overflow.
    positions = (array.size - 1) * (np.array((lower, upper)) / 100)
    before = np.floor(positions).astype(np.intp)
    after = np.minimum(before + 1, array.size - 1)
    ordered = array.flatten(order="K")
    ordered.partition(np.union1d(before, after))
    least, most = ordered[before].astype(np.float64), ordered[after].astype(np.float64)
    share = positions - before
    # The value is interpolated from the nearer neighbour.
    low, high = np.where(
        share < 0.5, least + (most - least) * share, most - (most - least) * (1 - share)
    )
    return float(low), float(high)


def _moments(array: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return mean and standard deviation of the clipped voxels, in float64.

    The array is read slab by slab in memory order, so that no float64 copy of all
    voxels is made. The deviation is computed about the mean in a second pass, so
    that a large offset costs no digits.
    """
    flat = array.reshape(-1) if array.flags.c_contiguous else array.T.reshape(-1)
    ends = np.clip(np.array([flat.min(), flat.max()], np.float64), low, high)
    if ends[0] == ends[1]:
        return float(ends[0]), 0.0
    # Scaling by a power of two changes no digit, and squares of extreme values stay finite.
    unit = 2.0 ** int(np.frexp(np.abs(ends).max())[1] - 1)

    def slabs() -> Iterator[np.ndarray]:
        for start in range(0, flat.size, 2**20):
            yield np.clip(flat[start : start + 2**20].astype(np.float64), low, high) / unit

    mean = sum(slab.sum() for slab in slabs()) / flat.size
    deviation = np.sqrt(sum(np.square(slab - mean).sum() for slab in slabs()) / flat.size)
    # A deviation as small as the rounding error of the values counts as 0.
    return float(mean * unit), float(deviation * unit) if deviation > 1e-12 * abs(mean) else 0.0
