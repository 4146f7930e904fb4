"""Run each contestant (a program to compare) in its own process, and time them in turns.

Each process loads one contestant and then waits. A turn is one line sent to the
process and one line back. So contestants share no thread pool and no allocator,
each gets the environment that suits it best, and other load on the machine
affects all of them equally: A B C A B C.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
# Marks an answer of a contestant among the lines that its libraries print.
MARK = "@answer "


@dataclass(frozen=True)
class Timing:
    """The turns of one contestant, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The time that is compared."""
        return median(self.seconds)

    def __str__(self) -> str:
        """Return median, minimum and maximum."""
        return f"{self.median:.3g} s ({min(self.seconds):.3g} to {max(self.seconds):.3g})"


class Contestant:
    """A process that does one piece of work for each line that it receives.

    Parameters
    ----------
    kind : str
        A function of contestant.py.
    options : mapping
        Its arguments, as JSON.
    environment : mapping, optional
        Variables to set for it.
    """

    def __init__(
        self, kind: str, options: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "contestant.py"), kind, json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            self.facts: dict[str, Any] = self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self) -> float:
        """Return the seconds of one turn."""
        return float(self._ask("turn")["seconds"])

    def keep(self, path: Path) -> None:
        """Write the last turn's result as .npy."""
        self._ask(f"keep {path}")

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def _ask(self, line: str) -> dict[str, Any]:
        """Send one line and return the answer."""
        if self._process.stdin is None:
            raise RuntimeError("the contestant has no input")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Return the next answer; skip lines that libraries print."""
        if self._process.stdout is None:
            raise RuntimeError("the contestant has no output")
        for line in self._process.stdout:
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line.removeprefix(MARK))
                return answer
        self._log.seek(0)
        raise RuntimeError(f"a contestant ended early:\n{self._log.read()[-3000:]}")


@contextmanager
def contestants(
    wanted: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, str]]],
) -> Iterator[dict[str, Contestant]]:
    """Start contestants one after the other, and end them all."""
    started: dict[str, Contestant] = {}
    try:
        for name, (kind, options, environment) in wanted.items():
            print(f"  starting {name}", file=sys.stderr, flush=True)
            started[name] = Contestant(kind, options, environment)
        yield started
    finally:
        for contestant in started.values():
            contestant.close()


def take_turns(started: Mapping[str, Contestant], rounds: int) -> dict[str, Timing]:
    """Return the times of each contestant, after one turn that does not count."""
    for contestant in started.values():
        contestant.turn()
    times: dict[str, list[float]] = {name: [] for name in started}
    for index in range(rounds):
        print(f"  round {index + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, contestant in started.items():
            times[name].append(contestant.turn())
    return {name: Timing(tuple(values)) for name, values in times.items()}
