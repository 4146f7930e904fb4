"""Forecast what a run would do, its time and memory, from headers and trials on this machine."""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.case import Case
from voxtile.engines import Engine, choose_engine
from voxtile.errors import CaseError, Notice, counted, first_few
from voxtile.inference.segmenter import make_plans
from voxtile.label_values import label_type
from voxtile.machine.at_once import in_order
from voxtile.machine.clock import duration
from voxtile.machine.memory import free_memory_mb, resident_memory_mb
from voxtile.machine.processors import processor_count
from voxtile.manifest.listing import Listed
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.run.job import Job, chosen_cases, with_memory
from voxtile.run.settings import RunSettings

from .benchmark import NetworkSpeed, figure, loaded
from .trials import Rates, known_sum, rehearse
from .workload import Grid, Pass, passes, survey_grid

# Maximum of plane sizes in the table.
_ROWS = 20


@dataclass(frozen=True, slots=True)
class PlaneSize:
    """All planes of one size, in one view, of one member."""

    model: str
    view: str
    # Minimum and maximum as scanned, (rows, columns).
    plane: tuple[tuple[int, int], tuple[int, int]]
    spacing_mm: tuple[tuple[float, float], tuple[float, float]]
    # (rows, columns) in pixels; `resampled` is the size of the planes that are tiled.
    resampled: tuple[int, int]
    tile: tuple[int, int]
    grid: tuple[int, int]  # (rows, columns): tiles along each axis
    overlap: tuple[int, int]
    batch: int  # tiles at once
    cases: int
    planes: int
    tiles: int
    gflop: float | None  # arithmetic of all planes, in 10^9 operations; None if not known
    seconds: float  # in the networks, predicted


