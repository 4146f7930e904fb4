"""A Dask scheduler and workers on this machine, started as a user would."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtile.batch.settings import BatchSettings, Cluster

# What is imported here is imported there, and the models of the tests too.
IMPORTS = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)


class DaskProcesses:
    """A scheduler and workers, as a user would start them; with TLS given certificates."""

    def __init__(self, folder: Path, certificates: dict[str, Path] | None = None) -> None:
        self.folder = folder
        self.certificates = certificates or {}
        self.address = ""
        self.scheduler: subprocess.Popen | None = None
        self.workers: list[subprocess.Popen] = []

    def start_scheduler(self) -> None:
        """Start a scheduler on a free port of this machine."""
        said = self.folder / f"scheduler{time.monotonic_ns()}.json"
        self.scheduler = self._start(
            "scheduler",
            "--host",
            "127.0.0.1" if not self.certificates else "tls://127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(said),
        )
        deadline = time.monotonic() + 60
        while not (said.exists() and '"address"' in said.read_text()):
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        self.address = said.read_text().split('"address": "')[1].split('"')[0]

    def start_worker(self) -> None:
        """Start a worker with one thread."""
        self.workers.append(
            self._start(
                "worker",
                self.address,
                "--nthreads",
                "1",
                "--no-dashboard",
                "--no-nanny",
                "--local-directory",
                str(self.folder),
            )
        )

    def _start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:], *self._tls()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": IMPORTS},
        )

    def _tls(self) -> list[str]:
        """Options that name the certificates."""
        return [word for name, path in self.certificates.items() for word in (name, str(path))]

    def end(self) -> None:
        """End all of them."""
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            process.kill()
            process.wait()


@contextmanager
def dask(
    folder: Path, workers: int, certificates: dict[str, Path] | None = None
) -> Iterator[DaskProcesses]:
    """Start a scheduler and workers; end them with the block."""
    folder.mkdir(exist_ok=True)
    processes = DaskProcesses(folder, certificates)
    try:
        processes.start_scheduler()
        for _ in range(workers):
            processes.start_worker()
        yield processes
    finally:
        processes.end()


def on(processes: DaskProcesses, **settings) -> BatchSettings:
    """Settings of a batch on these processes."""
    return BatchSettings(cluster=Cluster(scheduler=processes.address), **settings)
