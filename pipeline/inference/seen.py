"""The part of a volume that networks see, with the axes that they were trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from voxtile.errors import CaseError
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.planes import slice_axis
from voxtile.volume import Axes, Shape3D, Volume, axes_to, reorient


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A volume as networks see it, and where that is in the volume."""

    volume: Volume  # (i, j, k, channels); the origin of its affine is that of the whole volume
    axes: Axes
    window: tuple[slice, slice, slice]
    whole: Shape3D  # shape of the whole volume, with these axes

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return a view of the same part of another array in storage order."""
        return self.axes.apply(array)[self.window]

    def placed(
        self, planes: Iterator[np.ndarray], view: View, empty: tuple[float, ...]
    ) -> Iterator[np.ndarray]:
        """Yield every plane of the whole volume, with `empty` where networks see nothing."""
        if self.volume.shape == self.whole:
            yield from planes
            return
        along = slice_axis(view)
        rows, columns = (part for axis, part in enumerate(self.window) if axis != along)
        size = [length for axis, length in enumerate(self.whole) if axis != along]
        inside = range(self.whole[along])[self.window[along]]
        for index in range(self.whole[along]):
            plane = np.empty((*size, len(empty)), np.float32)
            plane[...] = empty
            if index in inside:
                plane[rows, columns] = next(planes)
            yield plane


def see(volume: Volume, spec: ModelSpec) -> Seen:
    """Return the part of a volume that the networks of a spec see.

    CaseError if the channels are not the spec's.
    """
    axes = axes_to(volume.affine, spec.orientation)
    turned = with_channels(reorient(volume, axes), spec)
    window = _box(turned.array) if spec.crop == "nonzero" else (slice(None),) * 3
    return Seen(replace(turned, array=turned.array[window]), axes, window, turned.shape)


def with_channels(volume: Volume, spec: ModelSpec) -> Volume:
    """Return a volume of shape (i, j, k, channels); refuse other channels than the spec's."""
    if volume.array.ndim == 3:
        volume = volume.with_array(volume.array[..., np.newaxis])
    if volume.array.shape[3] != len(spec.channels):
        raise CaseError(
            "channels",
            f"the scan has {volume.array.shape[3]} channels, but the model needs "
            f"{len(spec.channels)} ({', '.join(spec.channels)})",
        )
    return volume


def _box(array: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the smallest box with every voxel that is not 0; everything if there is none."""
    busy = np.any(array, axis=3)
    parts = []
    for axis in range(3):
        found = np.flatnonzero(busy.any(axis=tuple(other for other in range(3) if other != axis)))
        parts.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(None))
    return parts[0], parts[1], parts[2]
