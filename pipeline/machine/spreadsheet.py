"""Cells of CSV and TSV files that a spreadsheet must not run as formulas.

A text that begins like a formula gets an apostrophe in front, as in spreadsheets.
A reader removes the apostrophe again, so that every cell is read as it was.
"""

import csv
import re
from collections.abc import Iterable
from io import StringIO

# Signs that begin a formula, also full-width and small ones, after blanks and invisible
# characters; or a tab or line break, which may begin a new cell in a spreadsheet.
_FORMULA = re.compile(
    r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]|[\t\r\n]"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def escaped(cell: str) -> str:
    """Return a cell that is not a formula; numbers such as -5 are not changed.

    Examples
    --------
    >>> escaped("=1+1"), escaped("-5"), escaped("'=a"), escaped("'a'")
    ("'=1+1", '-5', "''=a", "'a'")
    """
    # A cell that already has apostrophes gets one more, so that it can be read back.
    formula = _FORMULA.match(cell.lstrip("'")) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def unescaped(cell: str) -> str:
    """Return the cell that `escaped` was given.

    Examples
    --------
    >>> unescaped("'=1+1"), unescaped("'a'"), unescaped("''=a")
    ('=1+1', "'a'", "'=a")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell.lstrip("'")) else cell


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, lines ended by a line feed; None is an empty cell."""
    lines = []
    for row in rows:
        line = StringIO(newline="")
        # With this line end the writer also quotes a single carriage return, in any Python version.
        writer = csv.writer(line, lineterminator="\r\n")
        writer.writerow(escaped(cell) if isinstance(cell, str) else cell for cell in row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)