@dataclass(frozen=True, slots=True)
class CaseForecast:
    """Time and memory of one case."""

    case_id: str
    network_s: float  # seconds in the networks
    rest_s: float | None  # seconds of all other stages; None if no case could be rehearsed
    memory_mb: float  # peak resident memory of the process, in MB (10^6 bytes)

    @property
    def seconds(self) -> float:
        """Seconds of the case, without the start of its worker."""
        return self.network_s + (self.rest_s or 0.0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do, and its time and memory."""

    model: str
    engine: Engine
    planned_mb: float  # memory that each process plans with, in MB (10^6 bytes)
    free_mb: float  # memory of this machine, or of its control group, that is not in use
    workers: int
    sizes: tuple[PlaneSize, ...]  # sizes with the most work first
    cases: tuple[CaseForecast, ...]  # in the manifest's order
    # Case id and notice: cases that would fail, judging by their headers.
    unreadable: tuple[tuple[str, Notice], ...]
    start_s: float  # seconds until a worker has started and loaded the networks
    first_s: float  # seconds in which the engine prepares for every shape of a batch
    base_mb: float  # resident memory before the first case
    trials: tuple[NetworkSpeed, ...]  # the measurements that seconds are computed from
    rehearsed: str | None  # the case whose reading, writing and scoring was timed
    seconds: float  # of the whole run
    gflop: float | None  # arithmetic of the whole run, in 10^9 operations; None if not known

    @property
    def memory_mb(self) -> float:
        """Peak resident memory of all workers together, in MB."""
        at_once = min(self.workers, len(self.cases))
        return sum(sorted((case.memory_mb for case in self.cases), reverse=True)[:at_once])

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return {
            **asdict(self),
            "engine": self.engine.facts(),
            "unreadable": [
                {"case_id": case_id, **asdict(reason)} for case_id, reason in self.unreadable
            ],
            "memory_mb": self.memory_mb,
        }

    def lines(self) -> Iterator[str]:
        """Yield the forecast for people."""
        yield f"model: {self.model}"
        yield f"engine: {self.engine} ({self.engine.reason or 'as the options say'})"
        workers = counted(self.workers, "worker")
        yield (
            f"memory: {self.free_mb:,.0f} MB free here, {self.planned_mb:,.0f} MB planned for "
            f"each of {workers}"
        )
        yield from _table(self.sizes[:_ROWS])
        if len(self.sizes) > _ROWS:
            yield f"and {counted(len(self.sizes) - _ROWS, 'more size')} (all with --json)"
        planes = sum(size.planes for size in self.sizes)
        tiles = sum(size.tiles for size in self.sizes)
        work = "arithmetic not known" if self.gflop is None else f"{figure(self.gflop)} GFLOP"
        yield (
            f"{counted(len(self.cases), 'case')}, {counted(planes, 'plane')}, "
            f"{counted(tiles, 'tile')}, {work}"
        )
        for case_id, reason in self.unreadable:
            yield f"would fail: {case_id}: {reason}"
        if not self.cases:
            return
        slowest = max(self.cases, key=lambda case: case.seconds)
        largest = max(self.cases, key=lambda case: case.memory_mb)
        rest = (
            "reading, writing and scoring are not included: no case is small enough to be tried, "
            "or the tries failed"
            if slowest.rest_s is None
            else f"{figure(slowest.rest_s)} s for all else, scaled from {self.rehearsed} by voxels"
        )
        yield (
            f"slowest case: {slowest.case_id}, {duration(slowest.seconds)} "
            f"({figure(slowest.network_s)} s in the networks; {rest})"
        )
        yield (
            f"start: {figure(self.start_s)} s to load, {figure(self.first_s)} s for the "
            "first batch of each shape"
        )
        yield f"most memory: {largest.case_id}, {largest.memory_mb:,.0f} MB"
        yield (f"whole run with {workers}: {duration(self.seconds)}, {self.memory_mb:,.0f} MB")
        too_large = [case.case_id for case in self.cases if case.memory_mb > self.free_mb]
        if too_large:
            yield (
                f"would not fit: {first_few(too_large)}; more memory is needed than is free here. "
                "Crop or resample these scans, or use a machine with more memory"
            )
        elif self.memory_mb > self.free_mb:
            yield (
                f"would not fit: {workers} at once need more memory than is free here; use fewer "
                "--workers"
            )


def make_forecast(
    manifest: str | Path | Listed,
    model: str | Path | Bundle,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    workers: int = 1,
    on_case: Callable[[int, int], None] | None = None,
) -> Forecast:
    """Return what a run would do, and its time and memory.

    Sizes, tiles and arithmetic are exact, except for tiles that a bundle's
    `background` leaves out. Seconds and memory are predictions.

    `workers` is the number of worker processes. `on_case` is called with (headers read, all cases).
    """
    settings = settings or RunSettings()
    workers, free_mb = max(1, workers), free_memory_mb()
    cases = chosen_cases(manifest, root, settings)
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    plans = make_plans(bundle, with_memory(settings.plan, workers))
    engine = choose_engine(bundle, settings.engine)
    grids, unreadable = _survey(cases, bundle, settings, on_case)
    with tempfile.TemporaryDirectory(prefix="voxtile-plan-") as folder:
        job = Job(bundle, plans, settings, Path(folder), engine)
        segmenter, load_s = loaded(job)
        rehearsed, voxel_s = rehearse(grids, job, segmenter) or (None, None)
    base_mb, room_mb = resident_memory_mb(), plans[0].room_mb()
    steps = {case.case_id: list(passes(grid, segmenter.members)) for case, grid in grids}
    rates = Rates(segmenter, bundle)
    every_step = list(chain.from_iterable(steps.values()))
    rates.measure(every_step)
    forecasts = tuple(
        CaseForecast(
            case.case_id,
            network_s=sum(map(rates.seconds, steps[case.case_id])),
            rest_s=None if voxel_s is None else voxel_s * grid.voxels,
            memory_mb=base_mb + _memory_mb(grid, steps[case.case_id], bundle, rates, room_mb),
        )
        for case, grid in grids
    )
    sizes = _sizes(steps, bundle, rates)
    first_s = rates.first_seconds(every_step)
    python_s = _python_s()
    return Forecast(
        model=bundle.name,
        engine=engine,
        planned_mb=room_mb,
        free_mb=free_mb,
        workers=workers,
        sizes=sizes,
        cases=forecasts,
        unreadable=unreadable,
        start_s=python_s + load_s,
        first_s=first_s,
        base_mb=base_mb,
        trials=tuple(rates.trials),
        rehearsed=rehearsed,
        seconds=_run_seconds(forecasts, workers, python_s, load_s + first_s),
        gflop=known_sum(size.gflop for size in sizes),
    )


def _run_seconds(
    cases: Sequence[CaseForecast], workers: int, python_s: float, load_s: float
) -> float:
    """Return the seconds of a whole run, from its cases and the start of each worker."""
    cores = processor_count()
    at_once = max(1, min(workers, len(cases)))
    # Workers share the processors, so only work of single threads runs in parallel.
    beside = sum(case.rest_s or 0.0 for case in cases) / min(at_once, cores)
    starting = python_s + (python_s + load_s) * max(1.0, at_once / cores)
    return starting + beside + sum(case.network_s for case in cases)


def _python_s() -> float:
    """Return the seconds that a worker takes to start, without its networks."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-c", "import voxtile.batch.worker"],
        capture_output=True,
        check=False,
    )
    return time.perf_counter() - begin


