"""Allow only one run in a folder at a time.

The operating system holds the lock, and releases it when the process ends. The
process also writes a record beside the lock, for people, and for file systems
that do not share locks between machines:

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
# No system has a process with a higher pid; a higher number would not fit the C call.
_MOST_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a folder; `identity` differs for a later process with its pid."""

    pid: int
    host: str
    started: str
    identity: str | None

    @property
    def is_here(self) -> bool:
        """Whether the process runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; on another machine this is unknown, and counts as running."""
        if not self.is_here:
            return True
        here = _identity(self.pid)
        return here is not None and here == self.identity

    @property
    def is_this_process(self) -> bool:
        """Whether the holder is this process itself."""
        return self.pid == os.getpid() and self.is_here and self.is_alive

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@contextmanager
def locked(out: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a run folder, or a shard of it, while the block runs.

    EnvironmentFault if another run holds the folder, with pid, host and start of that run; or if
    the folder cannot be written.
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
            # This process has the lock now, so a record that is there is of a run that was killed.
            if (before := _read(path)) is None or not before.is_this_process:
                _refuse_if_alive(out, path)
            remove(path)
        # If two machines share no locks, the other may have written its record in the meantime.
        mine = Holder(os.getpid(), socket.gethostname(), now(), _identity(os.getpid()))
        if not write_new(path, json_text(asdict(mine))):
            raise _refusal(out, path, _read(path))
        try:
            # First write, then look: if two runs start together, at least one sees the other.
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
    """Yield the records of runs that exclude this run; shards of one division do not."""
    for path in folder.holders():
        match = _RECORD.fullmatch(path.name)
        if match is None or path == folder.holder(shard):
            continue
        if shard is None or match[1] is None or int(match[2]) != shard.count:
            yield path


def _refuse_other(path: Path) -> None:
    """Refuse a file with the name of a lock that is not one: locking would empty or remove it."""
    if not os.path.lexists(path):
        return
    try:
        # While a record is written it has two names.
        links = 1 if _read(path) is None else 2
        is_ours = path.is_file() and not path.is_symlink() and path.stat().st_nlink <= links
        if is_ours and path.suffix == ".json":
            start = path.read_bytes()[:4096]
            is_ours = _read(path) is not None or b'"pid"' in start
            # Damaged JSON in a run folder counts as the lock of a run.
            if not is_ours and RunFolder(path.parent).all_facts():
                is_ours = start[:1] in (b"", b"\0", b"{", b"[")
        elif is_ours:
            is_ours = path.stat().st_size == 0
    except OSError:
        return  # the lock was released meanwhile, or locking will fail too
    if not is_ours and os.path.lexists(path):
        raise ManifestError(
            f"{path} is not a lock of voxtile and would be lost; move it away, or name another"
        )


def _refuse_if_alive(out: Path, path: Path) -> None:
    """Take over the lock if its process has ended; refuse if the process still runs."""
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


def _identity(pid: int) -> str | None:
    """Return an identity of a living process, which a later process with its pid does not have."""
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
