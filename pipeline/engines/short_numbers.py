"""How much faster short numbers are than float32 on this processor: measured, not read from flags.

<cache>/arithmetic/<kind of processor, library and its version>.json

The same flag means different things: `avx512_bf16` multiplies at twice the rate of float32 on
some processors, and at half of it on others. So a few convolutions are timed once, with the
library that is to use the answer, for about a second, in another process: a library that dies
on a processor costs only the answer.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from time import perf_counter
from typing import TypeVar

from voxtile.errors import EnvironmentFault
from voxtile.machine.cache import cache_folder
from voxtile.machine.files import write_json
from voxtile.machine.json_objects import ANY_KEY, read_object
from voxtile.machine.processes import command
from voxtile.machine.versions import installed_version

from .engine import ENGINES, Precision
from .measurements import LEAST_GAIN, processor_kind

Name = TypeVar("Name", bound=str)

_FORMAT = 1
_SHAPE = {"gains": {ANY_KEY: float}}
# Convolutions like those of a U-Net: channels, pixels along each side, layers.
CHANNELS, SIDE, LAYERS = 64, 128, 3
# Seconds in which all precisions are timed in turns, and the fewest turns.
_TRIAL_S, _LEAST_TURNS = 1.0, 3
_LONGEST_S = 120.0


def gains(library: str) -> Mapping[Precision, float]:
    """Return how many times as fast as float32 each shorter precision is, from the cache if known.

    `library` is openvino or a backend of Keras. A precision that the library does not have is
    left out; nothing is known if the library is not installed.
    """
    version = installed_version(library)
    if version is None:
        return {}
    key = f"{_FORMAT}\n{library} {version}\n{processor_kind()}"
    try:
        path = cache_folder("arithmetic") / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    except EnvironmentFault:
        return {}
    with suppress(OSError, ValueError):
        return dict(read_object(path, _SHAPE, required=("gains",))["gains"])
    found = _ask_child(library)
    with suppress(EnvironmentFault):  # else it is measured again
        if found:
            write_json(path, {"library": library, "processor": processor_kind(), "gains": found})
    return found


def pays(library: str, precision: Precision = "bfloat16") -> bool:
    """Whether a precision is at least 1.1 times as fast as float32 with a library here."""
    return gains(library).get(precision, 0.0) >= LEAST_GAIN


def measured(steps: Mapping[Precision, Callable[[], object]]) -> dict[Precision, float]:
    """Return the gain of each step against that in float32; their best times count."""
    best = best_times(steps)
    return {
        name: round(best["float32"] / seconds, 2)
        for name, seconds in best.items()
        if name != "float32"
    }


def best_times(steps: Mapping[Name, Callable[[], object]]) -> dict[Name, float]:
    """Return the shortest time of each step, in seconds, after one call that compiles.

    The steps take turns, so that another program disturbs all of them.
    """
    for step in steps.values():
        step()
    best = dict.fromkeys(steps, inf)
    begin, turns = perf_counter(), 0
    while turns < _LEAST_TURNS or perf_counter() - begin < _TRIAL_S:
        for name, step in steps.items():
            before = perf_counter()
            step()
            best[name] = min(best[name], perf_counter() - before)
        turns += 1
    return best


def serve(library: str) -> None:
    """Run as the child: write the gains as the last line of standard output."""
    kind = ENGINES["openvino" if library == "openvino" else "keras"]
    print(json.dumps(measured(kind.load_module().short_steps())))


def _ask_child(library: str) -> dict[Precision, float]:
    """Return the gains that another process measures on the processor; empty if it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "CUDA_VISIBLE_DEVICES": "-1",
        # Other programs disturb one thread least.
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if library != "openvino":
        environment["KERAS_BACKEND"] = library
    program = command(f"from voxtile.engines.short_numbers import serve; serve({library!r})")
    with suppress(subprocess.SubprocessError, OSError, ValueError, IndexError):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            env=environment,
            capture_output=True,
            timeout=_LONGEST_S,
            check=True,
        )
        found: dict[Precision, float] = json.loads(done.stdout.splitlines()[-1])
        return found
    return {}
