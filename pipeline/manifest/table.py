"""Rows of a manifest as they stand in its CSV: written from cases, read, and written again."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from voxtile.case import Case, read_rows
from voxtile.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of a CSV file.

    Parameters
    ----------
    header : tuple of str
    rows : tuple of tuple of str
        Each as long as the header.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column; empty ones where there is none of this name."""
        if name not in self.header:
            return ("",) * len(self.rows)
        place = self.header.index(name)
        return tuple(row[place] for row in self.rows)

    def with_column(self, name: str, cells: Sequence[str]) -> "Table":
        """Return the table with a column replaced, or added as the last."""
        if name not in self.header:
            rows = tuple((*row, cell) for row, cell in zip(self.rows, cells, strict=True))
            return Table((*self.header, name), rows)
        place = self.header.index(name)
        return Table(
            self.header,
            tuple(
                (*row[:place], cell, *row[place + 1 :])
                for row, cell in zip(self.rows, cells, strict=True)
            ),
        )

    def csv(self) -> str:
        """Return the table as CSV text, lines ended by a line feed."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return text.getvalue()


def read_table(path: Path) -> Table:
    """Read the cells of a manifest that `voxtile.case.read_manifest` accepts.

    Raises
    ------
    ManifestError
        If it is no table.
    """
    problems: list[str] = []
    header, rows = read_rows(path, problems)
    problems += [
        f"{path} line {line}: {len(cells)} cells, but the header has {len(header)}"
        for line, cells in rows
        if len(cells) != len(header)
    ]
    if problems:
        raise ManifestError(problems)
    return Table(tuple(header), tuple(tuple(cell.strip() for cell in cells) for _, cells in rows))


def table_of(cases: Sequence[Case], folder: Path) -> Table:
    """Return the manifest of some cases.

    Parameters
    ----------
    cases : sequence of Case
    folder : Path
        Where the manifest will be: paths are relative to it where they can.

    Raises
    ------
    ManifestError
        If a path or a cell cannot stand in a manifest.
    """
    channels = tuple(dict.fromkeys(channel for case in cases for channel, _ in case.images))
    columns = ["image" if channel == "image" else f"image_{channel}" for channel in channels]
    extras = tuple(dict.fromkeys(column for case in cases for column, _ in case.extras))
    optional: dict[str, list[str]] = {
        "label": [relative(case.label, folder) for case in cases],
        "split": [str(case.split or "") for case in cases],
        "group": [case.group or "" for case in cases],
        "series": [case.series or "" for case in cases],
        "volume": ["" if case.volume is None else str(case.volume) for case in cases],
    }
    kept = {name: cells for name, cells in optional.items() if any(cells)}
    rows = []
    for number, case in enumerate(cases):
        images = dict(case.images)
        more = dict(case.extras)
        row = (
            case.case_id,
            *(relative(images.get(channel), folder) for channel in channels),
            *(cells[number] for cells in kept.values()),
            *(defused(more.get(column, "")) for column in extras),
        )
        rows.append(row)
    table = Table(("case_id", *columns, *kept, *extras), tuple(rows))
    _require_sound(table)
    return table


def relative(path: Path | None, folder: Path) -> str:
    """Return a path as it stands in a manifest in `folder`; empty for none.

    Relative where both lie below one folder that is not the root, and the
    relative path leads to the same file; else absolute.
    """
    if path is None:
        return ""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))  # noqa: PTH100, keeps links
    if len(Path(os.path.commonpath([path, folder])).parts) < 2:
        return str(path)
    cell = os.path.relpath(path, folder)
    # Behind a link ".." leads elsewhere than the text says.
    if cell.startswith("..") and not _same(folder / cell, path):
        return str(path)
    # To a spreadsheet, a cell that begins so is a formula.
    return f"./{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def defused(cell: str) -> str:
    """Return a cell that is no formula to a spreadsheet; plain numbers such as -5 stay."""
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; not, where that cannot be told."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _require_sound(table: Table) -> None:
    """Refuse cells that would be read as something else."""
    problems = list(_unreadable(cell for row in table.rows for cell in row))
    if problems:
        raise ManifestError(problems)


def _unreadable(cells: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with cells: spaces at an end are cut off, and not all bytes are text."""
    for cell in cells:
        if cell != cell.strip():
            yield f"{cell!r} begins or ends with a space, which CSV readers drop; rename it"
        try:
            cell.encode()
        except UnicodeEncodeError:
            yield f"{cell!a} is not a name in UTF-8; rename it"
