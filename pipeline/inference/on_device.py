"""From a volume to a mask on a GPU: planes are sent as stored, label values are copied back.

    scan -> blocks of planes -> [prepare -> networks -> assemble -> decide] -> labels -> mask
                                              on the device

Blocks overlap: while one is computed, the next one is sent, and the label values
of the last are copied back and written in a separate thread. With several
views the probabilities of each stay on the device, in 16 bits, until the axial
planes are decided. The path of `voxtile.inference.infer` is the reference.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, combinations
from typing import Any, TypeVar

import numpy as np

from voxtile.engines import device_stages as stages
from voxtile.engines.device import Computation, Device, Fetching, Tensor
from voxtile.engines.device_stages import Geometry, Layout
from voxtile.engines.fallback import Fallbacks
from voxtile.errors import Notice
from voxtile.label_values import label_type
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.models.spec import View
from voxtile.preparation.intensity import Scaling, scaled_planes
from voxtile.preparation.plan import Tiling
from voxtile.preparation.planes import in_plane_axes, to_planes
from voxtile.preparation.prepared import resampling
from voxtile.preparation.resampling import Resampler
from voxtile.preparation.tiling import TileGrid, tile_weight, trust
from voxtile.volume import Shape2D, Volume

from .entropy import EntropyWatch
from .infer import SURE, Member, deciding_view, empty_answer, views_of
from .postprocess import clean
from .seen import see
from .tiles import batch_for, failing_network, refuse_beyond, refuse_not_finite

# Memory of a device that plans use, in MB (10^6 bytes), without the sums of several views.
DEVICE_MB = 3000.0
# Fraction of a device's free memory that the sums of several views may take.
_SUMS_SHARE = 0.5
# Maximum of pixels in one call of a network: with more pixels no GPU is faster.
_CALL_PIXELS = 16 * 512 * 512
# Bytes per pixel inside a network whose graph is not known.
_UNKNOWN_BYTES = 2000.0
# Blocks that are sent or computed while the label values of an earlier block are written.
_AHEAD = 2
# Number of compiled stages that are cached; each new grid needs about four.
_STAGES = 64
# Types that are sent as they are stored; all others are sent as float32.
_SENT = ("int8", "uint8", "int16")
_BYTES = 4
# After this many halvings a call has one tile, however many it had at first.
_MOST_HALVINGS = 12

Begun = TypeVar("Begun")
Ended = TypeVar("Ended")
# Takes the first plane of a block; returns the plane after its last, and what is being sent.
Sending = Callable[[int], tuple[int, Any]]
# Takes what was sent; returns label values, numbers of each plane, and ranges of the answers.
Deciding = Callable[[Any], Sequence[Tensor]]


class _DeviceFull(Exception):
    """A single tile does not fit into the memory of the device."""


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Planes of one member on their way to the device.

    Parameters
    ----------
    way : _Way
    geometry : Geometry
    planes : Tensor
        Planes with their neighbours, in the order of memory.
    unscaled : Tensor
        The same planes as they were stored.
    """

    way: _Way
    geometry: Geometry
    planes: Tensor
    unscaled: Tensor


