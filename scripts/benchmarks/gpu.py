"""Measure voxtile and other programs on one GPU, in at most 6 minutes: `scripts/bench --gpu`.

Nothing is installed and no network access is needed: programs that can be imported are measured,
and the rows of others are left out. Each part runs in its own process. --quick shows on any
machine, also without a GPU, that everything runs; its numbers mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import numpy as np
from gpu_cohort import cohort
from workload import Workload, prepare, scan

HERE = Path(__file__).parent
BUDGET_S = 345.0
# Planes that a network takes at once when only its arithmetic is measured.
PLANES = 16


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Parameters
    ----------
    small, large : Workload
        The usual network, and the network whose arithmetic is measured.
    size, slices : int
        Rows (and columns) and slices of the scan.
    peer_slices : int
        Slices of the scan for MONAI with its default settings.
    rounds : int
    """

    small: Workload = field(default_factory=Workload)
    large: Workload = field(default_factory=lambda: Workload(filters=64, fit_steps=0))
    size: int = 512
    slices: int = 224  # whole blocks of 4, 7 and 16, so that few shapes are compiled
    peer_slices: int = 12
    checked_slices: int = 28
    rounds: int = 5
    many: Workload = field(default_factory=lambda: Workload(classes=105, fit_steps=0))
    many_slices: int = 600
    cases: int = 20
    case_slices: int = 300
    workers: tuple[int, ...] = (4,)


QUICK = Setting(
    Workload(filters=4, tile=32, depth=2, fit_steps=1),
    Workload(filters=8, tile=32, depth=2, fit_steps=0),
    size=64,
    slices=5,
    peer_slices=2,
    checked_slices=5,
    rounds=2,
    many=Workload(filters=4, classes=105, tile=32, depth=2, fit_steps=0),
    many_slices=5,
    cases=4,
    case_slices=8,
    workers=(1, 2),
)

Row = dict[str, Any]
# Columns of the table that not every row has, and how their numbers are written.
COLUMNS = (("tflops", ".3g"), ("agree", ".5%"), ("peak_mb", ".0f"), ("x", ".2f"))


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of a call, after a first call that compiles."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def ours(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the rows of voxtile with the backend that the environment names."""
    from voxtile.engines import Engine
    from voxtile.engines.keras_engine import gpu_count
    from voxtile.errors import CaseError
    from voxtile.inference.segmenter import load_segmenter, make_plans
    from voxtile.models.backend import keras
    from voxtile.models.bundle import load_bundle
    from voxtile.preparation.plan import PlanWish
    from voxtile.volume import Volume

    backend, place = keras.config.backend(), "gpu" if gpu_count() else "cpu"
    volume = Volume(scan(setting.slices, setting.size), np.diag([0.8, 0.8, 2.0, 1.0]))
    part = Volume(volume.array[..., : setting.checked_slices], volume.affine)

    def loaded(workload: Workload, precision: str, tile: int | None) -> Any:
        bundle = load_bundle(folder / workload.name)
        wish = PlanWish() if tile is None else PlanWish((tile, tile), 0.5)
        engine = Engine("keras", precision, place)  # type: ignore[arg-type]
        return load_segmenter(bundle, make_plans(bundle, wish), engine, on_device=True)

    tile = setting.small.tile
    bundle = load_bundle(folder / setting.small.name)
    plans = make_plans(bundle, PlanWish((tile, tile), 0.5))
    # The first backend computes the labels on the processor: for a slow one this took longer than
    # its rows.
    known = folder / f"{setting.small.name}-{setting.size}-{setting.checked_slices}.npy"
    if not known.exists():
        with_processor = load_segmenter(
            bundle, plans, Engine("keras", "float32", "cpu"), on_device=False
        )
        np.save(known, with_processor(part).array)
    reference = np.load(known)
    # The most important rows come first, because a part may be stopped.
    for workload, precision, size in (
        (setting.small, "bfloat16", tile),
        (setting.small, "bfloat16", None),
        (setting.large, "bfloat16", None),
        (setting.small, "float32", tile),
        (setting.small, "float32", None),
    ):
        segmenter = loaded(workload, precision, size)
        try:
            taken = seconds(lambda: segmenter(volume), setting.rounds)  # noqa: B023
        except CaseError as error:
            print(f"{precision}, {workload.name}, {size}: {error}", file=sys.stderr)
            continue
        row = {
            "what": f"line, {precision}, {workload.filters} filters, "
            + (f"tiles of {size}" if size else "planner free"),
            "who": f"voxtile on {backend}",
            "ms": 1e3 * taken / setting.slices,
            "peak_mb": _peak_mb(backend),
        }
        if size:
            row["agree"] = float((segmenter(part).array == reference).mean())
        else:
            work = workload.flops_per_pixel() * setting.size**2 * setting.slices
            row["tflops"] = work / taken / 1e12
        yield row
        if size is None:
            yield from _parts(segmenter, setting, workload, precision, backend)
        if workload is setting.small and precision == "bfloat16":
            yield from _stages(segmenter, volume, row)


