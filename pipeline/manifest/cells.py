"""Read the cells of a manifest's file: text as any spreadsheet writes it, or a workbook.

Text may be UTF-8, UTF-16 or Windows-1252, and separated by commas, semicolons
or tabs; Excel writes semicolons where the comma is the decimal sign. Only
Windows-1252 is a guess, so it is reported.
"""

import csv
import io
import re
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.errors import ManifestError, Notice, first_few
from voxtile.machine.files import regular
from voxtile.machine.spreadsheet import unescaped
from voxtile.reading.formats import is_dicom, is_volume

_SEPARATORS = ",;\t"
# Text never has these control characters; it may have tabs, line ends and form feeds.
_BINARY = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
# Byte order marks (Unicode 16, section 23.8).
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# The characters that "surrogateescape" gives for bytes that are not UTF-8.
_ESCAPED = re.compile("[\udc80-\udcff]")
_SAVE = "save it as CSV UTF-8"

Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True, slots=True)
class Cells:
    """The rows of a file that are not blank; the first row is the header.

    Parameters
    ----------
    rows : list of (line, cells)
        Each row, with the line on which it begins, counted from 1.
    notices : tuple of Notice
        What was assumed.
    problems : tuple of str
        Why the rows cannot be trusted.
    """

    rows: Rows
    notices: tuple[Notice, ...] = ()
    problems: tuple[str, ...] = ()


def read_cells(path: Path) -> Cells:
    """Read the cells of a CSV file or an Excel workbook.

    Raises
    ------
    ManifestError
        If the file is missing, a folder, neither text nor a workbook, or has no row.
    """
    if path.is_dir():
        quoted = shlex.quote(str(path))
        raise ManifestError(
            [
                f"{path} is a folder, but a manifest is a CSV file with a row for each case; list "
                f"its scans with `voxtile manifest build {quoted} --out cases.csv`, or segment "
                f"them at once with `voxtile run {quoted} MODEL --out out`"
            ]
        )
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    found = _workbook(path) if _is_workbook(content) else _text(content, path)
    if not found.rows:
        empty = f"{path} is empty; it needs a header line and at least one case"
        raise ManifestError([*found.problems, empty])
    return found


