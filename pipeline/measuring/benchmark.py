"""Measure a model here: its network, whole cases, and a matrix multiplication as the limit."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from voxtile.case import Case
from voxtile.engines import Engine, Model, choose_engine
from voxtile.engines.engine import Precision
from voxtile.errors import CaseError, ManifestError, UsageError, counted
from voxtile.inference.segmenter import Segmenter, make_plans
from voxtile.machine.memory import free_memory_mb, total_memory_mb
from voxtile.machine.processors import processor_count, processor_model
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.cost import network_cost
from voxtile.models.spec import ModelSpec
from voxtile.phantoms.ellipsoids import Ellipsoid, centred_affine, draw
from voxtile.run.case import attempt_case
from voxtile.run.job import Job, chosen_cases, with_memory
from voxtile.run.journal import Journal
from voxtile.run.settings import RunSettings
from voxtile.run_folder.case_report import CaseReport
from voxtile.run_folder.protection import Input, inputs_of, protect
from voxtile.volume import Shape2D, Shape3D
from voxtile.writing.nifti import write_mask, write_volume

from .workload import Grid, Pass, passes, survey_grid

# Seconds for the calls of one measurement, and the minimum and maximum of calls.
_BUDGET_S = 2.0
_LEAST, _MOST = 3, 50
# Rows and columns of the matrices that are multiplied; the small size does not keep a GPU busy.
_MATRIX, _GPU_MATRIX = 2048, 8192
_PHANTOM_SHAPE: Shape3D = (128, 128, 64)
_PHANTOM_SPACING_MM = (1.0, 1.0, 1.0)


def protect_inputs(
    json_file: Path, model: str, manifest: Path | None, root: str | Path | None
) -> None:
    """Refuse to write the figures over an input, or over a file that is not JSON.

    ManifestError with both paths.
    """
    inputs = [Input("the model", one.folder) for one in load_bundle(model).members]
    if manifest is not None:
        inputs += [Input("the manifest", manifest), *inputs_of(read_manifest(manifest, root=root))]
    protect(inputs, json_file, advice="name another file with --json")
    if json_file.is_file() and json_file.read_bytes()[:1] != b"{":
        raise ManifestError(f"{json_file} exists and is not JSON; name another file with --json")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of repeated measurements, and their number."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(median(values), min(values), max(values), len(values))

    def rate(self, work: float) -> "Spread":
        """Return the work per second, if `work` was done in these seconds."""
        return Spread(work / self.median, work / self.most, work / self.least, self.count)


@dataclass(frozen=True, slots=True)
class NetworkSpeed:
    """One network on tiles of one size."""

    tile: tuple[int, int]  # (rows, columns): in pixels
    batch: int  # tiles at once
    first_s: float  # seconds of the first call, in which the engine prepares for the shape
    batch_s: Spread  # seconds of each later call

    @property
    def pixel_s(self) -> float:
        """Seconds per pixel."""
        return self.batch_s.median / (self.batch * self.tile[0] * self.tile[1])

    @property
    def tiles_per_s(self) -> Spread:
        """Tiles per second."""
        return self.batch_s.rate(self.batch)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The measurements of one model."""

    model: str
    scans: str
    engine: Engine
    machine: dict[str, Any]
    load_s: float  # seconds to load the networks
    network: NetworkSpeed  # the first network, on the tiles with the most work
    # Arithmetic of the network in 10^9 operations per second; None if its graph is not known.
    network_gflops: float | None
    # Arithmetic of a matrix multiplication in the same precision (float32 for int8 networks), on
    # the same device and threads.
    matrix_gflops: Spread
    stages_s: dict[str, Spread]  # of each stage of a case
    case_s: Spread  # of a whole case
    tiles_per_s: Spread  # of whole cases
    voxels_per_s: Spread  # of whole cases
    peak_memory_mb: float | None  # largest resident memory of this process during a case, in MB
    failed: tuple[str, ...] = ()  # cases that failed, with the reason

    @property
    def share(self) -> float | None:
        """The network's arithmetic as a fraction of a matrix multiplication's."""
        if self.network_gflops is None:
            return None
        return self.network_gflops / self.matrix_gflops.median

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON value."""
        return {
            **asdict(self),
            "engine": self.engine.facts(),
            "network": {**asdict(self.network), "tiles_per_s": asdict(self.network.tiles_per_s)},
            "share_of_matrix_multiplication": self.share,
        }

    def lines(self) -> Iterator[str]:
        """Yield the measurements for people."""
        machine = self.machine
        yield f"{self.model} on {self.scans}"
        yield (
            f"{machine['processor']}, {counted(machine['cores'], 'core')}, "
            f"load {machine['load']:.1f}; "
            f"{self.engine} ({self.engine.reason})"
        )
        if machine["load"] > 0.5 * machine["cores"]:
            yield "warning: other programs keep this machine busy, so these figures are too low"
        speed = self.network
        yield f"loading     {self.load_s:.2f} s"
        yield (
            f"network     {_spread(speed.tiles_per_s)} tiles/s ({speed.tile[0]}x{speed.tile[1]}, "
            f"{speed.batch} at once; the first time {speed.first_s:.2f} s)"
        )
        if self.network_gflops is not None and self.share is not None:
            yield (
                f"arithmetic  {figure(self.network_gflops)} GFLOP/s, {self.share:.0%} of the "
                f"{matrix_precision(self.engine)} matrix multiplication's "
                f"{_spread(self.matrix_gflops)}"
            )
        yield f"whole case  {_spread(self.tiles_per_s)} tiles/s"
        yield f"            {_spread(self.voxels_per_s)} voxels/s"
        yield f"            {_spread(self.case_s)} s"
        for name, seconds in self.stages_s.items():
            yield f"  {name:<12}{_spread(seconds)} s"
        if self.peak_memory_mb is not None:
            yield f"memory      {self.peak_memory_mb:,.0f} MB at the peak"
        for sentence in self.failed:
            yield f"failed: {sentence}"


def run_benchmark(
    model: str | Path | Bundle = "hippocampus",
    manifest: str | Path | None = None,
    *,
    root: str | Path | None = None,
    settings: RunSettings | None = None,
    most_cases: int = 5,
    repeats: int = 3,
) -> Benchmark:
    """Measure a model on this machine.

    Without a manifest the case is a phantom of 128 x 128 x 64 voxels of 1 mm. At most `most_cases`
    cases, spread over the manifest, are processed `repeats` times each, after one warm-up.
    CaseError if no case could be processed.
    """
    if most_cases < 1 or repeats < 1:
        raise UsageError(f"cases {most_cases} and repeats {repeats} must be at least 1")
    settings = settings or RunSettings()
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    machine, times = machine_facts(), counted(repeats, "time")
    engine = choose_engine(bundle, settings.engine)
    plans = make_plans(bundle, with_memory(settings.plan))
    with tempfile.TemporaryDirectory(prefix="voxtile-bench-") as folder:
        job = Job(bundle, plans, settings, Path(folder, "out"), engine)
        if manifest is None:
            cases: tuple[Case, ...] = (_phantom(Path(folder), bundle.spec),)
            scans = f"a phantom of {' x '.join(map(str, _PHANTOM_SHAPE))} voxels, {times}"
        else:
            found = chosen_cases(manifest, root, settings)
            cases = tuple(found[:: -(-len(found) // most_cases)])
            scans = f"{len(cases)} of {counted(len(found), 'case')}, {times} each"
        segmenter, load_s = loaded(job)
        done, failed = _whole_cases(cases, job, segmenter, repeats)
    if not done:
        raise CaseError("nothing_measured", f"no case could be processed: {failed[0]}")
    work = [(report, grid, list(passes(grid, segmenter.members))) for report, grid in done]
    speed, gflops = _heaviest([one for _, _, steps in work for one in steps], bundle, segmenter)
    peaks = [report.peak_memory_mb for report, _ in done if report.peak_memory_mb is not None]
    return Benchmark(
        model=bundle.name,
        scans=scans,
        engine=engine,
        machine=machine,
        load_s=load_s,
        network=speed,
        network_gflops=gflops,
        matrix_gflops=matrix_gflops(engine),
        stages_s={
            name: Spread.of([report.timings_s[name] for report, _ in done])
            for name in done[0][0].timings_s
        },
        case_s=Spread.of([report.seconds for report, _ in done]),
        tiles_per_s=Spread.of(
            [sum(step.tiles for step in steps) / report.seconds for report, _, steps in work]
        ),
        voxels_per_s=Spread.of([grid.voxels / report.seconds for report, grid in done]),
        peak_memory_mb=max(peaks, default=None),
        failed=tuple(failed),
    )


def loaded(job: Job) -> tuple[Segmenter, float]:
    """Return the networks, ready to run, and the seconds that loading them took."""
    begin = time.perf_counter()
    segmenter = job.load()
    return segmenter, time.perf_counter() - begin


def _heaviest(
    steps: Sequence[Pass], bundle: Bundle, segmenter: Segmenter
) -> tuple[NetworkSpeed, float | None]:
    """Return the speed and GFLOP/s of the network and tiles with the most work."""
    heaviest = max(steps, key=lambda step: step.pixels)
    index = heaviest.networks[0]
    member, one = segmenter.members[heaviest.member], bundle.members[heaviest.member]
    tiling = heaviest.tiling
    speed = time_network(member.models[index], tiling.tile, tiling.batch, member.spec)
    cost = network_cost(one, one.spec.networks[index])
    return speed, None if cost is None else cost.flops / speed.pixel_s / 1e9


def time_network(
    model: Model,
    tile: Shape2D,
    batch: int,
    spec: ModelSpec,
    *,
    budget_s: float = _BUDGET_S,
    least: int = _LEAST,
) -> NetworkSpeed:
    """Return how fast a network is on tiles of noise, as `time_calls` measures it."""
    shape = (batch, *tile, spec.input_channels)
    tiles = np.random.default_rng(0).standard_normal(shape, np.float32)
    first_s, batch_s = time_calls(lambda: np.asarray(model(tiles)), budget_s, least)
    return NetworkSpeed(tile, batch, first_s, batch_s)


def time_calls(
    call: Callable[[], object], budget_s: float = _BUDGET_S, least: int = _LEAST
) -> tuple[float, Spread]:
    """Return the seconds of the first call, and of later calls in `budget_s`, at least `least`."""
    begin = time.perf_counter()
    call()
    first_s = time.perf_counter() - begin
    seconds: list[float] = []
    until = time.perf_counter() + budget_s
    while len(seconds) < least or (len(seconds) < _MOST and time.perf_counter() < until):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return first_s, Spread.of(seconds)


def matrix_gflops(engine: Engine) -> Spread:
    """Return the speed of a matrix multiplication, in 10^9 operations per second.

    On a processor in float32, NumPy multiplies (BLAS); otherwise Keras' backend
    does. No library here multiplies int8 matrices, so float32 is used for int8.
    """
    size = _MATRIX if engine.device == "cpu" else _GPU_MATRIX
    call: Callable[[], object]
    if engine.device == "cpu" and matrix_precision(engine) == "float32":
        one, other = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
        call = partial(np.matmul, one, other, out=np.empty_like(one))
    else:
        from voxtile.engines.keras_engine import multiplier

        call = multiplier(size, engine)
    return time_calls(call)[1].rate(2 * size**3 / 1e9)


def matrix_precision(engine: Engine) -> Precision:
    """Return the precision of the matrix multiplication that an engine is compared with."""
    return "float32" if engine.precision == "int8" else engine.precision


def machine_facts() -> dict[str, Any]:
    """Return facts about the machine, without which the figures have no meaning."""
    return {
        "processor": processor_model()[0],
        "cores": processor_count(),
        "load": os.getloadavg()[0],
        "memory_mb": round(total_memory_mb()),
        "free_memory_mb": round(free_memory_mb()),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }


def _whole_cases(
    cases: Sequence[Case], job: Job, segmenter: Segmenter, repeats: int
) -> tuple[list[tuple[CaseReport, Grid]], list[str]]:
    """Return the report and grid of each case and repeat, and why other cases failed."""
    done: list[tuple[CaseReport, Grid]] = []
    failed: list[str] = []
    spec = job.bundle.spec
    for case in cases:
        # The first time does not count, because the engine compiles for the sizes of this case.
        reports = [attempt_case(case, job, segmenter, Journal()) for _ in range(1 + repeats)]
        reason = next((report.reason for report in reports if report.reason is not None), None)
        if reason is not None:
            failed.append(f"{case.case_id}: {reason}")
            continue
        grid = survey_grid(case, spec.channels, job.settings.policy, spec.absent)
        done += [(report, grid) for report in reports[1:]]
    return done, failed


def _phantom(folder: Path, spec: ModelSpec) -> Case:
    """Write a scan with an ellipsoid for each label, and return its case."""
    affine = centred_affine(_PHANTOM_SHAPE, _PHANTOM_SPACING_MM)
    solids = [
        Ellipsoid((0, 0, 0), (60 / (1 + place), 50 / (1 + place), 30 / (1 + place)), 400, label)
        for place, label in enumerate(label.value for label in spec.labels)
        if label <= 255  # a phantom's label map is uint8
    ]
    image, truth = draw(_PHANTOM_SHAPE, affine, solids, noise=40)
    write_mask(folder / "truth.nii.gz", truth)
    images = tuple((channel, folder / f"{channel}.nii.gz") for channel in spec.channels)
    for _, path in images:
        write_volume(path, image)
    return Case("phantom", images, folder / "truth.nii.gz")


def _spread(values: Spread) -> str:
    """Return a median with the minimum and the maximum."""
    return f"{figure(values.median)} ({figure(values.least)} to {figure(values.most)})"


def figure(value: float) -> str:
    """Return a number with three digits, or with all digits before the decimal point.

    Examples
    --------
    >>> figure(0.01234), figure(12.34), figure(349123.4)
    ('0.0123', '12.3', '349,123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
