"""One run in one folder at a time.

The lock is the operating system's, which releases it when its holder dies. The
holder writes a record beside it, for people, and for file systems that do not
share locks between machines:

    .lock        .lock.json          a run of all cases, or a merge
    .lock-2-of-8 .lock-2-of-8.json   a shard
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType

from filelock import FileLock, Timeout

from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.machine.clock import now
from voxtile.machine.files import json_text, remove, write_new
from voxtile.machine.json_objects import read_object

from .layout import RunFolder
from .shard import Shard

_RECORD = re.compile(r"\.lock(?:-(\d+)-of-(\d+))?\.json")
_SHAPE = {"pid": int, "host": str, "started": str, "identity": (str, NoneType)}
# No system has a process with a higher number; a higher one would not fit the C call.
_MOST_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a folder; `identity` tells a later process with its pid apart."""

    pid: int
    host: str
    started: str
    identity: str | None

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it lives; a process on another machine cannot be seen, and counts as alive."""
        if not self.is_here:
            return True
        here = _identity(self.pid)
        return here is not None and here == self.identity

    @property
    def is_this_process(self) -> bool:
        """Whether it is this process itself."""
        return self.pid == os.getpid() and self.is_here and self.is_alive

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@contextmanager
def locked(out: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a run folder, or a shard of it, while the block runs.

    Raises
    ------
    EnvironmentFault
        If another run holds it, with its pid, host and start; or if it
        cannot be written.
    """
    folder = RunFolder(out)
    path = folder.holder(shard)
    for own in (folder.lock(shard), path):
        _refuse_other(own)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.lock(shard), timeout=0)
        lock.acquire()
    except Timeout:
        raise _refusal(out, path, _read(path)) from None
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be written ({error.strerror or error}); "
            "check free space and permissions, or name another folder"
        ) from error
    try:
        if os.path.lexists(path):
            # This process has just got the lock: its record is of a run that could not remove it.
            if (before := _read(path)) is None or not before.is_this_process:
                _refuse_if_alive(out, path)
            remove(path)
        # Where machines share no locks, another may have begun since the record was looked for.
        if not write_new(path, json_text(asdict(_myself()))):
            raise _refusal(out, path, _read(path))
        try:
            # Recorded before looking: if two start together, at least one sees the other.
            for other in _others(folder, shard):
                _refuse_if_alive(out, other)
            yield
        finally:
            remove(path)
    finally:
        lock.release()


def holders(folder: RunFolder) -> list[Holder]:
    """Return the processes that hold a folder or a shard of it now."""
    found = [_read(path) for path in folder.holders()]
    return [holder for holder in found if holder is not None and holder.is_alive]


def _others(folder: RunFolder, shard: Shard | None) -> Iterator[Path]:
    """Yield the records that exclude this run: all of them for a run of all cases.

    A shard is excluded by a run of all cases and by shards of another count.
    """
    for path in folder.holders():
        match = _RECORD.fullmatch(path.name)
        if match is None or path == folder.holder(shard):
            continue
        if shard is None or match[1] is None or int(match[2]) != shard.count:
            yield path


def _refuse_other(path: Path) -> None:
    """Refuse a file under the name of a lock that is not one: locking would empty or remove it."""
    if not os.path.lexists(path):
        return
    try:
        # While a record is written it has two names.
        links = 1 if _read(path) is None else 2
        is_ours = path.is_file() and not path.is_symlink() and path.stat().st_nlink <= links
        if is_ours and path.suffix == ".json":
            start = path.read_bytes()[:4096]
            is_ours = _read(path) is not None or b'"pid"' in start
            # Damaged JSON in a run folder is the lock of a run there.
            if not is_ours and RunFolder(path.parent).all_facts():
                is_ours = start[:1] in (b"", b"\0", b"{", b"[")
        elif is_ours:
            is_ours = path.stat().st_size == 0
    except OSError:
        return  # released in between, or refused when it is locked
    if not is_ours and os.path.lexists(path):
        raise ManifestError(
            [f"{path} is not a lock of voxtile and would be lost; move it away, or name another"]
        )


def _refuse_if_alive(out: Path, path: Path) -> None:
    """Take over from a dead holder; refuse if it lives."""
    holder = _read(path)
    if holder is None:
        return
    if holder.is_alive:
        raise _refusal(out, path, holder)
    remove(path)


def _refusal(out: Path, path: Path, holder: Holder | None) -> EnvironmentFault:
    """Return the error for a folder that is held."""
    if holder is None:
        return EnvironmentFault(
            f"{out} is in use by a run that has just begun; wait for it to end, or name another "
            "folder"
        )
    hint = "" if holder.is_here else f"; if that run is dead, remove {path}"
    return EnvironmentFault(
        f"{out} is in use by {holder}; wait for it to end, or name another folder{hint}"
    )


def _read(path: Path) -> Holder | None:
    """Return a record, or None if it is missing or damaged."""
    try:
        record = read_object(path, _SHAPE, required=("pid",))
    except (OSError, ValueError):
        return None
    holder = Holder(
        record["pid"],
        record.get("host", "an unknown host"),
        record.get("started", "at an unknown time"),
        record.get("identity"),
    )
    return holder if 0 < holder.pid <= _MOST_PID else None


def _myself() -> Holder:
    """Return the record of this process."""
    pid = os.getpid()
    return Holder(pid, socket.gethostname(), now(), _identity(pid))


def _identity(pid: int) -> str | None:
    """Return what distinguishes a living process from a later one with its pid; None if dead."""
    try:
        # proc(5): field 22 is the start in ticks since boot; the name in field 2 may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
    except OSError:
        pass
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