def _text(content: bytes, path: Path) -> Cells:
    """Return the rows of a text."""
    text, notices, problems = _decoded(content, path)
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    skipped = declared.end() if declared else 0
    separator = declared[1] if declared else _separator(text)
    rows: Rows = []
    # newline="" leaves line ends to the csv module, so that quoted cells may hold line ends.
    lines = io.StringIO(text[skipped:], newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    begin = 2 if declared else 1
    before = begin
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((begin, [unescaped(cell) for cell in cells]))
            begin = reader.line_num + before
    except csv.Error as error:
        problems.append(f"{path} line {begin}: not valid CSV ({error})")
    return Cells(rows, notices, tuple(problems))


def _decoded(content: bytes, path: Path) -> tuple[str, tuple[Notice, ...], list[str]]:
    """Return the text of a file, with a notice if its encoding was guessed, and problems."""
    encoding = next((_MARKS[mark] for mark in _MARKS if content.startswith(mark)), "utf-8")
    wide = encoding == "utf-16"
    text = content.decode(encoding, errors="replace" if wide else "surrogateescape")
    if _BINARY.search(text) or (wide and "\ufffd" in text):
        raise ManifestError([_not_text(path)])
    foreign = _ESCAPED.search(text)
    if foreign is None:
        return text, (), []
    line = text[: foreign.start()].count("\n") + 1
    wrong = f"{path} line {line}: byte 0x{ord(foreign[0]) - 0xDC00:02x} is not UTF-8"
    plain = _ESCAPED.sub("\ufffd", text)
    # The text has characters of UTF-8 and other bytes; no single encoding gives both.
    if encoding != "utf-8" or not _ESCAPED.sub("", text).isascii():
        return plain, (), [f"{wrong}, but other bytes are; {_SAVE}"]
    try:
        guessed = content.decode("cp1252")
    except UnicodeDecodeError:
        return plain, (), [f"{wrong}, nor is it Windows-1252; {_SAVE}"]
    words = first_few([repr(word) for word in re.findall(r"\w*[^\x00-\x7f]\w*", guessed)], 3)
    notice = f"{wrong}; the file was read as Windows-1252 ({words}); if this is wrong, {_SAVE}"
    return guessed, (Notice("manifest_encoding", notice),), []


def _not_text(path: Path) -> str:
    """Return the message about a file that is neither text nor a workbook."""
    if is_volume(path) or is_dicom(path):
        return (
            f"{path} is a scan, but a manifest is a CSV file with a row for each case; segment it "
            f"with `voxtile run {shlex.quote(str(path))} MODEL --out out`, or list a folder of "
            "scans with `voxtile manifest build`"
        )
    return f"{path} is not a text file; save the table as CSV UTF-8, or as an Excel workbook .xlsx"


def _separator(text: str) -> str:
    """Return the separator of a text by its first line: the one that gives a column case_id."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    cells = {
        mark: [cell.strip(' "').casefold() for cell in header.split(mark)] for mark in _SEPARATORS
    }
    return max(_SEPARATORS, key=lambda mark: ("case_id" in cells[mark], len(cells[mark])))


def _is_workbook(content: bytes) -> bool:
    """Whether a file is an Excel workbook (.xlsx), by its content."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        return "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return False


def _workbook(path: Path) -> Cells:
    """Return the rows of the first sheet of a workbook."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise ManifestError(
            [
                f"{path} is an Excel workbook; save the sheet as CSV UTF-8, or install "
                '`pip install "voxtile[excel]"`'
            ]
        ) from None
    try:
        # Read it once with the values that Excel stored, and once with the formulas behind them.
        books = [load_workbook(path, data_only=values) for values in (True, False)]
        names = books[0].sheetnames
        sheets = [book.worksheets[0] for book in books]
        pairs = list(zip(*(sheet.iter_rows() for sheet in sheets), strict=True))
    except Exception as error:  # openpyxl raises anything on a damaged workbook
        raise ManifestError(
            [f"{path} is a damaged Excel workbook ({type(error).__name__}); save it again"]
        ) from error
    uncomputed = [
        behind.coordinate
        for values, formulas in pairs
        for value, behind in zip(values, formulas, strict=True)
        if behind.data_type == "f" and value.value is None
    ]
    rows = [(number, list(map(_cell, values))) for number, (values, _) in enumerate(pairs, 1)]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    return Cells(
        _without_blank_columns(rows),
        tuple(_other_sheets(names)),
        tuple(
            f"{path} cell {cell}: the formula has no stored result; save the workbook in Excel "
            "again, or replace formulas with their values"
            for cell in uncomputed
        ),
    )


def _cell(cell: Any) -> str:
    """Return a cell of a workbook as the text that Excel shows."""
    value = cell.value
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).upper()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and re.fullmatch("0+", cell.number_format or ""):
        return f"{value:0{len(cell.number_format)}d}"  # 007 is stored as 7
    return (value.isoformat() if hasattr(value, "isoformat") else str(value)).strip()


def _without_blank_columns(rows: Rows) -> Rows:
    """Return rows without the last columns that are blank in every row."""
    width = max((len(cells) - _blank_end(cells) for _, cells in rows), default=0)
    return [(line, cells[:width]) for line, cells in rows]


def _blank_end(cells: Sequence[str]) -> int:
    """Return how many cells at the end are blank."""
    return next((count for count, cell in enumerate(reversed(cells)) if cell), len(cells))


def _other_sheets(names: Sequence[str]) -> Iterator[Notice]:
    """Yield a notice about sheets that were not read."""
    if names[1:]:
        yield Notice(
            "manifest_sheet",
            f"only the first sheet of the workbook, {names[0]!r}, was read; not "
            f"{first_few([repr(name) for name in names[1:]])}",
        )
