"""Faults of the disk: at each write in turn it fails, is full, becomes read-only, or the run dies.

The calls that create, write, sync and rename files are counted in one process,
and the fault strikes before call n, for every n. A full and a read-only disk
are real ones: a small tmpfs, and an ext4 in a file that is aborted while files
are open. Both are mounted in a namespace of their own (`in_namespace`).
"""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import dask_processes
from faults import World, begun, finish, start, wait_until
from faulty import Broken, results, run_faulty

import voxtile.machine.files as files
from voxtile.batch.settings import BatchSettings
from voxtile.errors import EnvironmentFault, VoxtileError

Act = Callable[[], object]
# A run asks for 64 MB; ext4 and its journal need some too.
DISK_MB = 90


class CountedFile:
    """Wraps a file, whose own methods cannot be replaced."""

    def __init__(self, file, write: Callable) -> None:
        self._file = file
        self.write = write

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


@contextmanager
def before_call(number: int, act: Act) -> Iterator[list[str]]:
    """Let `act` strike before the n-th call that writes; yield the calls."""
    calls: list[str] = []

    def counted(name: str, real: Callable) -> Callable:
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == number:
                act()
            return real(*arguments, **options)

        return call

    real_fdopen = os.fdopen

    def fdopen(*arguments, **options):
        file = real_fdopen(*arguments, **options)
        if "w" not in file.mode:
            return file
        return CountedFile(file, counted("write", file.write))

    with (
        mock.patch.object(files.os, "fdopen", fdopen),
        mock.patch.object(files.os, "fsync", counted("fsync", os.fsync)),
        mock.patch.object(files.os, "write", counted("write", os.write)),
        mock.patch.object(files.tempfile, "mkstemp", counted("create", tempfile.mkstemp)),
        mock.patch.object(files.os, "link", counted("link", os.link)),
        mock.patch.object(Path, "replace", counted("rename", Path.replace)),
    ):
        yield calls


@contextmanager
def before_open(number: int, folder: Path, act: Act) -> Iterator[list[str]]:
    """Let `act` strike before the n-th file below a folder is opened to be read; yield them."""
    opened: list[str] = []
    real_open, real_low = io.open, os.open

    def count(path: object) -> None:
        if isinstance(path, str | Path) and str(path).startswith(f"{folder}/"):
            opened.append(str(path))
            if len(opened) == number:
                act()

    def counted(path, mode="r", *more, **options):
        if not set(mode) & set("wax+"):
            count(path)
        return real_open(path, mode, *more, **options)

    def counted_low(path, flags, *more, **options):
        if flags & (os.O_WRONLY | os.O_RDWR) == 0:
            count(path)
        return real_low(path, flags, *more, **options)

    with (
        mock.patch.object(io, "open", counted),
        mock.patch.object(builtins, "open", counted),
        mock.patch.object(os, "open", counted_low),
    ):
        yield opened


def failing(code: int) -> Act:
    """An act that raises an error of the system."""

    def act() -> None:
        raise OSError(code, os.strerror(code))

    return act


def in_turn(one: Callable[[int], bool], step: int = 1) -> int:
    """Strike at call 1, 1 + step, ... until a run has fewer calls; return how often it struck."""
    tries = 0
    while one(1 + tries * step):
        tries += 1
    return tries


def run_struck(world: World, out: Path, number: int, act: Act) -> tuple[bool, str]:
    """Run with an act before call n; return whether there was such a call, and the error."""
    with before_call(number, act) as calls:
        try:
            run_faulty(world.manifest, out)
            said = ""
        except EnvironmentFault as error:
            said = str(error)
    if said and "run the same command again" not in said and "cannot be removed" not in said:
        raise Broken("other", f"the error does not say what to do: {said}")
    return len(calls) >= number, said


def fail_write(world: World, number: int, code: int) -> bool:
    """Let one disk call fail: no file is torn, a rerun completes. False after the last call."""
    out = world.new_out()
    struck, said = run_struck(world, out, number, failing(code))
    if not struck:
        assert not said
        return False
    if os.strerror(code) not in said:
        raise Broken("different", f"call {number} failed without an error")
    for name, content in results(out).items():
        # Tables hold the cases so far.
        if name not in ("report.csv", "summary.csv") and content != world.expected[name]:
            raise Broken("different", f"{name} is torn after call {number}")
    complete(world, out)
    return True


def every_write(world: World, code: int, step: int = 1) -> int:
    """Let each disk call fail in turn, or every `step`-th; return how many have failed."""
    return in_turn(lambda number: fail_write(world, number, code), step)


def complete(world: World, out: Path, batch: BatchSettings | None = None) -> None:
    """Check a folder after a fault, run the same command again, and check the results."""
    world.check(out)
    run_faulty(world.manifest, out, batch)
    world.check_whole(out)


def fail_read(world: World, number: int, code: int) -> bool:
    """Let the n-th file that is opened be refused: a named failure, and a rerun completes."""
    out = world.new_out()
    with before_open(number, world.folder, failing(code)) as opened:
        try:
            reports = run_faulty(world.manifest, out).reports
            named = [report.reason for report in reports if report.status == "failed"]
        except VoxtileError as error:
            named = [error]
    if len(opened) < number:
        return False
    if any("bug of voxtile" in str(reason) for reason in named):
        raise Broken("traceback", f"{opened[number - 1]}: {named}")
    if not named:
        world.check_whole(out)
    complete(world, out)
    return True


