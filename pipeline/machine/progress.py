"""Progress of a long job on standard error: a bar on a terminal, else plain lines."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows the progress of successive stages; without a bar, only lines are shown."""

    def __init__(self, console: Console, bar: Bar | None) -> None:
        self._console = console
        self._bar = bar

    def begin(self, stage: str, total: float) -> None:
        """Begin a stage; the previous stage is finished."""
        if self._bar is None:
            return
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(stage, total=total, words="")

    def advance(self) -> None:
        """Add one to the completed part of the stage."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[-1])

    def at(self, completed: float, words: str) -> None:
        """Set the completed part of the stage, and a few words beside the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=completed, words=words)

    def line(self, words: str) -> None:
        """Print a permanent line."""
        self._console.print(words, highlight=False, markup=False)


@contextmanager
def show_progress(*, shown: bool) -> Iterator[Progress]:
    """Show progress while the block runs; if not `shown`, show nothing."""
    console = Console(stderr=True, quiet=not shown, soft_wrap=True)
    if not console.is_terminal or not shown:
        yield Progress(console, None)
        return
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        yield Progress(console, bar)
