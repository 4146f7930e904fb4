"""Read a manifest, a CSV file with one case in each row.

    case_id,image,label,split,group,site
    p001,scans/p001.nii.gz,labels/p001.nii.gz,train,p001,A
    p002,dicom/p002/,,test,p002,B

`KNOWN` lists the optional columns that voxtile understands. To add one, add a
row there, a field of the same name to `voxtile.case.Case`, and use it.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from voxtile.case import Case, Split, id_problem
from voxtile.errors import ManifestError
from voxtile.machine.files import is_special, regular
from voxtile.scoring.columns import is_column

_CHANNEL = re.compile(r"image_([A-Za-z0-9_]{1,40})")


@dataclass(frozen=True, slots=True)
class Column:
    """An optional column of a manifest; its cells may be empty.

    Parameters
    ----------
    meaning : str
        For people; `manifests/README.md` repeats it.
    value : callable
        Makes the value of the `Case` from a cell; a ValueError says what a cell must be.
    is_path : bool
        Whether cells are paths of files, relative to the manifest's root.
    """

    meaning: str
    value: Callable[[str], Any] = str
    is_path: bool = False


def _split(cell: str) -> str:
    """Return a split."""
    if cell not in get_args(Split):
        raise ValueError(f"is not one of {', '.join(get_args(Split))}")
    return cell


def _volume(cell: str) -> int:
    """Return the number of a volume."""
    if not cell.isdecimal():
        raise ValueError("is not a whole number from 0")
    return int(cell)


def _pages(cell: str) -> str:
    """Return how to read pages."""
    if cell not in ("refuse", "stack"):
        raise ValueError("is not one of refuse, stack")
    return cell


def _pixel_mm(cell: str) -> tuple[float, ...]:
    """Return the size of a pixel: one number, or two or three separated by x."""
    try:
        sizes = tuple(float(part) for part in cell.lower().split("x"))
    except ValueError:
        sizes = ()
    if not 1 <= len(sizes) <= 3 or not all(1e-6 < size < 1e6 for size in sizes):
        raise ValueError("is not a size in mm, such as 0.5, 0.5x0.4 or 0.5x0.5x2")
    return sizes


# Each is a field of `Case` with the same name.
KNOWN = {
    "label": Column("reference mask, on the grid of the image", Path, is_path=True),
    "split": Column("`train`, `val` or `test`; may be empty", _split),
    "group": Column("the patient, if one has several scans; never divided between splits"),
    "series": Column("which of several DICOM series: `id=...`, a UID, or a rule such as `largest`"),
    "volume": Column("which volume of a 4D scan, counting from 0", _volume),
    "pages": Column("`stack` reads the pages of a picture as slices", _pages),
    "pixel_mm": Column("size of a picture's pixels, such as `0.5` or `0.5x0.4`", _pixel_mm),
}


def channel_of(column: str) -> str | None:
    """Return the channel of a column `image` or `image_<channel>`; None for other columns."""
    if column == "image":
        return column
    match = _CHANNEL.fullmatch(column)
    return match[1] if match else None


def is_extra(column: str) -> bool:
    """Whether a column has no meaning here, so that it only travels to the report."""
    return column != "case_id" and column not in KNOWN and channel_of(column) is None


def read_manifest(
    path: str | Path, *, root: str | Path | None = None, need_images: bool = True
) -> tuple[Case, ...]:
    """Read a manifest, or say everything that is wrong with it.

    Parameters
    ----------
    path : str or Path
        CSV, UTF-8 (with or without BOM), any line ends, header required.
    root : str or Path, optional
        Where relative paths begin; the manifest's folder by default.
    need_images : bool, default True
        Whether image files must exist; scoring finished masks needs no images.

    Raises
    ------
    ManifestError
        With all problems at once, each with its line.
    """
    cases, problems = examine_manifest(path, root=root, need_images=need_images)
    if problems:
        raise ManifestError(problems)
    return cases


def examine_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    need_images: bool = True,
    need_labels: bool = True,
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Read a manifest as `read_manifest` does, but return its valid rows beside all problems.

    No row is valid if the header is not. With `need_labels` label files must exist.

    Raises
    ------
    ManifestError
        If the file is missing or empty.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    problems: list[str] = []
    header, rows = read_rows(path, problems)
    in_header = [f"{path} line 1: {problem}" for problem in header_problems(header)]
    problems += in_header
    # Columns whose files must exist.
    files = {name for name in header if need_images and channel_of(name)}
    files |= {name for name in KNOWN if need_labels and KNOWN[name].is_path}
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path} line {line}"
        if len(cells) != len(header):
            problems.append(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            continue
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        found = list(_row_problems(row, base, files))
        # Some file systems do not distinguish upper and lower case, and masks are named by id.
        earlier = seen.setdefault(row.get("case_id", f"line {line}").casefold(), line)
        if earlier != line:
            found.append(f"case_id {row['case_id']!r} is already on line {earlier}")
        problems += [f"{where}: {problem}" for problem in found]
        if not found and not in_header:
            cases.append(_case(row, base, line))
    if not rows:
        problems.append(f"{path} has a header but no case")
    return tuple(cases), tuple(problems)


def read_rows(path: Path, problems: list[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a manifest, and each further row with the number of its first line.

    What is wrong with the file as CSV is added to `problems`.
    """
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    rows = _rows(content, path, problems)
    if not rows:
        problems.append(f"{path} is empty; it needs a header line and at least one case")
        raise ManifestError(problems)
    return [name.strip() for name in rows[0][1]], rows[1:]


