"""Networks of one bundle, fitted one after another or several at a time.

A small network cannot keep many processors busy: two of them with a processor
each learn 1.5 times as many batches a second as one with both (16 filters; 1.2
times as many with 32). So several are fitted at a time, each leg of a fit by a
process of its own:

    training                             child (`voxtile.training.fitting.fit_child`)
      |-- what to fit ------------------->|
      |<------------ "at", part, words ---|   now and then
      |<---------------- "line", words ---|
      |<-------------------- "row", row ---|   an epoch
      |<------------------- "done", None ---|   how far it is stands in the checkpoint
"""

import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from multiprocessing.connection import wait
from pathlib import Path

from voxtile.errors import EnvironmentFault
from voxtile.machine.memory import free_memory_mb
from voxtile.machine.processes import Child
from voxtile.machine.processors import thread_count
from voxtile.machine.progress import Progress
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.training.data.stored_cases import StoredCase
from voxtile.training.recipe.recipe import Recipe

from .checkpoint import Row
from .learner import has_gpu
from .networks import FittedNetwork, NetworkFit, fit_network, fitted_network

# A process that begins to fit takes seconds; each network must have much longer.
_LEAST_S = 60.0
# What a process that fits may need, in MB (10^6 bytes).
_MEMORY_MB = 3000.0

OnRow = Callable[[str, Row], None]
# The number of a network, and the seconds of its own fit until which it is fitted: inf, the end.
Leg = tuple[int, float]


def fit_networks(
    spec: ModelSpec,
    recipe: Recipe,
    stacks: Sequence[Sequence[PlaneStack]],
    judged: Sequence[StoredCase],
    work: Path,
    *,
    start: Bundle | None = None,
    seconds: float | None = None,
    together: int = 1,
    shown: Progress,
    on_row: OnRow = lambda network, row: None,
) -> list[FittedNetwork]:
    """Fit every network of a spec.

    Parameters
    ----------
    spec : ModelSpec
    recipe : Recipe
        Settled, with a precision.
    stacks : sequence of sequence of PlaneStack
        For each training case its views.
    judged : sequence of StoredCase
        To validate on.
    work : Path
        Gets a folder for each network; one that is done already is taken from
        there.
    start : Bundle, optional
        To begin with its weights.
    seconds : float, optional
        That each network is fitted for, with a budget of minutes.
    together : int
        Networks at a time, each in a process of its own if more than one;
        from `at_a_time`.
    shown : Progress
    on_row : callable
        Called with the name of a network and each new row of its history.

    Raises
    ------
    EnvironmentFault
        If a process that fits a network dies, or the disk refuses.
    ValueError
        If a loss becomes NaN or infinite.
    """
    count = len(spec.networks)
    fits = [
        NetworkFit(
            spec,
            number,
            recipe,
            tuple(tuple(stack for stack in views if stack.view in entry.views) for views in stacks),
            tuple(judged),
            work,
            start,
            seconds,
        )
        for number, entry in enumerate(spec.networks)
    ]
    if together > 1:
        lines = legs(count, together, inf if seconds is None else seconds * count / together)
        _fit_side_by_side(fits, lines, shown, on_row)
    else:
        for this in fits:
            if count > 1:
                views = ", ".join(this.entry.views)
                shown.line(f"network {this.number + 1} of {count}: {views}")
            shown.begin(f"training {', '.join(this.entry.views)}", 1.0)
            fit_network(this, inf, shown, partial(on_row, this.name))
    return [fitted_network(this) for this in fits]


def at_a_time(recipe: Recipe, count: int) -> int:
    """Return how many networks are fitted at a time.

    One after another on a GPU, and with a budget of steps or epochs: what
    such a budget gives should not depend on the number of processors.
    """
    if recipe.minutes is None or count == 1 or has_gpu():
        return 1
    together = max(1, min(count, thread_count(), int(free_memory_mb() / _MEMORY_MB)))
    return together if 60 * recipe.minutes * together / count >= _LEAST_S else 1


def legs(count: int, together: int, seconds: float) -> list[list[Leg]]:
    """Return what each process of several does one after another, so that none is idle.

    (McNaughton 1959, "Scheduling with Deadlines and Loss Functions", theorem
    3.1: work is laid end to end and cut where a process is full. What is cut
    off stands at the beginning of the next, and is done by then.)

    Parameters
    ----------
    count, together : int
        Networks and processes, at least as many networks.
    seconds : float
        That each process has; each network gets the same part.

    Returns
    -------
    list of list of (int, float)
        The legs of each process.

    Examples
    --------
    >>> legs(3, 2, 60)
    [[(0, inf), (1, inf)], [(1, 20.0), (2, inf)]]
    """
    # Laid end to end, in units in which a network takes `together` and a process has `count`.
    lines: list[list[Leg]] = []
    for begin in range(0, count * together, count):
        first, last = begin // together, (begin + count - 1) // together
        cut = (first + 1) * together - begin
        line = [(number, inf) for number in range(first, last + 1)]
        if cut < together:
            line[0] = (first, seconds * cut / count)
        lines.append(line)
    return lines


@dataclass(frozen=True, slots=True, eq=False)
class _Fitting:
    """A network that is being fitted by a process of its own."""

    this: NetworkFit
    child: Child


def _fit_side_by_side(
    fits: Sequence[NetworkFit], lines: Sequence[Sequence[Leg]], shown: Progress, on_row: OnRow
) -> None:
    """Fit networks, as many at a time as there are lines of legs."""
    shown.line(f"{len(fits)} networks, {len(lines)} at a time")
    shown.begin("training", float(len(fits)))
    waiting = [deque(line) for line in lines]
    running: dict[int, _Fitting] = {}
    parts = dict.fromkeys((this.name for this in fits), 0.0)
    threads = max(1, thread_count() // len(lines))
    try:
        while running or any(waiting):
            for place, line in enumerate(waiting):
                if place in running or not line:
                    continue
                number, until_s = line[0]
                if any(fitting.this.number == number for fitting in running.values()):
                    continue  # its other leg is not over
                line.popleft()
                running[place] = _begin(fits[number], until_s, threads)
            for place in _speaking(running):
                fitting = running[place]
                name = fitting.this.name
                try:
                    kind, content = fitting.child.line.recv()
                except (EOFError, OSError):
                    raise _dead(running.pop(place)) from None
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
                    running.pop(place).child.end()
    finally:
        for fitting in running.values():
            fitting.child.end()


def _begin(this: NetworkFit, until_s: float, threads: int) -> _Fitting:
    """Start a process that fits a network."""
    try:
        child = Child("voxtile.training.fitting.fit_child", threads)
    except OSError as error:
        raise EnvironmentFault(f"a network cannot be fitted ({error.strerror})") from error
    with suppress(OSError):  # its death is noticed where the line is read
        child.line.send_bytes(pickle.dumps((this, until_s)))
    return _Fitting(this, child)


def _speaking(running: Mapping[int, _Fitting]) -> list[int]:
    """Wait until processes have something to say, and return their places."""
    heard = wait([fitting.child.line for fitting in running.values()])
    return [place for place, fitting in running.items() if fitting.child.line in heard]


def _dead(fitting: _Fitting) -> EnvironmentFault:
    """Return the error for a process that ended by itself."""
    return EnvironmentFault(
        f"the process that fitted {fitting.this.name} died ({fitting.child.how_it_died()}); what "
        "was learnt is kept: go on with --resume"
    )
