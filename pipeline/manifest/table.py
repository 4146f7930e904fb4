"""A manifest as a table of text, which is made from cases, or read, changed and written."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.machine.spreadsheet import csv_lines

from .rows import KNOWN, header_and_rows, header_problems


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of a CSV file; every row is as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column; all empty if the table has no such column."""
        if name not in self.header:
            return ("",) * len(self.rows)
        place = self.header.index(name)
        return tuple(row[place] for row in self.rows)

    def with_column(self, name: str, cells: Sequence[str]) -> "Table":
        """Return the table with a column replaced, or added as the last column."""
        if name not in self.header:
            rows = tuple((*row, cell) for row, cell in zip(self.rows, cells, strict=True))
            return Table((*self.header, name), rows)
        place = self.header.index(name)
        rows = tuple(
            (*row[:place], cell, *row[place + 1 :])
            for row, cell in zip(self.rows, cells, strict=True)
        )
        return Table(self.header, rows)

    def csv(self) -> str:
        """Return the table as CSV text, lines ended by a line feed."""
        return csv_lines([self.header, *self.rows])


def read_table(path: Path) -> Table:
    """Read the cells of a manifest that `read_manifest` accepts."""
    header, rows, found_problems = header_and_rows(path)
    problems = [
        *found_problems,
        *(
            f"{path} line {line}: {len(cells)} cells, but the header has {len(header)}"
            for line, cells in rows
            if len(cells) != len(header)
        ),
    ]
    if problems:
        raise ManifestError(problems)
    return Table(tuple(header), tuple(tuple(cell.strip() for cell in cells) for _, cells in rows))


def table_of(cases: Sequence[Case], folder: Path) -> Table:
    """Return the manifest of some cases; paths are relative to its folder if possible.

    Raises
    ------
    ManifestError
        If a value cannot be a cell of a manifest, or a name cannot be a column.
    """
    channels = tuple(
        dict.fromkeys(channel for case in cases for channel in (*case.channels, *dict(case.images)))
    )
    columns = ["image" if channel == "image" else f"image_{channel}" for channel in channels]
    extras = tuple(dict.fromkeys(column for case in cases for column, _ in case.extras))
    known = {name: [_cell(getattr(case, name), folder) for case in cases] for name in KNOWN}
    filled = {name: cells for name, cells in known.items() if any(cells)}
    rows = []
    for number, case in enumerate(cases):
        images = dict(case.images)
        further = dict(case.extras)
        rows.append(
            (
                case.case_id,
                *(_cell(images.get(channel), folder) for channel in channels),
                *(cells[number] for cells in filled.values()),
                *(further.get(column, "") for column in extras),
            )
        )
    table = Table(("case_id", *columns, *filled, *extras), tuple(rows))
    problems = [*header_problems(table.header), *_cell_problems(chain.from_iterable(rows))]
    if problems:
        raise ManifestError(problems)
    return table


def _cell(value: Path | str | int | tuple[float, ...] | None, folder: Path) -> str:
    """Return the cell of a value; empty for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "x".join(map(repr, value))
    return relative(value, folder) if isinstance(value, Path) else str(value)


def relative(path: Path, folder: Path) -> str:
    """Return a path as a manifest in `folder` gives it.

    The path is relative if both are below a common folder other than the root,
    and the relative path leads to the same file; else it is absolute.
    """
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))  # noqa: PTH100, keeps links
    if len(Path(os.path.commonpath([path, folder])).parts) < 2:
        return str(path)
    cell = os.path.relpath(path, folder)
    # After a link, ".." may lead to another folder than the text of the path says. The folder need
    # not exist yet.
    led = Path(os.path.normpath(os.path.join(os.path.realpath(folder), cell)))  # noqa: PTH118
    if cell.startswith("..") and not _same(led, path):
        return str(path)
    # A spreadsheet takes a cell that begins with one of these for a formula.
    return f"./{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file; False if this cannot be found out."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _cell_problems(cells: Iterable[str]) -> Iterator[str]:
    """Yield problems of cells that a CSV reader would change, or that are not text."""
    for cell in cells:
        if cell != cell.strip():
            yield f"{cell!r} begins or ends with a space, which CSV readers drop; rename it"
        try:
            cell.encode()
        except UnicodeEncodeError:
            yield f"{cell!a} is not a name in UTF-8; rename it"
