"""One run in one folder at a time.

The lock is the operating system's, which lets go when its holder dies. Beside
it lies a record of the holder, for people, and for file systems that do not
share locks between machines:

    .lock        .lock.json          a run of all cases, or a merge
    .lock-2-of-8 .lock-2-of-8.json   a shard
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from voxtile.errors import EnvironmentFault
from voxtile.machine.clock import now
from voxtile.machine.files import remove, write_json

from .shard import Shard

_RECORD = re.compile(r"\.lock(?:-(\d+)-of-(\d+))?\.json")


@contextmanager
def locked(out: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a run folder, or a shard of it, while the block runs.

    Raises
    ------
    EnvironmentFault
        If another run holds it, with its pid, host and start; or if it
        cannot be written.
    """
    name = ".lock" if shard is None else f".lock-{shard}"
    path = out / f"{name}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / name, timeout=0)
        lock.acquire()
    except Timeout:
        raise _refusal(out, path, _read(path)) from None
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be written ({error.strerror or error}); "
            "check free space and permissions, or name another folder"
        ) from error
    try:
        _refuse_if_alive(out, path)
        try:
            write_json(path, _myself())
            # Recorded before looking: of two that come at once, at least one sees the other.
            for other in others(out, shard):
                _refuse_if_alive(out, other)
            yield
        finally:
            remove(path)
    finally:
        lock.release()


def others(out: Path, shard: Shard | None) -> list[Path]:
    """Return the records that exclude this run: all of them for a run of all cases.

    A shard is excluded by a run of all cases and by shards of another count.
    """
    found = []
    for path in sorted(out.glob(".lock*.json")):
        match = _RECORD.fullmatch(path.name)
        if match is None:
            continue
        whole = match[1] is None
        if (whole != (shard is None)) or (
            shard is not None and not whole and int(match[2]) != shard.count
        ):
            found.append(path)
    return found


def holders(out: Path) -> list[dict[str, Any]]:
    """Return the records of the runs that hold a folder or a shard of it now."""
    records = [_read(path) for path in sorted(out.glob(".lock*.json"))]
    return [record for record in records if record is not None and holder_is_alive(record)]


def holder_is_alive(record: dict[str, Any]) -> bool:
    """Whether the holder of a lock lives; one on another host cannot be seen, and counts."""
    if record.get("host") != socket.gethostname():
        return True
    here = _identity(int(record["pid"]))
    return here is not None and here == record.get("identity")


def _refuse_if_alive(out: Path, path: Path) -> None:
    """Take over from a dead holder; refuse for a living one."""
    record = _read(path)
    if record is None:
        return
    if holder_is_alive(record):
        raise _refusal(out, path, record)
    remove(path)


def _refusal(out: Path, path: Path, record: dict[str, Any] | None) -> EnvironmentFault:
    """Return the error for a folder that is held."""
    if record is None:
        return EnvironmentFault(
            f"{out} is held by a run that has just begun; wait for it, or name another folder"
        )
    elsewhere = record.get("host") != socket.gethostname()
    hint = f"; if that run is dead, remove {path}" if elsewhere else ""
    return EnvironmentFault(
        f"{out} is held by process {record.get('pid')} on {record.get('host')}, started "
        f"{record.get('started')}; wait for it, or name another folder{hint}"
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record, or None where there is none that makes sense."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        int(record["pid"])
        return record
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _myself() -> dict[str, Any]:
    """Return the record of this process."""
    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "started": now(),
        "identity": _identity(pid),
    }


def _identity(pid: int) -> str | None:
    """Return what tells a process from a later one with its number; None if there is none."""
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
