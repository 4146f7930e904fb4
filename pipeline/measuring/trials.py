"""Short timings on this machine, for a forecast: of tiles, and of a case without its networks."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from voxtile.case import Case
from voxtile.inference.infer import Member
from voxtile.inference.segmenter import Segmenter
from voxtile.machine.memory import resident_memory_mb
from voxtile.models.bundle import Bundle
from voxtile.models.cost import network_cost
from voxtile.run.case import attempt_case
from voxtile.run.job import Job
from voxtile.run.journal import Journal, peak_memory_mb
from voxtile.volume import Shape2D

from .benchmark import NetworkSpeed, time_network
from .workload import Grid, Pass

# Maximum of shapes that are tried per network; the speed of others is scaled by their pixels.
_MOST_TRIALS = 3
_TRIAL_S = 1.5
# No further shape is tried after this many seconds, because a call with large tiles is slow.
_TRIALS_S = 6.0
# The rehearsal takes a case of usual size, if possible with at most this many voxels.
_REHEARSED_VOXELS = 2**25
# A larger case is never rehearsed: a forecast takes seconds, however large the scans are.
_MOST_VOXELS = 2**28
# Cases that a rehearsal tries before it gives up, because files may be damaged.
_REHEARSALS = 3
# A shorter rehearsal is done again, because the first one loads libraries.
_SHORT_S = 10.0


def rehearse(
    grids: Sequence[tuple[Case, Grid]], job: Job, segmenter: Segmenter
) -> tuple[str, float] | None:
    """Time one case of usual size with everything but the networks.

    The result is (case_id, seconds per voxel); None if no case could be processed, or all are
    too large to be tried.
    """
    grids = [pair for pair in grids if pair[1].voxels <= _MOST_VOXELS]
    usual = sorted(grids, key=lambda pair: pair[1].voxels)
    usual = [pair for pair in usual if pair[1].voxels <= _REHEARSED_VOXELS] or usual[:1]
    middle = len(usual) // 2
    members = tuple(
        replace(member, models=tuple(_stand_in(member) for _ in member.models))
        for member in segmenter.members
    )
    rehearsing = replace(segmenter, members=members)
    for case, grid in (usual[middle:] + usual[:middle])[:_REHEARSALS]:
        report = attempt_case(case, job, rehearsing, Journal())
        if report.reason is None and report.seconds < _SHORT_S:
            report = attempt_case(case, job, rehearsing, Journal())
        if report.reason is None:
            return case.case_id, report.seconds / grid.voxels
    return None


def _stand_in(member: Member) -> Callable[[np.ndarray], np.ndarray]:
    """Return a model that takes no time, and gives all labels as nested shapes."""
    classes = member.spec.output_channels

    def answer(tiles: np.ndarray) -> np.ndarray:
        count, rows, columns, _ = tiles.shape
        found = np.zeros((count, rows, columns, classes), np.float32)
        found[..., 0] = 1
        for place in range(1, classes):
            tall, wide = (size * place // (2 * classes) for size in (rows, columns))
            found[:, tall : rows - tall, wide : columns - wide] = 0
            found[:, tall : rows - tall, wide : columns - wide, place] = 1
        return found

    return answer


def known_sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of some values; None if one is not known."""
    values = list(values)
    return None if None in values else sum(value for value in values if value is not None)


class Rates:
    """Seconds and memory of networks, from trials of a few shapes.

    Networks whose graphs cost the same are tried once.
    """

    def __init__(self, segmenter: Segmenter, bundle: Bundle) -> None:
        self._segmenter = segmenter
        self._costs = [
            [network_cost(one, network) for network in one.spec.networks] for one in bundle.members
        ]
        self._found: dict[Any, list[tuple[NetworkSpeed, float]]] = {}

    @property
    def trials(self) -> list[NetworkSpeed]:
        """All measurements."""
        return [speed for trials in self._found.values() for speed, _ in trials]

    def measure(self, steps: Sequence[Pass]) -> None:
        """Try each network on the shapes with the most work."""
        pixels: dict[Any, Counter[tuple[Shape2D, int]]] = defaultdict(Counter)
        where: dict[Any, tuple[int, int]] = {}
        for step in steps:
            for index in step.networks:
                kind = self._kind(step.member, index)
                where.setdefault(kind, (step.member, index))
                pixels[kind][step.tiling.tile, step.tiling.batch] += step.pixels
        for kind, shapes in pixels.items():
            number, index = where[kind]
            member = self._segmenter.members[number]
            begin = time.perf_counter()
            for (tile, batch), _ in shapes.most_common(_MOST_TRIALS):
                if time.perf_counter() - begin > _TRIALS_S:
                    break
                before = resident_memory_mb()
                Journal()  # resets the system's record of the peak
                model = member.models[index]
                speed = time_network(model, tile, batch, member.spec, budget_s=_TRIAL_S, least=1)
                peak = peak_memory_mb() or before
                self._found.setdefault(kind, []).append((speed, max(0.0, peak - before)))

    def seconds(self, step: Pass) -> float:
        """Return the seconds that a pass spends in its networks."""
        return sum(self._nearest(step, index)[0].pixel_s * step.pixels for index in step.networks)

    def first_seconds(self, steps: Sequence[Pass]) -> float:
        """Return the seconds in which the engine prepares for all shapes of these passes."""
        shapes = {
            (self._kind(step.member, index), step.tiling.tile, size): self._nearest(step, index)[0]
            for step in steps
            for index in step.networks
            for size in step.batches
        }
        return sum(max(0.0, speed.first_s - speed.batch_s.median) for speed in shapes.values())

    def gflop(self, step: Pass) -> float | None:
        """Return the arithmetic of a pass, in 10^9 operations; None if not known."""
        costs = [self._costs[step.member][index] for index in step.networks]
        flops = known_sum(None if cost is None else cost.flops for cost in costs)
        return None if flops is None else flops * step.pixels / 1e9

    def memory_mb(self, step: Pass) -> float:
        """Return the memory of tiles at once: of the network's numbers, or of a trial if larger."""
        tile, batch = step.tiling.tile, step.tiling.batch
        pixels = tile[0] * tile[1] * batch
        most = 0.0
        for index in step.networks:
            cost = self._costs[step.member][index]
            activations = 0.0 if cost is None else cost.values * 4 * pixels / 1e6
            speed, grown = self._nearest(step, index)
            tried = grown * pixels / (speed.batch * speed.tile[0] * speed.tile[1])
            most = max(most, activations, tried)
        return most

    def _nearest(self, step: Pass, index: int) -> tuple[NetworkSpeed, float]:
        """Return the trial whose tile is nearest in size."""
        pixels = step.tiling.tile[0] * step.tiling.tile[1]
        return min(
            self._found[self._kind(step.member, index)],
            key=lambda trial: abs(trial[0].tile[0] * trial[0].tile[1] - pixels),
        )

    def _kind(self, member: int, index: int) -> Any:
        """Return a key that networks of the same architecture share, if that is known."""
        cost = self._costs[member][index]
        channels = self._segmenter.members[member].spec.input_channels
        return (member, index) if cost is None else (cost, channels)