def _survey(
    cases: Sequence[Case],
    bundle: Bundle,
    settings: RunSettings,
    on_case: Callable[[int, int], None] | None,
) -> tuple[list[tuple[Case, Grid]], tuple[tuple[str, Notice], ...]]:
    """Return the grid of each case that can be read, and why the others cannot."""
    spec = bundle.spec

    def grid_of(case: Case) -> Grid | Notice:
        try:
            return survey_grid(case, spec.channels, settings.policy, spec.absent)
        except CaseError as error:
            return Notice(error.code, error.sentence)

    grids: list[tuple[Case, Grid]] = []
    unreadable = []
    found = in_order(grid_of, cases)
    for number, (case, grid) in enumerate(zip(cases, found, strict=True), start=1):
        if isinstance(grid, Grid):
            grids.append((case, grid))
        else:
            unreadable.append((case.case_id, grid))
        if on_case is not None:
            on_case(number, len(cases))
    return grids, tuple(unreadable)


def _memory_mb(
    grid: Grid, steps: Sequence[Pass], bundle: Bundle, rates: Rates, room_mb: float
) -> float:
    """Return the memory of a case: scan, mask, planes, sums of views, and tiles at once."""
    spec = bundle.spec
    kind = label_type(label.value for label in spec.labels)
    mask = grid.voxels * np.dtype(kind).itemsize / 1e6
    views = {step.view for step in steps}
    sums = grid.voxels * spec.output_channels * 2 / 1e6 if len(views) > 1 else 0.0
    planes = max(
        # The plane as stitched, resampled, and decided.
        (2 * prod(step.resampled) + prod(step.plane)) * spec.output_channels * 4 / 1e6
        for step in steps
    )
    return (
        grid.image_mb
        + mask
        + planes
        + (sums if sums <= room_mb else 0.0)
        + max(rates.memory_mb(step) + _ahead_mb(step, bundle) for step in steps)
    )


def _ahead_mb(step: Pass, bundle: Bundle) -> float:
    """Return the memory of the tiles that are computed while earlier ones are stitched."""
    if not step.tiling.ahead:
        return 0.0
    spec = bundle.members[step.member].spec
    values = spec.input_channels + spec.output_channels
    return step.tiling.batch * prod(step.tiling.tile) * values * 4 / 1e6


def _sizes(steps: dict[str, list[Pass]], bundle: Bundle, rates: Rates) -> tuple[PlaneSize, ...]:
    """Return the passes of all cases, grouped by size."""
    together: dict[Any, list[Pass]] = defaultdict(list)
    for step in chain.from_iterable(steps.values()):
        together[step.member, step.view, step.resampled].append(step)
    sizes = []
    for (member, view, resampled), alike in together.items():
        first = alike[0]
        spacings = [step.spacing_mm for step in alike]
        sizes.append(
            PlaneSize(
                model=bundle.members[member].spec.name,
                view=view,
                plane=(min(step.plane for step in alike), max(step.plane for step in alike)),
                spacing_mm=(min(spacings), max(spacings)),
                resampled=resampled,
                tile=first.tiling.tile,
                grid=first.grid,
                overlap=first.tiling.overlap,
                batch=first.tiling.batch,
                cases=len(alike),
                planes=sum(step.planes for step in alike),
                tiles=sum(step.tiles for step in alike),
                gflop=known_sum(map(rates.gflop, alike)),
                seconds=sum(map(rates.seconds, alike)),
            )
        )
    return tuple(sorted(sizes, key=lambda size: -size.seconds))


def _table(sizes: Sequence[PlaneSize]) -> Iterator[str]:
    """Yield sizes as lines of equal columns."""
    names = ("model", "view", "plane", "mm", "resampled", "tile", "grid", "overlap", "batch")
    rows: list[tuple[str, ...]] = [(*names, "cases", "planes", "tiles", "GFLOP", "s")]
    rows += [
        (
            size.model,
            size.view,
            _between(*(f"{rows}x{columns}" for rows, columns in size.plane)),
            _between(*(f"{tall:.4g}x{wide:.4g}" for tall, wide in size.spacing_mm)),
            *(f"{a}x{b}" for a, b in (size.resampled, size.tile, size.grid, size.overlap)),
            *map(str, (size.batch, size.cases, size.planes, size.tiles)),
            "?" if size.gflop is None else figure(size.gflop),
            figure(size.seconds),
        )
        for size in sizes
    ]
    if len({size.model for size in sizes}) < 2:
        rows = [row[1:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()


def _between(least: str, most: str) -> str:
    """Return one text, or the range from minimum to maximum."""
    return least if least == most else f"{least}..{most}"
