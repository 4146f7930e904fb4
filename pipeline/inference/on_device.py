"""From a volume to a mask on a GPU: planes are sent as stored, label values are copied back.

    scan -> blocks of planes -> [prepare -> networks -> assemble -> decide] -> labels -> mask
                                              on the device

Blocks overlap: while one is computed, the next one is sent, and the label values
of the last are copied back and written in a separate thread. With several
views the probabilities of each stay on the device, in 16 bits, until the axial
planes are decided. The path of `voxtile.inference.infer` is the reference.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from voxtile.engines import device_stages as stages
from voxtile.engines.device import Computation, Device, Fetching, Tensor
from voxtile.engines.device_stages import Geometry, Layout
from voxtile.engines.fallback import Fallbacks
from voxtile.errors import Notice
from voxtile.label_values import label_type
from voxtile.models.spec import View
from voxtile.preparation.planes import to_planes
from voxtile.volume import Shape2D, Volume

from .device_blocks import Sending, in_blocks
from .device_way import Block, Way, ways_through
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
# Number of compiled stages that are cached; each new grid needs about four.
_STAGES = 64
_BYTES = 4
# After this many halvings a call has one tile, however many it had at first.
_MOST_HALVINGS = 12

# Takes what was sent; returns label values, numbers of each plane, and ranges of the answers.
Deciding = Callable[[Any], Sequence[Tensor]]


class _DeviceFull(Exception):
    """A single tile does not fit into the memory of the device."""


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

        sums = list(in_blocks(len(mask), send, begin, end, self._halve))
        return np.asarray(np.sum(sums, axis=0))

    def _of_one_view(self, ways: Sequence[Way], layout: Layout) -> tuple[Sending, Deciding]:
        """Return functions that send blocks of planes, and decide them by their view's networks."""
        decide = self._decide(layout)

        def decided(sent: Sequence[Block]) -> list[Tensor]:
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

    def _summand(self, ways: Sequence[Way], share: float) -> Tensor:
        """Return the probabilities of all planes of a view, as its share of the sums."""

        def begin(
            start: int, stop: int, sent: Sequence[Block]
        ) -> tuple[Tensor, Fetching, list[Fetching]]:
            probabilities, ranges = self._probabilities(sent)
            steps, sums = self._quantise(share, stop - start)(probabilities)
            return steps, self.device.fetch(sums), [self.device.fetch(one) for one in ranges]

        def end(start: int, stop: int, begun: tuple[Tensor, Fetching, list[Fetching]]) -> Tensor:
            steps, sums, ranges = begun
            _refuse_beyond([fetch() for fetch in ranges])
            refuse_not_finite(sums())
            return steps

        send = partial(self._send, ways)
        return self._join()(*in_blocks(ways[0].count, send, begin, end, self._halve))

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

    def _send(self, ways: Sequence[Way], start: int) -> tuple[int, Sequence[Block]]:
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

    def _sent(self, way: Way, start: int, planes: int, tiles_at_once: int) -> Block:
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
            activation=way.member.spec.activation if way.gives_logits else "",
        )
        block = unscaled = self.device.send(way.block(start, planes, scaled=way.scaled_here))
        if way.scaled_here and way.member.spec.background is not None:
            unscaled = self.device.send(way.block(start, planes, scaled=False))
        along = way.along(start, planes)
        where = None if along is None else self.device.send(along)
        return Block(way, geometry, block, unscaled, where)

    def _probabilities(self, sent: Sequence[Block]) -> tuple[Tensor, list[Tensor]]:
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
            if not block.way.gives_logits:  # logits have no range
                ranges.append(extremes)
            if len(sent) > 1:
                one = self._weigh(block.way.share, ())(one)
            mean = one if mean is None else self._add()(mean, one)
        return mean, ranges

    def _of_member(self, block: Block) -> tuple[Tensor, Tensor]:
        """Begin a block of planes of one member; return their probabilities, and their range."""
        way, geometry = block.way, block.geometry
        background = way.member.spec.background
        tiles = self._prepare(geometry)(block.planes, way.scaling, way.there, block.along)
        judged = [self._judge(way, part) for part in tiles]
        answers, ranges = [answer for answer, _ in judged], [found for _, found in judged]
        busy = None
        if background is not None:
            busy = self._occupied(geometry, background.at_most)(block.unscaled, way.there)
            sure = SURE if way.gives_logits else 1.0
            fill = self._unless_empty(empty_answer(way.member.spec, sure))
            answers = [fill(one, answer) for one, answer in zip(busy, answers, strict=True)]
        return self._assemble(geometry)(answers, way.weight, way.back), self._widest()(ranges, busy)

    def _judge(self, way: Way, tiles: Tensor) -> tuple[Tensor, list[Tensor]]:
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

    def _tiles_at_once(self, way: Way) -> int:
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

    def _ways(self, ras: Volume, view: View, whole: float) -> list[Way]:
        """Return the way of each member that has a view, with their shares of `whole`."""
        members = list(zip(self._members, self.networks, strict=True))
        return ways_through(self.device, ras, view, members, whole)


def _refuse_beyond(ranges: Sequence[np.ndarray]) -> None:
    """Refuse answers of networks that are not probabilities, by their lowest and highest value."""
    for low, high in ranges:
        refuse_beyond(float(low), float(high))
