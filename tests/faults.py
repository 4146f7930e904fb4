"""The faults that a batch must survive: one function makes a fault and checks the result.

    faults.py        the cohort and what must hold after a fault; faults of processes
    disk_faults.py   faults of the disk
    fault_table.py   all faults with their counts: ``scripts/faults``

`test_faults.py` runs a few tries of each.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dask_processes
import numpy as np
from faulty import (
    DEADLY,
    GREEDY,
    HANGING,
    VALID,
    Broken,
    alive,
    descendants,
    events,
    hashes_of,
    make_cases,
    results,
    run_faulty,
    temporary_files,
    valid_cases,
)
from phantoms import ball

from voxtile.batch.drive import run_manifest
from voxtile.batch.settings import BatchSettings
from voxtile.batch.status import read_status
from voxtile.errors import EnvironmentFault
from voxtile.preparation.plan import PlanWish
from voxtile.run.job import RunSettings
from voxtile.run_folder.fingerprint import content_hash
from voxtile.writing.nifti import write_mask, write_volume

# Root has no limit of processes; this user has, and may still read the files of root.
NOBODY = ["setpriv", "--reuid=65534", "--clear-groups"]
NOBODY += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
# How long processes may outlive their run, in seconds.
OUTLIVE_S = 3.0


class World:
    """A cohort, and the results of an uninterrupted run."""

    def __init__(
        self, folder: Path, count: int, make: Callable[[Path, int], Path] = valid_cases
    ) -> None:
        self.folder = folder
        self.count = count
        self.manifest = make(folder / "cohort", count)
        self.inputs = hashes_of(folder / "cohort")
        run_faulty(self.manifest, folder / "whole")
        self.expected = results(folder / "whole")
        self._tries = 0

    def check(self, out: Path) -> None:
        """Check what holds at any time: inputs are as they were, and each record has its mask."""
        if hashes_of(self.folder / "cohort") != self.inputs:
            raise Broken("different", "an input was changed")
        for path in out.glob("cases/*.json"):
            mask = out / f"masks/{path.stem}.nii.gz"
            record = json.loads(path.read_bytes())
            if record["status"] == "done" and record["mask"]["sha256"] != content_hash(mask):
                raise Broken("different", f"{mask.name} is not that of its record")

    def check_whole(self, out: Path, *, retried: bool = False) -> None:
        """Check a run that has ended: the results of an uninterrupted one, and nothing else.

        If `retried`, records may have the warning of another attempt.
        """
        self.check(out)
        found = results(out)
        lost = [name for name in self.expected if name not in found]
        if lost or read_status(out).done < self.count:
            raise Broken("lost", f"{lost} of {self.count} cases")
        for name, content in found.items():
            if retried and name.endswith((".json", "report.csv")):
                continue
            if content != self.expected.get(name):
                raise Broken("different", name)
        if left := temporary_files(out):
            raise Broken("other", f"left behind: {left}")

    def new_out(self) -> Path:
        """An unused run folder."""
        self._tries += 1
        return self.folder / f"out{self._tries}"


def start(manifest: Path, out: Path, workers: int = 2, pause_s: float = 0.01, **environment: str):
    """Start a run as a process of its own."""
    words = command(manifest, out, workers, pause_s)
    environment = {**os.environ, "PYTHONPATH": dask_processes.IMPORTS, **environment}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)


def command(manifest: Path, out: Path, workers: int, pause_s: float) -> list[str]:
    """The words that start a run."""
    program = "from faulty import main; main()"
    return [sys.executable, "-c", program, str(manifest), str(out), str(workers), str(pause_s)]


def start_in(script: str, *words: str, space: str = "-m", **environment: str):
    """Start a run in its own namespace, of mounts unless given, after a shell script."""
    return subprocess.Popen(
        ["unshare", space, "sh", "-c", script, "sh", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": dask_processes.IMPORTS, **environment},
    )


def finish(process: subprocess.Popen, within_s: float = 120) -> tuple[int, str]:
    """Wait for a run; return its exit code and its messages."""
    try:
        _, said = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Broken("other", f"the run hung for {within_s} s") from None
    if "Traceback (most recent call last)" in said:
        raise Broken("traceback", said)
    return process.returncode, said


def wait_until(condition: Callable[[], object], within_s: float) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def begun(out: Path) -> bool:
    """Whether a run has begun its first case."""
    return (out / "events.jsonl").exists() and bool(events(out, "case_started"))


def kill_run(world: World, rng: random.Random) -> None:
    """Kill the run at a random moment and repeat it: nothing is lost or done twice."""
    out = world.new_out()
    run = start(world.manifest, out)
    time.sleep(rng.uniform(0.3, 2.6))
    family = descendants(run.pid)
    run.kill()
    finish(run)
    assert wait_until(lambda: not any(map(alive, family)), OUTLIVE_S), "a worker outlived its run"
    done = {path.stem for path in out.glob("cases/*.json")}
    code, said = finish(start(world.manifest, out, pause_s=0))
    assert code == 0, said
    world.check_whole(out)
    lines = (out / "events.jsonl").read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if '"run_started"' in line)
    again = {
        name for name in done for line in lines[last:] if f'started", "case_id": "{name}"' in line
    }
    assert not again, f"done twice: {again}"


def kill_worker(world: World, rng: random.Random) -> None:
    """Kill a random worker: every case is done."""
    out = world.new_out()
    run = start(world.manifest, out)
    time.sleep(rng.uniform(0.2, 2.2))
    workers = sorted(descendants(run.pid))
    if workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    code, said = finish(run)
    assert code == 0, said
    world.check_whole(out, retried=True)


def interrupt(world: World, rng: random.Random) -> None:
    """Send Ctrl-C or SIGTERM at a random moment: exit code 130, and the run can be resumed."""
    out = world.new_out()
    run = start(world.manifest, out, pause_s=0.05)
    assert wait_until(lambda: begun(out), 120)
    time.sleep(rng.uniform(0, 0.6))
    family = descendants(run.pid)
    begin = time.monotonic()
    run.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
    code, said = finish(run)
    if code == 0:  # the run had already ended
        return
    assert time.monotonic() - begin < OUTLIVE_S
    assert code == 130, said
    assert "run the same command again" in said
    assert not any(map(alive, family))
    assert temporary_files(out) == []
    rows = (out / "report.csv").read_text().count("\n") - 1
    assert rows == len(list(out.glob("cases/*.json")))
    run_faulty(world.manifest, out)
    world.check_whole(out)


def start_two(world: World, rng: random.Random) -> None:
    """Start two runs in one folder: one runs, the other is refused and names the holder."""
    out = world.new_out()
    runs = [start(world.manifest, out, pause_s=0.2)]
    time.sleep(rng.choice([0.0, rng.uniform(0, 0.5)]))
    runs.append(start(world.manifest, out, pause_s=0.2))
    ended = [finish(run) for run in runs]
    assert sorted(code for code, _ in ended) == [0, 6], ended
    said = next(said for code, said in ended if code == 6)
    pids = [str(run.pid) for run, (code, _) in zip(runs, ended, strict=True) if code == 0]
    assert "is in use by" in said
    assert f"process {pids[0]} on" in said or "has just begun" in said
    world.check_whole(out)


def start_on(host: str, world: World, out: Path, pause_s: float):
    """Start a run on a machine of another name, on a file system without locks."""
    words = command(world.manifest, out, 1, pause_s)
    script = 'hostname "$1" && shift && exec "$@"'
    return start_in(script, host, *words, space="--uts", NO_LOCKS="1")


def two_hosts(world: World, rng: random.Random) -> None:
    """Start runs on two hosts in one folder: never two run; a dead one is named to the other."""
    out = world.new_out()
    runs = [start_on("one", world, out, 0.1)]
    time.sleep(rng.choice([0.0, 0.0, rng.uniform(0, 3)]))
    runs.append(start_on("two", world, out, 0.1))
    ended = [finish(run) for run in runs]
    if sorted(code for code, _ in ended) not in ([0, 6], [6, 6]):
        raise Broken("different", f"both ran: {ended}")
    if any(code == 0 for code, _ in ended):
        world.check_whole(out)
    assert all("is in use by" in said for code, said in ended if code == 6), ended
    out = world.new_out()
    run = start_on("one", world, out, 0.1)
    assert wait_until(lambda: begun(out), 60)
    run.kill()
    finish(run)
    code, said = finish(start_on("two", world, out, 0))
    assert (code, "if that run is dead, remove" in said) == (6, True), said
    world.check(out)
    (out / ".lock.json").unlink()
    code, said = finish(start_on("two", world, out, 0))
    assert code == 0, said
    world.check_whole(out)


def few_processes(world: World, most: int) -> None:
    """Allow a user so many processes and threads: the run says so or completes, as a rerun does."""
    out = world.new_out()
    cache = str(out.with_suffix(".cache"))
    words = [*NOBODY, *command(world.manifest, out, 2, 0)]
    given = {"MOST_PROCESSES": str(most), "VOXTILE_CACHE": cache}
    run = start_in('exec "$@"', *words, space="--uts", **given)
    code, said = finish(run)
    if code not in (0, 6):
        raise Broken("traceback", f"exit code {code} with {most} processes: {said}")
    assert "bug of voxtile" not in said, said
    assert code == 0 or "--workers" in said, said
    world.check(out)
    code, said = finish(start(world.manifest, out, 2, 0))
    assert code == 0, said
    world.check_whole(out)


def kill_decoder(world: World, rng: random.Random) -> None:
    """Kill the process that decodes DICOM at a random moment: every case is done."""
    out = world.new_out()
    run = start(world.manifest, out, workers=1, pause_s=0.01)
    assert wait_until(lambda: begun(out), 60)
    time.sleep(rng.uniform(0, 1))
    workers = {int(line["pid"]) for line in events(out, "case_started")}
    for decoder in descendants(run.pid) - workers:
        with suppress(ProcessLookupError):
            os.kill(decoder, signal.SIGKILL)
    code, said = finish(run)
    assert code == 0, said
    world.check_whole(out, retried=True)


def bad_cases(world: World, rng: random.Random) -> None:
    """Mix cases that kill their worker, hang or use all memory with valid ones: they fail alone."""
    brightness = {"deadly": DEADLY, "hanging": HANGING, "greedy": GREEDY}
    brightness |= {f"c{number:03d}": VALID for number in range(world.count)}
    order = sorted(brightness)
    rng.shuffle(order)
    out = world.new_out()
    manifest = make_cases(out.with_suffix(".cohort"), {name: brightness[name] for name in order})
    limits = BatchSettings(workers=2, memory_mb=500, timeout_s=20, retries=0)
    result = run_faulty(manifest, out, limits)
    reasons = {report.case_id: report.reason.code for report in result.failed if report.reason}
    assert reasons == {"deadly": "worker_died", "hanging": "timeout", "greedy": "out_of_memory"}
    assert len(result.reports) == world.count + 3
    assert temporary_files(out) == []


def strike_when(out: Path, finished: int, process: subprocess.Popen) -> threading.Thread:
    """Kill a process as soon as so many cases are finished."""

    def strike() -> None:
        wait_until(lambda: begun(out) and len(events(out, "case_finished")) >= finished, 60)
        process.kill()

    striker = threading.Thread(target=strike)
    striker.start()
    return striker


def kill_dask_worker(world: World, rng: random.Random) -> None:
    """Kill a Dask worker with its case: every case is done."""
    out = world.new_out()
    with dask_processes.dask(world.folder / "dask", 2) as processes:
        striker = strike_when(out, rng.randrange(world.count - 1), processes.workers[0])
        result = run_faulty(world.manifest, out, dask_processes.on(processes), pause_s=0.05)
        striker.join()
    assert (len(result.reports), result.failed) == (world.count, ())
    world.check_whole(out)


def kill_scheduler(world: World, rng: random.Random) -> None:
    """Kill the Dask scheduler: the run reports it, and a rerun completes."""
    out = world.new_out()
    with dask_processes.dask(world.folder / "dask", 1) as processes:
        assert processes.scheduler is not None
        striker = strike_when(out, rng.randrange(world.count - 2), processes.scheduler)
        try:
            run_faulty(world.manifest, out, dask_processes.on(processes), pause_s=0.1)
            lost = None
        except EnvironmentFault as error:
            lost = str(error)
        striker.join()
    assert lost is not None, "the run did not report it"
    assert "scheduler was lost; start it again" in lost
    run_faulty(world.manifest, out)
    world.check_whole(out)


def poison_dask(world: World, rng: random.Random) -> None:
    """Send a case that kills its worker: it fails alone, and no Dask worker ends."""
    poisoned = rng.randrange(world.count)
    bright = {f"c{n:03d}": DEADLY if n == poisoned else VALID for n in range(world.count)}
    out = world.new_out()
    manifest = make_cases(out.with_suffix(".cohort"), bright)
    with dask_processes.dask(world.folder / "dask", 2) as processes:
        result = run_faulty(manifest, out, dask_processes.on(processes))
        assert all(worker.poll() is None for worker in processes.workers)
    assert [report.case_id for report in result.failed] == [f"c{poisoned:03d}"]


def bad_environment(world: World, what: str) -> None:
    """Run where something is missing: it is reported before the first case, or harmless."""
    out = world.new_out()
    if what == "missing HOME":
        run = start(world.manifest, out, HOME="/nonexistent/home")
        assert finish(run)[0] == 0
        world.check_whole(out)
        return
    if what == "no /dev/shm":
        run = start_in(
            'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"',
            *command(world.manifest, out, 2, 0),
        )
        code, said = finish(run)
        assert code == 0, said
        world.check_whole(out)
        return
    options = {"read-only folder": "ro,size=4m", "full disk": "size=64k"}[what]
    out.mkdir()
    run = start_in(
        'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"',
        options,
        str(out),
        *command(world.manifest, out, 1, 0),
    )
    code, said = finish(run)
    assert code == 6, said
    assert "cannot be written" in said or "MB free" in said, said


def many_cases(folder: Path, count: int) -> str:
    """Run a large manifest of tiny cases: flat memory, little overhead, a quick status."""
    manifest = valid_cases(folder / "many", count)
    out = folder / "out_many"
    run = start(manifest, out, workers=2, pause_s=0)
    assert wait_until(lambda: begun(out), 60)
    sizes = []
    begin = time.monotonic()
    status_s = 0.0
    while run.poll() is None:
        sizes.append(resident_mb(run.pid))
        if len(sizes) % 20 == 10:
            before = processor_s()
            words = "import sys; from voxtile.cli import main; main()"
            subprocess.run(
                [sys.executable, "-c", words, "status", str(out)], check=True, capture_output=True
            )
            status_s = max(status_s, processor_s() - before)
        time.sleep(0.5)
    seconds = time.monotonic() - begin
    code, said = finish(run)
    assert code == 0, said
    work = sum(event["seconds"] for event in events(out, "case_finished")) / 2
    overhead_ms = (seconds - work) / count * 1000
    sizes = [size for size in sizes if size]
    growth = max(sizes) - sizes[0]
    assert read_status(out).done == count
    assert growth <= 100, f"memory grew by {growth:.0f} MB"
    assert overhead_ms <= 50, f"{overhead_ms:.0f} ms of overhead a case"
    assert status_s <= 1.0, f"status took {status_s:.2f} s"
    return (
        f"{seconds:.0f} s, memory +{growth:.0f} MB, overhead {overhead_ms:.1f} ms a case, "
        f"status {status_s:.2f} s"
    )


def soak(folder: Path, count: int) -> str:
    """Run many real scans in one worker with the shipped model: its memory stays flat."""
    data = os.environ.get("VOXTILE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    images = sorted(Path(data, "hippocampus", "images").glob("*.nii.gz"))
    if not images:
        return "not run: the real data were not found (set VOXTILE_DATA)"
    chosen = [images[number % len(images)] for number in range(count)]
    rows = [f"s{number:04d},{image}\n" for number, image in enumerate(chosen)]
    folder.mkdir()
    manifest = folder / "cases.csv"
    manifest.write_text("case_id,image\n" + "".join(rows))
    result = run_manifest(
        manifest, "hippocampus", folder / "out", batch=BatchSettings(workers=1, retries=0)
    )
    assert (len(result.reports), result.failed) == (count, ())
    peaks = [report.peak_memory_mb or 0.0 for report in result.reports]
    settled = peaks[min(50, count // 2) - 1]
    assert max(peaks) <= 1.05 * settled, f"peak {settled:.0f} MB became {max(peaks):.0f} MB"
    return f"peak {settled:.0f} MB after the first cases, {max(peaks):.0f} MB after {count}"


def speedup(folder: Path, count: int) -> str:
    """Compare two workers with one, on cases that are mostly reading and scoring."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    image, truth = ball(shape=(192, 192, 64), spacing_mm=(0.4, 0.4, 0.6))
    noisy = image.with_array(image.array + rng.integers(0, 30, image.shape, np.int16))
    write_volume(folder / "image.nii.gz", noisy)
    write_mask(folder / "label.nii.gz", truth)
    rows = [f"c{number:03d},image.nii.gz,label.nii.gz\n" for number in range(count)]
    manifest = folder / "cases.csv"
    manifest.write_text("case_id,image,label\n" + "".join(rows))
    seconds = {}
    for workers in (1, 2):
        out = folder / f"workers{workers}"
        times: list[float] = []
        run_faulty(
            manifest,
            out,
            BatchSettings(workers=workers),
            # Without the start, which is negligible in a batch of hours.
            on_event=lambda event, times=times: (
                times.append(time.monotonic())
                if event.kind in ("case_started", "case_finished")
                else None
            ),
            settings=RunSettings(plan=PlanWish(tile=(96, 96), overlap=0)),
        )
        seconds[workers] = times[-1] - times[0]
    return f"{seconds[1] / seconds[2]:.2f} times as fast ({seconds[1]:.1f} s, {seconds[2]:.1f} s)"


def processor_s() -> float:
    """Processor time of processes that have ended, without other load on the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB (10^6 bytes); 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