def _parts(
    segmenter: Any, setting: Setting, workload: Workload, precision: str, backend: str
) -> Iterator[Row]:
    """Yield the time of the network alone, on planes that are already on the device."""
    device = segmenter.line.device
    network = segmenter.line.networks[0][0]
    tiles = device.send(
        np.random.default_rng(0).random((PLANES, setting.size, setting.size, 1), np.float32)
    )
    repeats = 10 if device.is_gpu else 1

    def work() -> None:
        for _ in range(repeats):
            answer, _ = network(tiles)
        device.fetch(answer[:1, :1, :1])()

    taken = seconds(work, 3) / repeats
    yield {
        "what": f"network alone, {precision}, {workload.filters} filters",
        "who": f"voxtile on {backend}",
        "ms": 1e3 * taken / PLANES,
        "tflops": workload.flops_per_pixel() * setting.size**2 * PLANES / taken / 1e12,
    }


def _stages(segmenter: Any, volume: Any, row: Row) -> Iterator[Row]:
    """Yield the time of each stage of one block; each stage is waited for before the next."""
    from voxtile.engines.device_stages import Layout
    from voxtile.inference.seen import see
    from voxtile.models.backend import keras

    line = segmenter.line
    device, spec = line.device, segmenter.members[0].spec
    before = {key: row[key] for key in ("what", "who")}
    ways = line._ways(see(volume, spec).volume, spec.views[0], 1.0)
    mask = np.moveaxis(np.empty((2, 2, 2), np.uint8, order="F"), 2, 0)
    stop, (block,) = line._send(ways, 0)
    tiles = line._prepare(block.geometry)(block.planes, ways[0].scaling, ways[0].there)
    answers = [line._judge(ways[0], part)[0] for part in tiles]
    whole = line._assemble(block.geometry)(answers, ways[0].weight, ways[0].back)
    decide = line._decide(Layout.of(mask))
    stages: dict[str, Callable[[], Any]] = {
        "send": lambda: line._send(ways, 0)[1][0].planes,
        "prepare": lambda: line._prepare(block.geometry)(
            block.planes, ways[0].scaling, ways[0].there
        )[0],
        "networks": lambda: [line._judge(ways[0], part)[0] for part in tiles][-1],
        "assemble": lambda: line._assemble(block.geometry)(answers, ways[0].weight, ways[0].back),
        "decide": lambda: decide(whole)[0],
    }
    for name, stage in stages.items():
        # Fetching one number of the result waits for the device.
        taken = seconds(lambda: device.fetch(keras.ops.reshape(stage(), (-1,))[:1])(), 5)  # noqa: B023
        yield {
            **before,
            "what": f"{row['what']}: {name} of {stop} planes alone",
            "ms": 1e3 * taken / stop,
        }
    taken = seconds(lambda: np.array(device.fetch(decide(whole)[0])()), 5)
    yield {**before, "what": f"{row['what']}: decide and fetch alone", "ms": 1e3 * taken / stop}


