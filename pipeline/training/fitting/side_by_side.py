"""Fit the networks of one bundle, one after another or several at a time.

A small network cannot use many processors well: two networks with one processor
each learn 1.5 times as many batches per second as one network with both (16
filters; 1.2 times as many with 32). So several networks are fitted at a time. Each
part (leg) of a fit runs in a separate process:

    training                             child (`voxtile.training.fitting.fit_child`)
      |-- NetworkFit, seconds ----------->|
      |<------------ "at", part, words ---|   twice a second
      |<---------------- "line", words ---|
      |<-------------------- "row", row ---|   after each epoch
      |<------------------- "done", None ---|   the checkpoint has the result
"""

import pickle
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from multiprocessing.connection import wait

from voxtile.errors import EnvironmentFault
from voxtile.machine.memory import free_memory_mb
from voxtile.machine.processes import Child
from voxtile.machine.processors import thread_count
from voxtile.machine.progress import Progress
from voxtile.training.recipe.recipe import Recipe

from .checkpoint import Row
from .learner import has_gpu
from .networks import FittedNetwork, NetworkFit, fit_network, fitted_network

# A process takes seconds to start, so each network must have much more time.
_LEAST_S = 60.0
# Memory that a process needs, in MB (10^6 bytes).
_MEMORY_MB = 3000.0

OnRow = Callable[[str, Row], None]
# The number of a network, and the seconds of its fit at which it stops (inf: at its end).
Leg = tuple[int, float]


def fit_networks(
    fits: Sequence[NetworkFit],
    *,
    together: int = 1,
    devices: Sequence[str] = ("auto",),
    shown: Progress,
    on_row: OnRow = lambda network, row: None,
) -> list[FittedNetwork]:
    """Fit every network of a spec; finished ones are taken from the working folder.

    All networks have the same budget. If several are fitted at a time (`together`),
    each has a separate process, which uses one of the devices. `on_row` gets the name of a
    network and each new row.
    """
    count, seconds = len(fits), fits[0].seconds
    if together > 1:
        lines = legs(count, together, inf if seconds is None else seconds * count / together)
        _fit_side_by_side(fits, lines, devices, shown, on_row)
    else:
        for this in fits:
            views = ", ".join(this.entry.views)
            if count > 1:
                shown.line(f"network {this.number + 1} of {count}: {views}")
            shown.begin(f"training {views}", 1.0)
            fit_network(this, inf, shown, partial(on_row, this.name))
    return [fitted_network(this) for this in fits]


def at_a_time(recipe: Recipe, count: int) -> int:
    """Return how many networks are fitted at a time.

    It is one on a single GPU. It is also one with a budget of steps or epochs, because
    then the result must not depend on the number of processors.
    """
    if recipe.minutes is None or count == 1 or has_gpu():
        return 1
    together = max(1, min(count, thread_count(), int(free_memory_mb() / _MEMORY_MB)))
    return together if 60 * recipe.minutes * together / count >= _LEAST_S else 1


def legs(count: int, together: int, seconds: float) -> list[list[Leg]]:
    """Divide the fits between processes, so that every process is busy all the time.

    (McNaughton 1959, "Scheduling with Deadlines and Loss Functions", theorem
    3.1: the fits are put one after the other, and cut where a process is full. The
    part that is cut off comes first in the next process, so that it ends in time.)

    There are at least as many networks (`count`) as processes (`together`). The
    legs of each process are in order; `seconds` is the time that each process has.

    Examples
    --------
    >>> legs(3, 2, 60)
    [[(0, inf), (1, inf)], [(1, 20.0), (2, inf)]]
    """
    # The unit of time is such that a network takes `together` units and a process has `count`.
    lines: list[list[Leg]] = []
    for begin in range(0, count * together, count):
        first, last = begin // together, (begin + count - 1) // together
        cut = (first + 1) * together - begin
        line = [(number, inf) for number in range(first, last + 1)]
        if cut < together:
            line[0] = (first, seconds * cut / count)
        lines.append(line)
    return lines


def _fit_side_by_side(
    fits: Sequence[NetworkFit],
    lines: Sequence[Sequence[Leg]],
    devices: Sequence[str],
    shown: Progress,
    on_row: OnRow,
) -> None:
    """Fit the legs of each line in order, and all lines at the same time."""
    shown.line(f"{len(fits)} networks, {len(lines)} at a time")
    shown.begin("training", float(len(fits)))
    waiting = [deque(line) for line in lines]
    running: dict[int, tuple[NetworkFit, Child]] = {}
    parts = dict.fromkeys((this.name for this in fits), 0.0)
    threads = max(1, thread_count() // len(lines))
    try:
        while running or any(waiting):
            for place, line in enumerate(waiting):
                if place in running or not line:
                    continue
                number, until_s = line[0]
                if any(this.number == number for this, _ in running.values()):
                    continue  # its other leg is still running
                line.popleft()
                this = replace(fits[number], device=devices[place % len(devices)])
                running[place] = this, _begin(this, until_s, threads)
            heard = wait([child.line for _, child in running.values()])
            for place, (this, child) in list(running.items()):
                if child.line not in heard:
                    continue
                name = this.name
                try:
                    kind, content = child.line.recv()
                except (EOFError, OSError):
                    del running[place]
                    raise EnvironmentFault(
                        f"the process that fitted {name} died ({child.how_it_died()}); the last "
                        "checkpoint is saved: continue with --resume"
                    ) from None
                if kind == "at":
                    parts[name], words = content
                    shown.at(sum(parts.values()), f"{name}: {words}")
                elif kind == "line":
                    shown.line(f"{name}: {content}")
                elif kind == "row":
                    on_row(name, content)
                elif kind == "failed":
                    raise content
                else:
                    running.pop(place)[1].end()
    finally:
        for _, child in running.values():
            child.end()


def _begin(this: NetworkFit, until_s: float, threads: int) -> Child:
    """Start a process that fits a network."""
    try:
        child = Child("voxtile.training.fitting.fit_child", threads)
    except OSError as error:
        raise EnvironmentFault(f"a network cannot be fitted ({error.strerror})") from error
    with suppress(OSError):  # a dead child is noticed when its line is read
        child.line.send_bytes(pickle.dumps((this, until_s)))
    return child
