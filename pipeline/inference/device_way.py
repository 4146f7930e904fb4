"""How one member goes through the planes of one view of a volume on a device.

What does not change from block to block is prepared once: a `Way`. A `Block` is what is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np

from voxtile.engines import device_stages as stages
from voxtile.engines.device import Computation, Device, Tensor
from voxtile.engines.device_stages import Geometry, Layout
from voxtile.models.spec import View
from voxtile.preparation.intensity import Scaling, scaled_planes
from voxtile.preparation.plan import Tiling
from voxtile.preparation.planes import in_plane_axes
from voxtile.preparation.position import relative
from voxtile.preparation.prepared import resampling
from voxtile.preparation.resampling import Resampler
from voxtile.preparation.tiling import TileGrid, tile_weight, trust
from voxtile.volume import Shape2D, Volume

from .infer import Member

# Types that are sent as they are stored; all others are sent as float32.
_SENT = ("int8", "uint8", "int16")


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """How one member goes through the planes of one view of a volume.

    Parameters
    ----------
    member : Member
    networks : tuple of (Computation, float)
        Networks of the view, with their weights in the member's answer.
    mirrorings : tuple of tuple of int
        Axes of tiles (n, rows, columns, channels) to mirror together; the first is ().
    stored : ndarray
        The planes in the order of memory.
    layout : Layout
    count : int
        Planes of the view.
    shape : (rows, columns)
        Size of a plane as scanned.
    scalings : tuple of Scaling
        One for each channel.
    scaling : Tensor
        The same on the device, for `device_stages.prepare`.
    there, back : list of (indices, weights) or None
        On the device, from `device_stages.bands`.
    resampled : (rows, columns)
        Size of a plane as the networks see it.
    tiling : Tiling
    grid : TileGrid
    weight : Tensor
        From `device_stages.blending`.
    share : float
        Weight of the member in the view's mean.
    """

    member: Member
    networks: tuple[tuple[Computation, float], ...]
    mirrorings: tuple[tuple[int, ...], ...]
    stored: np.ndarray
    layout: Layout
    count: int
    shape: Shape2D
    scalings: tuple[Scaling, ...]
    scaling: Tensor
    there: Any
    back: Any
    resampled: Shape2D
    tiling: Tiling
    grid: TileGrid
    weight: Tensor
    share: float

    @property
    def gives_logits(self) -> bool:
        """Whether tiles are averaged as logits."""
        return self.member.spec.average == "logits"

    @property
    def scaled_here(self) -> bool:
        """Whether intensities are scaled before they are sent: float32 is not enough."""
        return _needs_float64(self.scalings, self.stored.dtype)

    def block(self, start: int, planes: int, *, scaled: bool) -> np.ndarray:
        """Return planes and their neighbours as they are sent, in the order of memory.

        Beyond the first and the last plane, that plane is repeated.
        """
        half = self.member.spec.context_slices // 2
        along = self.layout.along
        if start >= half and start + planes + half <= self.count:
            whole: list[slice] = [slice(None)] * along
            part = self.stored[(*whole, slice(start - half, start + planes + half))]
        else:
            indices = np.arange(start - half, start + planes + half).clip(0, self.count - 1)
            part = np.take(self.stored, indices, axis=along)
        if scaled:
            channel = self.layout.order.index(3)
            return np.stack(
                [scale.apply(part.take(i, channel)) for i, scale in enumerate(self.scalings)],
                axis=channel,
            )
        name = part.dtype.name
        return np.ascontiguousarray(part, np.dtype(name if name in _SENT else "float32"))

    def along(self, start: int, planes: int) -> np.ndarray | None:
        """Return where each plane of a block is in the scan; None if the networks see no position.

        Planes beyond the last, which fill up a block, count as the last.
        """
        if not self.member.spec.position:
            return None
        return relative(np.arange(start, start + planes), self.count)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Planes of one member on their way to the device.

    Parameters
    ----------
    way : Way
    geometry : Geometry
    planes : Tensor
        Planes with their neighbours, in the order of memory.
    unscaled : Tensor
        The same planes as they were stored.
    along : Tensor or None
        Where each plane is in the scan, if the networks see positions.
    """

    way: Way
    geometry: Geometry
    planes: Tensor
    unscaled: Tensor
    along: Tensor | None = None


def ways_through(
    device: Device,
    ras: Volume,
    view: View,
    members: Sequence[tuple[Member, Sequence[Computation]]],
    whole: float,
) -> list[Way]:
    """Return the way of each member that has a view, with their shares of `whole`."""
    return [
        _way(device, ras, view, member, networks, member.share(view) / len(members) / whole)
        for member, networks in members
        if view in member.spec.views
    ]


def _way(
    device: Device,
    ras: Volume,
    view: View,
    member: Member,
    networks: Sequence[Computation],
    share: float,
) -> Way:
    """Return the way of one member through a view."""
    spec, plan, array = member.spec, member.plan, ras.array
    planes, scalings = scaled_planes(array, view, spec)
    layout = Layout.of(planes)
    shape = planes.shape[1], planes.shape[2]
    there, back = resampling(ras, view, shape, spec)
    resampled = shape if there is None else there.shape
    tiling = plan.for_view(view).for_plane(resampled)
    grid = tiling.grid(resampled)
    weight = tile_weight(tiling.tile, tiling.weighting)
    serving = [
        (network, run)
        for network, run in zip(spec.networks, networks, strict=True)
        if view in network.views
    ]
    total = sum(network.weight for network, _ in serving)
    flips = [axis for axis, name in enumerate(in_plane_axes(view), 1) if name in plan.flips]
    return Way(
        member=member,
        networks=tuple((run, network.weight / total) for network, run in serving),
        mirrorings=tuple(
            chain.from_iterable(combinations(flips, n) for n in range(len(flips) + 1))
        ),
        stored=layout.stored(planes),
        layout=layout,
        count=len(planes),
        shape=shape,
        scalings=scalings,
        scaling=device.send(_limits(scalings, planes.dtype)),
        there=_sent_bands(device, there),
        back=_sent_bands(device, back),
        resampled=resampled,
        tiling=tiling,
        grid=grid,
        weight=device.send(stages.blending(grid, weight, trust(grid, weight))),
        share=share,
    )


def _sent_bands(device: Device, resampler: Resampler | None) -> Any:
    """Return the weights of a resampler on the device."""
    if resampler is None:
        return None
    return [
        (device.send(indices), device.send(weights)) for indices, weights in stages.bands(resampler)
    ]


def _needs_float64(scalings: Sequence[Scaling], dtype: np.dtype) -> bool:
    """Whether float32 is not enough to scale any channel."""
    return any(scaling.needs_float64(dtype) for scaling in scalings)


def _limits(scalings: Sequence[Scaling], dtype: np.dtype) -> np.ndarray:
    """Return low, high, shift and scale for the device; they change nothing if already scaled."""
    done = _needs_float64(scalings, dtype)
    rows = [
        (-np.inf, np.inf, 0, 1) if done else (one.low, one.high, one.shift, one.scale)
        for one in scalings
    ]
    return np.array(rows, np.float32).T.copy()
