"""Networks of one bundle, fitted one after another or several at a time.

A small network cannot keep many processors busy: two of them with a processor
each learn 1.4 times as many batches a second as one with both. So several are
fitted at a time, each by a process of its own:

    training                             child (`voxtile.training.fit_child`)
      |-- what to fit ------------------->|
      |<------------ "at", part, words ---|   now and then
      |<---------------- "line", words ---|
      |<-------------------- "row", row ---|   an epoch
      |<----------------------- "done" ---|   the checkpoint has the weights
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from subprocess import Popen

from voxtile.child import ending, start_child
from voxtile.engines.threads import thread_count
from voxtile.errors import EnvironmentFault
from voxtile.memory import free_memory_mb
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec
from voxtile.progress import Progress

from .checkpoint import Row
from .learner import has_gpu
from .networks import FittedNetwork, NetworkFit, fit_network, fitted_network
from .preparation import PlaneStack, StoredCase
from .recipe import Recipe

# A process that begins to fit takes seconds; each network must have much longer.
_LEAST_S = 60.0
# What a process that fits may need, in MB (10^6 bytes).
_MEMORY_MB = 3000.0

OnRow = Callable[[str, Row], None]


def fit_networks(
    spec: ModelSpec,
    recipe: Recipe,
    stacks: Sequence[Sequence[PlaneStack]],
    judged: Sequence[StoredCase],
    work: Path,
    *,
    start: Bundle | None = None,
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
            tuple(map(tuple, stacks)),
            tuple(judged),
            work,
            start,
            None if recipe.minutes is None else 60 * recipe.minutes / rounds(count, together),
        )
        for number in range(count)
    ]
    if together > 1:
        _fit_side_by_side(fits, together, shown, on_row)
    else:
        for this in fits:
            if count > 1:
                views = ", ".join(this.entry.views)
                shown.line(f"network {this.number + 1} of {count}: {views}")
            shown.begin(f"training {', '.join(this.entry.views)}", 1.0)
            fit_network(this, shown, partial(on_row, this.name))
    return [fitted_network(this) for this in fits]


def at_a_time(recipe: Recipe, count: int) -> int:
    """Return how many networks are fitted at a time.

    One after another on a GPU, and with a budget of steps or epochs: what
    such a budget gives should not depend on the number of processors.
    """
    if recipe.minutes is None or count == 1 or has_gpu():
        return 1
    together = max(1, min(count, thread_count(), int(free_memory_mb() / _MEMORY_MB)))
    return together if 60 * recipe.minutes / rounds(count, together) >= _LEAST_S else 1


def rounds(count: int, together: int) -> int:
    """Return how many fits follow each other."""
    return -(-count // together)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitting:
    """A network that is being fitted by a process of its own."""

    this: NetworkFit
    process: Popen[bytes]
    line: Connection


def _fit_side_by_side(
    fits: Sequence[NetworkFit], together: int, shown: Progress, on_row: OnRow
) -> None:
    """Fit networks, several at a time."""
    shown.line(f"{len(fits)} networks, {together} at a time")
    shown.begin("training", float(len(fits)))
    waiting = deque(fits)
    running: list[_Fitting] = []
    parts = dict.fromkeys((this.name for this in fits), 0.0)
    try:
        while waiting or running:
            while waiting and len(running) < together:
                running.append(_begin(waiting.popleft(), max(1, thread_count() // together)))
            for fitting in _speaking(running):
                name = fitting.this.name
                try:
                    kind, content = fitting.line.recv()
                except (EOFError, OSError):
                    raise _dead(fitting) from None
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
                    parts[name] = 1.0
                    running.remove(fitting)
                    _end(fitting)
    finally:
        for fitting in running:
            _end(fitting)


def _begin(this: NetworkFit, threads: int) -> _Fitting:
    """Start a process that fits a network."""
    try:
        process, line = start_child("voxtile.training.fit_child", threads)
    except OSError as error:
        raise EnvironmentFault(f"a network cannot be fitted ({error.strerror})") from error
    with suppress(OSError):  # its death is noticed where the line is read
        line.send(this)
    return _Fitting(this, process, line)


def _speaking(running: Sequence[_Fitting]) -> Iterator[_Fitting]:
    """Wait for processes that have something to say."""
    lines = {fitting.line: fitting for fitting in running}
    for line in wait(list(lines)):
        yield lines[line]  # type: ignore[index]  # wait returns what it was given


def _end(fitting: _Fitting) -> str:
    """End a process, whatever it is doing; return how it ended."""
    fitting.process.kill()
    code = fitting.process.wait()
    fitting.line.close()
    return ending(code)


def _dead(fitting: _Fitting) -> EnvironmentFault:
    """Return the error for a process that ended by itself."""
    with suppress(Exception):
        fitting.process.wait(1.0)  # its own end says more than ours
    how = _end(fitting)
    killed = "; perhaps the system ran out of memory" if how == "SIGKILL" else ""
    return EnvironmentFault(
        f"the process that fitted {fitting.this.name} died ({how}){killed}; what was learnt is "
        "kept: go on with --resume"
    )