def _peak_mb(backend: str) -> float | None:
    """Return the peak memory used on the GPU so far; None if the backend does not report it."""
    if backend == "jax":
        import jax

        facts = jax.devices()[0].memory_stats() or {}
        return facts["peak_bytes_in_use"] / 1e6 if "peak_bytes_in_use" in facts else None
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
    return None


def many_classes(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield time and peak memory of a scan with many labels."""
    from voxtile.engines import Engine
    from voxtile.engines.keras_engine import gpu_count
    from voxtile.inference.segmenter import load_segmenter, make_plans
    from voxtile.models.backend import keras
    from voxtile.models.bundle import load_bundle
    from voxtile.preparation.plan import PlanWish
    from voxtile.volume import Volume

    place = "gpu" if gpu_count() else "cpu"
    bundle = load_bundle(folder / setting.many.name)
    segmenter = load_segmenter(
        bundle,
        make_plans(bundle, PlanWish()),
        Engine("keras", "bfloat16", place),  # type: ignore[arg-type]
        on_device=True,
    )
    volume = Volume(scan(setting.many_slices, setting.size), np.diag([0.8, 0.8, 2.0, 1.0]))
    backend = keras.config.backend()
    yield {
        "what": f"line, bfloat16, {setting.many.classes} classes, "
        f"{setting.size}x{setting.size}x{setting.many_slices}",
        "who": f"voxtile on {backend}",
        "ms": 1e3 * seconds(lambda: segmenter(volume), 1) / setting.many_slices,
        "peak_mb": _peak_mb(backend),
    }


def whole_run(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the time of a case of `voxtile run`, and of reading and writing its files alone."""
    model, shape = folder / setting.small.name, (setting.size, setting.case_slices)
    yield from cohort(folder / "cohort", model, setting.cases, shape, setting.workers)


def pytorch(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the time of the network alone in PyTorch: compiled, bfloat16, channels last."""
    import torch
    from unet_torch import load_unet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = (PLANES, 1, setting.size, setting.size)
    x = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    repeats = 10 if device == "cuda" else 1
    for workload in (setting.small, setting.large):
        network: Any = load_unet(
            folder / workload.name, workload.filters, workload.depth, workload.classes
        )
        network = network.to(device, memory_format=torch.channels_last)
        compiled = torch.compile(network) if device == "cuda" else network

        def work(run: Any = compiled) -> None:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
                for _ in range(repeats):
                    answer = run(x)
            float(answer[0, 0, 0, 0])

        taken = seconds(work, 3) / repeats
        yield {
            "what": f"network alone, bfloat16, {workload.filters} filters",
            "who": "PyTorch compiled" if device == "cuda" else "PyTorch",
            "ms": 1e3 * taken / PLANES,
            "tflops": workload.flops_per_pixel() * setting.size**2 * PLANES / taken / 1e12,
        }


def monai(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield times of MONAI's SliceInferer: tuned, with all data on the device; and by default."""
    import torch
    from monai.inferers import SliceInferer
    from unet_torch import load_unet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    workload = setting.small
    array = scan(setting.slices, setting.size)
    plain: Any = load_unet(
        folder / workload.name, workload.filters, workload.depth, workload.classes
    ).to(device)
    last = plain.to(memory_format=torch.channels_last)

    def inferer(at_once: int, output: str) -> Any:
        return SliceInferer(
            roi_size=(workload.tile, workload.tile),
            spatial_dim=2,
            sw_batch_size=at_once,
            overlap=0.5,
            mode="gaussian",
            sw_device=device,
            device=output,
            progress=False,
        )

    def tuned(run: Any) -> Callable[[], Any]:
        def network(x: torch.Tensor) -> torch.Tensor:
            with torch.autocast(device, torch.bfloat16):
                answer: torch.Tensor = run(x.contiguous(memory_format=torch.channels_last))
            return answer.float()

        def work() -> Any:
            labels = []
            with torch.inference_mode():
                for start in range(0, setting.slices, 48):  # as many as fit on the GPU at once
                    part = np.ascontiguousarray(array[..., start : start + 48])
                    image = torch.from_numpy(part).to(device).float()[None, None]
                    image = (image.clip(-160, 240) + 160) / 400
                    labels.append(inferer(36, device)(image, network).argmax(1)[0].byte().cpu())
            return labels

        return work

    ways = {"eager": last}
    if device == "cuda":
        ways["compiled"] = torch.compile(last, dynamic=False)
    for name, run in ways.items():
        taken = seconds(tuned(run), 2)
        yield {
            "what": f"line, bfloat16, {workload.filters} filters, tiles of {workload.tile}",
            "who": f"MONAI tuned, {name}",
            "ms": 1e3 * taken / setting.slices,
        }
    few = torch.from_numpy(prepare(array[..., : setting.peer_slices]))[None, None]

    def as_it_comes() -> Any:
        with torch.inference_mode():
            return inferer(1, "cpu")(few, plain).argmax(1)[0].numpy().astype(np.uint8)

    yield {
        "what": "line, as it comes",
        "who": "MONAI",
        "ms": 1e3 * seconds(as_it_comes, 1) / setting.peer_slices,
    }


def training(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the time of a training step of voxtile with the backend that the environment names."""
    import training_peer

    for batch, size in _batches(setting):
        step, about = training_peer.keras_step(setting.small, batch, size, "bfloat16")
        yield {
            "what": f"training step, bfloat16, {batch} tiles of {size}",
            "who": f"voxtile on {about['backend']}",
            "ms": 1e3 * seconds(lambda: [step() for _ in range(5)], 3) / 5,  # noqa: B023
        }


def training_tiles(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the time of a training step with and without the preparation of its tiles."""
    from device_training import CONTEXT, training_ways

    from voxtile.models.backend import keras

    batch, size = _batches(setting)[-1]
    for precision in ("bfloat16", "float32"):
        what = f"training, {precision}, {batch} tiles of {size}, context {CONTEXT}"
        for words, work, count in training_ways(setting.small, batch, size, precision):
            who = f"voxtile on {keras.config.backend()}"
            begin = time.perf_counter()
            work()
            first = time.perf_counter() - begin
            yield {"what": f"{what}: {words}, first call", "who": who, "ms": 1e3 * first}
            taken = seconds(work, setting.rounds) / count
            yield {"what": f"{what}: {words}", "who": who, "ms": 1e3 * taken}


def training_pytorch(setting: Setting, folder: Path) -> Iterator[Row]:
    """Yield the time of the same step in PyTorch."""
    import training_peer

    path = folder / setting.small.name
    for batch, size in _batches(setting):
        step, about = training_peer.torch_step(path, setting.small, batch, size, "bfloat16")
        yield {
            "what": f"training step, bfloat16, {batch} tiles of {size}",
            "who": f"PyTorch, {about['chosen']}",
            "ms": 1e3 * seconds(lambda: [step() for _ in range(5)], 3) / 5,  # noqa: B023
        }


def _batches(setting: Setting) -> tuple[tuple[int, int], ...]:
    """Return pairs: number of tiles at once, and size of a tile."""
    tile = setting.small.tile
    return ((8, tile), (16, tile // 4))


# For each part: function, backend of Keras, package that it needs, maximum seconds.
PARTS: dict[str, tuple[Callable[[Setting, Path], Iterator[Row]], str | None, str, float]] = {
    "voxtile-jax": (ours, "jax", "jax", 150),
    "pytorch": (pytorch, None, "torch", 80),
    "monai": (monai, None, "monai", 80),
    "run-jax": (whole_run, "jax", "jax", 90),
    "classes-jax": (many_classes, "jax", "jax", 60),
    "voxtile-torch": (ours, "torch", "torch", 100),
    "training-jax": (training, "jax", "jax", 60),
    "tiles-jax": (training_tiles, "jax", "jax", 90),
    "training-pytorch": (training_pytorch, None, "torch", 40),
    "voxtile-tensorflow": (ours, "tensorflow", "tensorflow", 120),
    "training-torch": (training, "torch", "torch", 40),
}


def main() -> int:
    """Measure, print, write; return 1 if a part failed."""
    words = _words()
    setting = QUICK if words.quick else Setting()
    if words.part == "networks":
        _write_networks(setting, words.folder)
        return 0
    if words.part:
        function = PARTS[words.part][0]
        for row in function(setting, words.folder):
            print("ROW " + json.dumps(row), flush=True)
        return 0
    about = {**machine.describe(), "driver": _driver()}
    print(machine.sentence(about), about["driver"] or "", flush=True)
    until = time.monotonic() + words.budget
    rows: list[Row] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="voxtile-gpu-") as scratch:
        folder = words.folder or Path(scratch)
        _write_networks(setting, folder)
        for name, (_, backend, package, most_s) in PARTS.items():
            if words.only and name not in words.only:
                continue
            if find_spec(package) is None:
                failed[name] = f"{package} is not installed"
                continue
            left = until - time.monotonic()
            if left < 20:
                failed[name] = "no time was left"
                continue
            begin = time.monotonic()
            limit = left if words.quick else min(most_s, left)
            got, error = _run(name, backend, folder, words, limit)
            rows += got
            if error:
                failed[name] = error
            print(f"{name}: {time.monotonic() - begin:.0f} s {error}", flush=True)
            _write(words, about, rows, failed)
    print(_table(rows))
    return int(any("not installed" not in reason for reason in failed.values()))


def _run(
    name: str, backend: str | None, folder: Path, words: argparse.Namespace, most_s: float
) -> tuple[list[Row], str]:
    """Return the rows of one part, and why the part ended early, if it did."""
    environment = dict(os.environ)
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    command += ["--quick"] if words.quick else []
    error = ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        try:
            subprocess.run(
                command, stdout=out, stderr=said, env=environment, timeout=most_s, check=True
            )
        except subprocess.TimeoutExpired:
            error = f"stopped after {most_s:.0f} s"
        except subprocess.CalledProcessError:
            said.seek(0)
            error = said.read()[-1500:]
        out.seek(0)
        rows = [json.loads(line[4:]) for line in out if line.startswith("ROW ")]
    return rows, error


def _write_networks(setting: Setting, folder: Path) -> None:
    """Write the networks of all contestants, if they do not exist yet."""
    backend = next(name for name in ("jax", "tensorflow", "torch") if find_spec(name))
    missing = [
        workload
        for workload in (setting.small, setting.large, setting.many)
        if not (folder / workload.name / "spec.json").exists()
    ]
    command = [sys.executable, str(HERE / "workload.py")]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    writers = [
        subprocess.Popen(
            [*command, str(folder / workload.name), json.dumps(asdict(workload))], env=environment
        )
        for workload in missing
    ]
    if any([writer.wait() for writer in writers]):
        raise RuntimeError("a network could not be written")


def _driver() -> str | None:
    """Return name, driver and memory of the GPU, from the program of its driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _write(
    words: argparse.Namespace, about: dict[str, Any], rows: list[Row], failed: dict[str, str]
) -> None:
    """Write the chosen files; done after every part."""
    if words.json:
        record = {"machine": about, "quick": words.quick, "rows": rows, "failed": failed}
        words.json.write_text(json.dumps(record, indent=1) + "\n")
    if words.markdown:
        head = f"{machine.sentence(about)}; {about['driver'] or 'no driver'}"
        words.markdown.write_text(f"{head}\n\n{_table(rows)}\n")


def _table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | who | ms a slice, step or case | TFLOP/s | equal labels | peak MB | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["what"], row["who"], f"{row['ms']:.3g}"]
        for name, form in COLUMNS:
            value = row.get(name)
            cells.append("" if value is None else format(value, form))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _words() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench --gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, few slices")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="these parts only")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds (default 345)")
    parser.add_argument("--folder", type=Path, help="where networks are kept")
    parser.add_argument("--json", type=Path, help="write everything measured")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--part", choices=["networks", *PARTS], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
