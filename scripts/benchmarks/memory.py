"""Measure the peak memory of a program and all its processes."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PERIOD_S = 0.1


@dataclass(frozen=True)
class Usage:
    """The time and memory that a program used.

    Parameters
    ----------
    seconds : float
        From start to end.
    peak_mb : float
        Largest sum of the proportional set sizes of its processes, in MB (10^6 bytes): a
        page that several processes share is counted once.
    largest_rss_mb : float
        Peak resident memory of its largest process; the kernel records it, without sampling.
    samples : int
    """

    seconds: float
    peak_mb: float
    largest_rss_mb: float
    samples: int


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a program to its end and return the time and memory that it used.

    Raises
    ------
    RuntimeError
        If the program fails; with the end of its output.
    """
    with tempfile.TemporaryFile("w+") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        sums = [0.0]
        marks = [0.0]
        over = threading.Event()

        def watch() -> None:
            """Sample until the program ends."""
            while not over.is_set():
                sizes = [_sizes_mb(pid) for pid in _tree(process.pid)]
                sums.append(sum(pss for pss, _ in sizes))
                marks.append(max((mark for _, mark in sizes), default=0.0))
                over.wait(_PERIOD_S)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            status = process.wait()
        finally:
            over.set()
            watcher.join()
        seconds = time.perf_counter() - begin
        if status:
            log.seek(0)
            raise RuntimeError(
                f"{' '.join(command[:4])} ended with {status}:\n{log.read()[-3000:]}"
            )
    return Usage(seconds, max(sums), max(marks), len(sums) - 1)


def _tree(root: int) -> list[int]:
    """Return a process and its descendants (proc(5), task/TID/children)."""
    found = [root]
    for pid in found:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            for task in tasks:
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # the process has just ended
            continue
    return found


def _sizes_mb(pid: int) -> tuple[float, float]:
    """Return proportional set size and peak resident memory of a process; 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    return _line_mb(rollup, "Pss:"), _line_mb(status, "VmHWM:")


def _line_mb(text: str, name: str) -> float:
    """Return a line in kB as MB; 0 if the line is missing because the process is ending."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