class DeviceLine:
    """Everything between the planes of a scan and label values, on one device.

    Parameters
    ----------
    members : sequence of Member
    networks : sequence of sequence of keras.Model
        For each member, one model for each of ``member.spec.networks``.
    device : Device
    precision : str
        Precision of the networks.
    fallbacks : Fallbacks, optional
        Gets notices of what was done when memory ran out.
    memory_mb : float
        What one process may use of the device, in MB (10^6 bytes), beside
        the networks and the sums of several views.
    changing : bool
        Whether the weights of the networks change between two volumes.
    """

    def __init__(
        self,
        members: Sequence[Member],
        networks: Sequence[Sequence[Any]],
        device: Device,
        *,
        precision: str = "float32",
        fallbacks: Fallbacks | None = None,
        memory_mb: float = DEVICE_MB,
        changing: bool = False,
    ) -> None:
        self._members = tuple(members)
        self._spec = members[0].spec
        self.device = device
        self.networks = [
            [device.network(model, stages.with_range, changes=changing) for model in each]
            for each in networks
        ]
        self._narrow = 1.0 if precision == "float32" else 0.5
        self._fallbacks: Fallbacks = {} if fallbacks is None else fallbacks
        self._memory = memory_mb * 1e6
        self._halvings = 0

        def stage(function: Callable[..., Any]) -> Callable[..., Computation]:
            """Return a stage, compiled for its first arguments, which are not tensors."""
            return lru_cache(_STAGES)(lambda *facts: device.compiled(partial(function, *facts)))

        self._prepare = stage(stages.prepare)
        self._occupied = stage(stages.occupied)
        self._mirror = stage(stages.mirror)
        self._weigh = stage(stages.weigh)
        self._add = stage(stages.add)
        self._unless_empty = stage(stages.unless_empty)
        self._widest = stage(stages.widest)
        self._assemble = stage(stages.assemble)
        self._decide = stage(partial(stages.decide, self._spec))
        self._quantise = stage(stages.quantise)
        self._join = stage(stages.join)
        self._decide_sums = stage(partial(stages.decide_sums, self._spec))

    def takes(self, volume: Volume) -> bool:
        """Whether the sums of several views of a volume fit into the device."""
        views = len(views_of(self._members))
        if views == 1:
            return True
        size = 2 * self._spec.output_channels * float(np.prod(volume.shape[:3]))
        # The sums of each view, and those of one view twice while its blocks are joined.
        return (views + 1) * size <= _SUMS_SHARE * self.device.free_mb() * 1e6

    def __call__(self, volume: Volume, entropy: EntropyWatch | None = None) -> Volume | None:
        """Return the label map of a volume, on its grid; None where a single tile does not fit.

        Raises
        ------
        CaseError
            If the channels are not the specs', or a network gives NaN.
        """
        try:
            return self._mask_of(volume, entropy)
        except _DeviceFull:
            return None

    def _mask_of(self, volume: Volume, entropy: EntropyWatch | None) -> Volume:
        """Return the label map of a volume, on its grid."""
        seen = see(volume, self._spec)
        ras = seen.volume
        kind = label_type(label.value for label in self._spec.labels)
        labels = np.zeros(volume.shape, kind, order="F")
        mask = to_planes(seen.of(labels), deciding_view(self._members))
        layout = Layout.of(mask)
        views = views_of(self._members)
        send, decide = (
            self._of_one_view(self._ways(ras, views[0], 1.0), layout)
            if len(views) == 1
            else self._of_sums(ras, views, mask, layout)
        )
        total, pixels, _, *labelled = self._decided(mask, layout, send, decide).tolist()
        if entropy is not None:
            entropy.add(total, int(pixels), np.reshape(labelled, (3, -1)).T)
        return clean(volume.with_array(labels), self._spec)

    def _decided(
        self, mask: np.ndarray, layout: Layout, send: Sending, decide: Deciding
    ) -> np.ndarray:
        """Fill a mask with label values; return the sums over its planes of their numbers."""
        stored = layout.stored(mask)
        before: list[slice] = [slice(None)] * layout.along

        def begin(start: int, stop: int, sent: Any) -> list[Fetching]:
            return [self.device.fetch(one) for one in decide(sent)]

        def end(start: int, stop: int, fetched: list[Fetching]) -> np.ndarray:
            labels, numbers, *ranges = (fetch() for fetch in fetched)
            _refuse_beyond(ranges)
            wanted = numbers[: stop - start].astype(np.float64)
            refuse_not_finite(wanted[:, 2])
            stored[(*before, slice(start, stop))] = labels[(*before, slice(stop - start))]
            return np.asarray(wanted.sum(axis=0))

        sums = list(self._in_blocks(len(mask), send, begin, end))
        return np.asarray(np.sum(sums, axis=0))

    def _of_one_view(self, ways: Sequence[_Way], layout: Layout) -> tuple[Sending, Deciding]:
        """Return functions that send blocks of planes, and decide them by their view's networks."""
        decide = self._decide(layout)

        def decided(sent: Sequence[_Block]) -> list[Tensor]:
            probabilities, ranges = self._probabilities(sent)
            return [*decide(probabilities), *ranges]

        return partial(self._send, ways), decided

    def _of_sums(
        self, ras: Volume, views: Sequence[View], mask: np.ndarray, layout: Layout
    ) -> tuple[Sending, Deciding]:
        """Return functions that send blocks of axial planes, and decide by the views' sums."""
        volumes = []
        for view in views:
            judging = [member for member in self._members if view in member.spec.views]
            whole = sum(member.share(view) for member in judging) / len(self._members)
            volumes.append(self._summand(self._ways(ras, view, whole), whole))
        decide = self._decide_sums(layout, tuple(views))
        most = self._planes_at_once((mask.shape[1], mask.shape[2]))

        def send(start: int) -> tuple[int, Tensor]:
            size = max(1, min(len(mask), most) >> self._halvings)
            indices = np.arange(start, start + size, dtype=np.int32).clip(0, len(mask) - 1)
            return min(start + size, len(mask)), self.device.send(indices)

        return send, lambda indices: decide(indices, *volumes)

    def _summand(self, ways: Sequence[_Way], share: float) -> Tensor:
        """Return the probabilities of all planes of a view, as its share of the sums."""

        def begin(
            start: int, stop: int, sent: Sequence[_Block]
        ) -> tuple[Tensor, Fetching, list[Fetching]]:
            probabilities, ranges = self._probabilities(sent)
            steps, sums = self._quantise(share, stop - start)(probabilities)
            return steps, self.device.fetch(sums), [self.device.fetch(one) for one in ranges]

        def end(start: int, stop: int, begun: tuple[Tensor, Fetching, list[Fetching]]) -> Tensor:
            steps, sums, ranges = begun
            _refuse_beyond([fetch() for fetch in ranges])
            refuse_not_finite(sums())
            return steps

        return self._join()(*self._in_blocks(ways[0].count, partial(self._send, ways), begin, end))

    def _in_blocks(
        self,
        count: int,
        send: Sending,
        begin: Callable[[int, int, Any], Begun],
        end: Callable[[int, int, Begun], Ended],
    ) -> Iterator[Ended]:
        """Yield the result of each block of planes, in order; smaller blocks if memory runs out.

        Parameters
        ----------
        count : int
            Planes.
        send : callable
            Takes the first plane of a block; returns the plane after its last,
            and what is being sent to the device while the previous block is
            computed.
        begin : callable
            Begins to compute what was sent.
        end : callable
            Waits for the result of `begin`, in a separate thread.

        Raises
        ------
        _DeviceFull
        """
        ended = 0
        while ended < count:
            sent = block = work = None
            begun: deque[tuple[int, Future[Ended]]] = deque()
            try:
                with ThreadPoolExecutor(1, thread_name_prefix="labels") as pool:
                    start, sent = ended, send(ended)
                    while start < count or begun:
                        if start < count and len(begun) <= _AHEAD:
                            (stop, block), first = sent, start
                            start = stop
                            sent = send(stop) if stop < count else sent
                            work = begin(first, stop, block)
                            begun.append((stop, pool.submit(end, first, stop, work)))
                            block = work = None  # frees the device's memory once it ends
                            continue
                        stop, ending = begun.popleft()
                        yield ending.result()
                        ended = stop
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # This is outside the handler, because the error keeps earlier results in memory.
            sent = block = work = None
            begun.clear()
            self._halve()

    def _halve(self) -> None:
        """Judge half as many tiles at once from now on.

        Raises
        ------
        _DeviceFull
        """
        self._halvings += 1
        if self._halvings > _MOST_HALVINGS:
            raise _DeviceFull
        self._fallbacks["batch_halved"] = Notice(
            "batch_halved",
            "memory of the device ran out, so fewer tiles were judged at a time; give a "
            "smaller --batch",
        )

    def _send(self, ways: Sequence[_Way], start: int) -> tuple[int, Sequence[_Block]]:
        """Begin to send a block of planes of one view; also return the plane after its last.

        Planes beyond the view's last plane fill up the block.
        """
        left = ways[0].count - start
        at_once = [batch_for(left * len(way.grid), self._tiles_at_once(way)) for way in ways]
        planes = min(
            max(1, tiles // len(way.grid)) for way, tiles in zip(ways, at_once, strict=True)
        )
        planes = min(planes, max(1, self._planes_at_once(ways[0].shape) >> self._halvings))
        sent = [
            self._sent(way, start, planes, batch_for(planes * len(way.grid), tiles))
            for way, tiles in zip(ways, at_once, strict=True)
        ]
        return min(start + planes, ways[0].count), sent

    def _sent(self, way: _Way, start: int, planes: int, tiles_at_once: int) -> _Block:
        """Begin to send a block of planes of one member."""
        geometry = Geometry(
            layout=way.layout,
            planes=planes,
            context_slices=way.member.spec.context_slices,
            shape=way.shape,
            resampled=way.resampled,
            grid=way.grid,
            tiles_at_once=tiles_at_once,
            clips=way.member.spec.resampling == "spline",
            zeros=way.tiling.zeros,
            activation=way.member.spec.activation if _gives_logits(way.member) else "",
        )
        block = self.device.send(way.block(start, planes, scaled=way.scaled_here))
        if not way.scaled_here or way.member.spec.background is None:
            return _Block(way, geometry, block, block)
        unscaled = self.device.send(way.block(start, planes, scaled=False))
        return _Block(way, geometry, block, unscaled)

    def _probabilities(self, sent: Sequence[_Block]) -> tuple[Tensor, list[Tensor]]:
        """Begin to compute a block of planes of one view.

        Returns
        -------
        probabilities : tensor of float32, shape (planes, rows, columns, classes)
            The mean of the members.
        ranges : list of tensor of float32, shape (2,)
            The lowest and highest value that a network gave, for each member.
        """
        mean: Tensor | None = None
        ranges = []
        for block in sent:
            one, extremes = self._of_member(block)
            if not _gives_logits(block.way.member):  # logits have no range
                ranges.append(extremes)
            if len(sent) > 1:
                one = self._weigh(block.way.share, ())(one)
            mean = one if mean is None else self._add()(mean, one)
        return mean, ranges

    def _of_member(self, block: _Block) -> tuple[Tensor, Tensor]:
        """Begin a block of planes of one member; return their probabilities, and their range."""
        way, geometry = block.way, block.geometry
        background = way.member.spec.background
        tiles = self._prepare(geometry)(block.planes, way.scaling, way.there)
        judged = [self._judge(way, part) for part in tiles]
        answers, ranges = [answer for answer, _ in judged], [found for _, found in judged]
        busy = None
        if background is not None:
            busy = self._occupied(geometry, background.at_most)(block.unscaled, way.there)
            sure = SURE if _gives_logits(way.member) else 1.0
            fill = self._unless_empty(empty_answer(way.member.spec, sure))
            answers = [fill(one, answer) for one, answer in zip(busy, answers, strict=True)]
        return self._assemble(geometry)(answers, way.weight, way.back), self._widest()(ranges, busy)

    def _judge(self, way: _Way, tiles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the mean answer for some tiles, and the range of each network's own answer."""
        mean: Tensor | None = None
        ranges = []
        for axes in way.mirrorings:
            seen = self._mirror(axes)(tiles) if axes else tiles
            for network, share in way.networks:
                with failing_network(tiles.shape):
                    answer, found = network(seen)
                ranges.append(found)
                part = share / len(way.mirrorings)
                if part == 1:
                    return answer, ranges
                answer = self._weigh(part, axes)(answer)
                mean = answer if mean is None else self._add()(mean, answer)
        return mean, ranges

    def _tiles_at_once(self, way: _Way) -> int:
        """Return how many tiles go through a network at once, at most."""
        plan, spec = way.member.plan, way.member.spec
        pixels = way.tiling.tile[0] * way.tiling.tile[1]
        if plan.batch is not None:
            most = float(plan.batch)
        elif not self.device.is_gpu:
            most = float(way.tiling.batch)
        else:
            inside = (plan.bytes_per_pixel or _UNKNOWN_BYTES) * self._narrow
            outside = _BYTES * (spec.input_channels + 3 * spec.output_channels)
            room = min(self._memory / 2 / inside, self._memory / 4 / outside, _CALL_PIXELS)
            most = room / pixels
        return max(1, int(most) >> (plan.halvings + self._halvings))

    def _planes_at_once(self, shape: Shape2D) -> int:
        """Return how many planes of probabilities are in the device's memory at once, at most."""
        pixels = shape[0] * shape[1]
        room = self._memory / 4 / (pixels * self._spec.output_channels * _BYTES * 3)
        return int(max(1, min(room, _CALL_PIXELS / pixels)))

    def _ways(self, ras: Volume, view: View, whole: float) -> list[_Way]:
        """Return the way of each member that has a view, with their shares of `whole`."""
        return [
            self._way(ras, view, member, networks, whole)
            for member, networks in zip(self._members, self.networks, strict=True)
            if view in member.spec.views
        ]

    def _way(
        self,
        ras: Volume,
        view: View,
        member: Member,
        networks: Sequence[Computation],
        whole: float,
    ) -> _Way:
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
        return _Way(
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
            scaling=self.device.send(_limits(scalings, planes.dtype)),
            there=self._sent_bands(there),
            back=self._sent_bands(back),
            resampled=resampled,
            tiling=tiling,
            grid=grid,
            weight=self.device.send(stages.blending(grid, weight, trust(grid, weight))),
            share=member.share(view) / len(self._members) / whole,
        )

    def _sent_bands(self, resampler: Resampler | None) -> Any:
        """Return the weights of a resampler on the device."""
        if resampler is None:
            return None
        return [
            (self.device.send(indices), self.device.send(weights))
            for indices, weights in stages.bands(resampler)
        ]


def _gives_logits(member: Member) -> bool:
    """Whether a member's tiles are averaged as logits."""
    return member.spec.average == "logits"


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


def _refuse_beyond(ranges: Sequence[np.ndarray]) -> None:
    """Refuse answers of networks that are not probabilities, by their lowest and highest value."""
    for low, high in ranges:
        refuse_beyond(float(low), float(high))