def kill_at_write(world: World, number: int) -> bool:
    """Kill the run at one disk call: a rerun completes. False after the last call."""
    out = world.new_out()
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException), before_call(number, lambda: os.kill(os.getpid(), 9)):
            run_faulty(world.manifest, out)
            code = 0
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    complete(world, out)
    return code != 0


# What follows needs root, and a namespace of its own.


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount a disk on a new folder while the block runs."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def small_disk(folder: Path):
    """A disk in memory."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none")


@contextmanager
def full(disk: Path) -> Iterator[Act]:
    """Yield an act that takes what is free on a disk; give it back afterwards."""
    ballast = disk / "ballast"

    def act() -> None:
        handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        state = os.fstatvfs(handle)
        with suppress(OSError):
            os.posix_fallocate(handle, 0, state.f_bavail * state.f_frsize)
        os.close(handle)

    try:
        yield act
    finally:
        ballast.unlink(missing_ok=True)


def full_at_writes(world: World, step: int = 1) -> int:
    """Let a real disk be full from one disk call on, for each call; return the tries."""
    disk = world.folder / "small"

    def one(number: int) -> bool:
        out = disk / "out"
        with full(disk) as act:
            struck, said = run_struck(world, out, number, act)
        if said and os.strerror(errno.ENOSPC) not in said and " 0 MB free" not in said:
            raise Broken("other", said)
        complete(world, out)
        shutil.rmtree(out)
        return struck

    with small_disk(disk):
        return in_turn(one, step)


def full_meanwhile(world: World, pauses: list[float]) -> int:
    """Let a real disk be full at some moments of a run with two workers; return the tries."""
    disk = world.folder / "small"
    for pause in pauses:
        with small_disk(disk):
            out = disk / "out"
            with full(disk) as act:
                run = start(world.manifest, out)
                assert wait_until(lambda out=out: begun(out), 60)
                time.sleep(pause)
                act()
                code, said = finish(run)
            if code not in (0, 6) or (code == 6 and "run the same command again" not in said):
                raise Broken("other", f"exit code {code}: {said}")
            complete(world, out)
    return len(pauses)


def read_only_at_writes(world: World, step: int = 1) -> int:
    """Let the kernel make a real disk read-only before one disk call, for each; return the tries.

    What was not synced before is lost with its journal.
    """
    disk = world.folder / "ext4"
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        image = Path(folder, "disk")

        def one(number: int) -> bool:
            out = disk / "out"
            with mounted(disk, "-o", "loop", str(image)):
                struck, said = run_struck(world, out, number, abort)
            with mounted(disk, "-o", "loop", str(image)):
                if struck and not said:
                    raise Broken("different", f"nothing was said after call {number}")
                complete(world, out)
                shutil.rmtree(out)
            return struck

        def abort() -> None:
            subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)

        with image.open("wb") as file:
            file.truncate(2 * DISK_MB * 10**6)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        return in_turn(one, step)


def other_disks(world: World, step: int = 1) -> int:
    """Let each part of a run folder be another disk: a run, and one that is killed and repeated."""
    tries = 0
    for part in ("masks", "cases", "qc", "images", "exports", "report_files"):
        out = world.new_out()
        out.mkdir()
        with small_disk(out / part):
            run_faulty(world.manifest, out)
            world.check_whole(out)
            tries += 1 + in_turn(lambda number, out=out: _fail_and_resume(world, out, number), step)
    return tries


def _fail_and_resume(world: World, out: Path, number: int) -> bool:
    """Do all cases again, with a fault at call n."""
    with before_call(number, failing(errno.EIO)) as calls, suppress(EnvironmentFault):
        run_faulty(world.manifest, out, BatchSettings(fresh=True))
    complete(world, out)
    return len(calls) >= number


# The rows that run in a namespace, by their names on the command line of this file.
NAMESPACED = {
    "full": (3, full_at_writes),
    "full meanwhile": (20, lambda world, step: full_meanwhile(world, _moments(step))),
    "read-only": (2, read_only_at_writes),
    "other disks": (2, lambda world, step: other_disks(world, 10 * step)),
}


def _moments(step: int) -> list[float]:
    """Moments in seconds."""
    return [0.08 * number for number in range(0, 20, step)]


def can_mount() -> bool:
    """Whether this process may mount."""
    return (
        sys.platform == "linux"
        and os.geteuid() == 0
        and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )


def in_namespace(name: str, step: int = 1) -> int:
    """Run one of `NAMESPACED` as a process with mounts of its own; return the tries."""
    done = subprocess.run(
        ["unshare", "-m", sys.executable, __file__, name, str(step)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": dask_processes.IMPORTS},
    )
    try:
        kind, said = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise Broken("traceback", done.stderr) from None
    if kind != "held":
        raise Broken(kind, said)
    return int(said)


def main() -> None:
    """Run a row, and print its outcome as JSON."""
    name, step = sys.argv[1:]
    count, row = NAMESPACED[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer = ("held", str(row(World(Path(folder), count), int(step))))
        except Broken as error:
            answer = (error.kind, str(error))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