def _rows(content: bytes, path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """Return each row that is not blank with the number of its first line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                problems.append(
                    f"{path} line {number}: byte 0x{line[error.start]:02x} is not UTF-8; "
                    "save the file as CSV UTF-8"
                )
        text = content.decode("utf-8-sig", errors="replace")
    rows = []
    # newline="" leaves line ends to the csv module, so that quoted cells may hold some.
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((begin, cells))
            begin = reader.line_num + 1
    except csv.Error as error:
        problems.append(f"{path} line {begin}: not valid CSV ({error})")
    return rows


def header_problems(header: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the names of the columns."""
    channels = [name for name in header if name != "image" and channel_of(name)]
    if "case_id" not in header:
        separated = len(header) == 1 and re.search(r"[;\t]", header[0])
        yield "column case_id is missing" + (
            "; cells must be separated by commas" if separated else ""
        )
    if "image" not in header and not channels:
        yield "column image is missing (or image_<channel> for several channels)"
    if "image" in header and channels:
        yield f"columns image and {channels[0]} exclude each other; rename image to image_<channel>"
    for number, name in enumerate(header, start=1):
        if not name:
            yield f"column {number} has no name; name it or remove it"
        elif header.index(name) < number - 1:
            yield f"column {name!r} appears again as column {number}; rename or remove one"
        elif (known := _as_known(name)) != name:
            yield f"column {name!r} must be written {known}; if it means something else, rename it"
        elif is_extra(name) and is_column(name):
            yield (
                f"column {number}, {name!r}, has the name of a column of report.csv; rename it, "
                f"for example to {name}_given"
            )


def _as_known(name: str) -> str:
    """Return a column with a meaning if the name differs from it only in case; else the name."""
    if name.casefold() in ("case_id", "image", *KNOWN):
        return name.casefold()
    image, _, channel = name.partition("_")
    column = f"{image.casefold()}_{channel}"  # upper case in a channel's name is allowed
    return column if channel_of(column) else name


def _row_problems(row: dict[str, str], base: Path, files: set[str]) -> Iterator[str]:
    """Yield what is wrong with one row."""
    if "case_id" in row and (problem := id_problem(row["case_id"])):
        yield problem
    for column, cell in row.items():
        if not cell and channel_of(column):
            yield f"{column} is empty"
        if not cell:
            continue
        if column in files and (problem := _path_problem(column, cell, base)):
            yield problem
        if column in KNOWN:
            try:
                KNOWN[column].value(cell)
            except ValueError as error:
                yield f"{column} {cell!r} {error}"


def _path_problem(column: str, cell: str, base: Path) -> str | None:
    """Return why a file cannot be read, if so."""
    try:
        if is_special(base / cell):
            return f"{column} {cell!r} is a pipe, socket or device; name a file or folder"
        if (base / cell).exists():
            return None
        return f"{column} {cell!r} does not exist (looked in {base.absolute()})"
    except (OSError, ValueError) as error:
        return f"{column} {cell[:120]!r} cannot be a path ({error})"


def _case(row: dict[str, str], base: Path, line: int) -> Case:
    """Return the case of a valid row."""
    known: dict[str, Any] = {}
    for name, column in KNOWN.items():
        if cell := row.get(name):
            known[name] = base / cell if column.is_path else column.value(cell)
    return Case(
        case_id=row["case_id"],
        images=tuple(
            (channel, base / cell)
            for name, cell in row.items()
            if (channel := channel_of(name)) is not None
        ),
        extras=tuple((name, cell) for name, cell in row.items() if is_extra(name)),
        line=line,
        **known,
    )
