"""All faults with their counts, as a table: ``scripts/faults``.

Each row runs as a process of its own, two at once; the rows that measure time
and memory run alone, at the end.
"""

import argparse
import errno
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import disk_faults
import faults
from damage import DamagedFolders
from faults import World
from faulty import Broken, series_cases, valid_cases
from hostile_models import PLAIN, outcomes, write_all, wrong

KINDS = ("lost", "different", "traceback", "other")
HEADER = (
    "| fault | tries | lost cases | silent differences | tracebacks | others | notes |",
    "|---|---|---|---|---|---|---|",
)


class Tally:
    """The tries of a row, what went wrong in them, and what was measured.

    `share` is the share of the tries of a full table.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def of(self, count: int, least: int = 1) -> int:
        """Return the share of a number."""
        return max(least, round(count * self.share))

    @property
    def step(self) -> int:
        """Which calls are tried: every one in a full table."""
        return max(1, round(1 / self.share))

    def attempt(self, one: Callable[[], object]) -> None:
        """Count one try, or as many as it returns, and how it failed."""
        try:
            found = one()
        except Exception as error:
            kind = error.kind if isinstance(error, Broken) else "traceback"
            kind = "other" if type(error) is AssertionError else kind
            self.counts.update(["tries", kind])
            self.notes.append(f"BROKEN: {error}")
            traceback.print_exc()
            return
        self.counts["tries"] += found if isinstance(found, int) else 1
        if isinstance(found, str):
            self.notes.append(found)


Row = Callable[[Tally, Path], None]


def repeated(
    one: Callable[[World, random.Random], None],
    count: int,
    cases: int = 20,
    make: Callable[[Path, int], Path] = valid_cases,
) -> Row:
    """Return a row that makes a fault at many random moments."""

    def row(tally: Tally, folder: Path) -> None:
        world, rng = World(folder, cases, make), random.Random(0)
        for _ in range(tally.of(count)):
            tally.attempt(lambda: one(world, rng))

    return row


def at_calls(one: Callable[[World, int], int], cases: int = 2) -> Row:
    """Return a row that makes a fault at each call."""

    def row(tally: Tally, folder: Path) -> None:
        world = World(folder, cases)
        tally.attempt(lambda: one(world, tally.step))

    return row


def failing_writes(world: World, step: int) -> int:
    """Let each write fail in four ways."""
    codes = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.ESTALE)
    return sum(disk_faults.every_write(world, code, step) for code in codes)


def stale_reads(world: World, step: int) -> int:
    """Let each file that is opened be stale."""
    one = partial(disk_faults.fail_read, world, code=errno.ESTALE)
    return disk_faults.in_turn(lambda number: one(number), step)


def kills(world: World, step: int) -> int:
    """Kill the run at each write."""
    return disk_faults.in_turn(lambda number: disk_faults.kill_at_write(world, number), step)


def mounted(name: str) -> Row:
    """Return a row that needs a mount of its own."""

    def row(tally: Tally, folder: Path) -> None:
        if disk_faults.can_mount():
            tally.attempt(lambda: disk_faults.in_namespace(name, tally.step))
        else:
            tally.notes.append("not run: only root can mount")

    return row


def environments(tally: Tally, folder: Path) -> None:
    """Run where something is missing."""
    world = World(folder, 2)
    for what in ("read-only folder", "full disk", "missing HOME", "no /dev/shm"):
        tally.attempt(lambda what=what: faults.bad_environment(world, what))


def processes(tally: Tally, folder: Path) -> None:
    """Allow few processes."""
    world = World(folder, 2)
    for most in range(1, 21, tally.step):
        tally.attempt(lambda most=most: faults.few_processes(world, most))


def damaged(tally: Tally, folder: Path) -> None:
    """Damage each file of a finished run folder, some times."""
    folders, rng = DamagedFolders(folder), random.Random(0)
    for file in folders.files:
        for _ in range(tally.of(20)):
            tally.attempt(lambda file=file: folders.try_all(file, rng))
    tally.notes.append(f"{len(folders.files)} files through {len(folders.expected)} commands")


def hostile(tally: Tally, folder: Path) -> None:
    """Load models that attack."""

    def all_of_them() -> int:
        found = outcomes(write_all(folder))
        if wrong(found):
            raise Broken("other", str(wrong(found)))
        return sum(not name.endswith(PLAIN) for name, *_ in found)

    tally.attempt(all_of_them)


def measured(one: Callable[[Path, int], str], count: int, least: int) -> Row:
    """Return a row that measures time or memory once."""
    return lambda tally, folder: tally.attempt(
        lambda: one(folder / "cohort", tally.of(count, least))
    )


ROWS: dict[str, Row] = {
    "kill -9 of the run": repeated(faults.kill_run, 50),
    "kill -9 of a worker": repeated(faults.kill_worker, 50),
    "kill -9 of the run at each of its writes": at_calls(kills),
    "kill -9 of a DICOM decoder": repeated(faults.kill_decoder, 20, 6, series_cases),
    "Ctrl-C and SIGTERM": repeated(faults.interrupt, 20),
    "each write fails: ENOSPC, EIO, EACCES, ESTALE": at_calls(failing_writes),
    "each file that is opened is stale (ESTALE)": at_calls(stale_reads),
    "a real disk is full from each write on": mounted("full"),
    "a real disk is full at some moment, two workers": mounted("full meanwhile"),
    "a real disk is read-only from each write on": mounted("read-only"),
    "parts of the run folder are other disks, and a write fails": mounted("other disks"),
    "two runs at once": repeated(faults.start_two, 20, 4),
    "two hosts at once, no file locks": repeated(faults.two_hosts, 10, 3),
    "few processes (RLIMIT_NPROC)": processes,
    "a Dask worker is killed": repeated(faults.kill_dask_worker, 20, 8),
    "the Dask scheduler is killed": repeated(faults.kill_scheduler, 20, 8),
    "a poisoned case on Dask": repeated(faults.poison_dask, 20, 8),
    "bad environments": environments,
    "bad cases among good": repeated(faults.bad_cases, 20, 6),
    "damaged files of a run folder": damaged,
    "hostile model files": hostile,
}
ALONE: dict[str, Row] = {
    "5,000 tiny cases": measured(faults.many_cases, 5000, 100),
    "500 real scans in one worker": measured(faults.soak, 500, 20),
    "two workers against one": measured(faults.speedup, 40, 8),
}


def run_row(name: str, share: float) -> str:
    """Run a row in this process; return its line of the table."""
    tally, begin = Tally(share), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        try:
            (ROWS | ALONE)[name](tally, Path(folder))
        except Exception as error:
            traceback.print_exc()
            tally.counts["other"] += 1
            tally.notes.append(f"BROKEN: {error}")
    seconds = f"{time.monotonic() - begin:.0f} s"
    notes = "; ".join(" ".join(note.split())[:200] for note in [*tally.notes, seconds])
    numbers = [str(tally.counts[kind]) for kind in ("tries", *KINDS)]
    return f"| {' | '.join([name, *numbers, notes])} |"


def run_apart(name: str, share: float) -> str:
    """Run a row in a process of its own; return its line."""
    words = [sys.executable, __file__, "--row", name, "--share", str(share)]
    done = subprocess.run(words, capture_output=True, text=True)
    sys.stderr.write(done.stderr if "BROKEN" in done.stdout or done.returncode else "")
    lines = done.stdout.splitlines()
    return lines[-1] if lines else f"| {name} | 0 | 0 | 0 | 1 | 0 | BROKEN: {done.returncode} |"


def table(names: list[str], share: float) -> Iterator[str]:
    """Yield the lines of the rows, in their order."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(partial(run_apart, share=share), [one for one in names if one in ROWS])
    yield from (run_apart(one, share) for one in names if one in ALONE)


def main() -> None:
    """Print the table; exit code 1 if something did not hold."""
    parser = argparse.ArgumentParser(description="Run the faults that a batch must survive.")
    parser.add_argument("--only", default="", help="run the rows whose name has this")
    parser.add_argument("--quick", action="store_true", help="a few tries of each row")
    parser.add_argument("--share", type=float, default=1.0, help="share of the tries, such as 0.1")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(run_row(given.row, given.share))
        return
    names = [name for name in (*ROWS, *ALONE) if given.only in name]
    print(*HEADER, sep="\n", flush=True)
    broken = 0
    for line in table(names, 0.03 if given.quick else given.share):
        print(line, flush=True)
        broken += "BROKEN" in line
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
