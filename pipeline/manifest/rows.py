"""Read a manifest, a table with one case in each row.

    case_id,image,label,split,group,site
    p001,scans/p001.nii.gz,labels/p001.nii.gz,train,p001,A
    p002,dicom/p002/,,test,p002,B

`KNOWN` lists the optional columns that voxtile understands. To add one, add a
row there, a field of the same name to `voxtile.case.Case`, and use it.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from voxtile.case import Case, Split, id_problem
from voxtile.errors import ManifestError, first_few
from voxtile.machine.files import is_special
from voxtile.reading.scan import volume_choice
from voxtile.scoring.columns import is_column

from .cells import Rows, read_cells

_CHANNEL = re.compile(r"image_([A-Za-z0-9_]{1,40})")


@dataclass(frozen=True, slots=True)
class Column:
    """An optional column of a manifest; its cells may be empty.

    Parameters
    ----------
    meaning : str
        Explanation for users; `manifests/README.md` repeats it.
    value : callable
        Converts a cell to the value in `Case`; its ValueError says what a cell must be.
    is_path : bool
        Whether cells are paths of files, relative to the manifest's root.
    """

    meaning: str
    value: Callable[[str], Any] = str
    is_path: bool = False


def _split(cell: str) -> str:
    """Return the split that a cell names."""
    if cell not in get_args(Split):
        raise ValueError(f"is not one of {', '.join(get_args(Split))}")
    return cell


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


def _volume(cell: str) -> int | str:
    """Return the number of a volume, or the value that names it."""
    whole = re.fullmatch(r"(\d+)(?:[.,]0+)?", cell)  # spreadsheets may write 2.0, or 2,0
    return int(whole[1]) if whole else volume_choice(cell)


# Each column is a field of `Case` with the same name.
KNOWN = {
    "label": Column("reference mask, on the grid of the image", Path, is_path=True),
    "split": Column("`train`, `val` or `test`; may be empty", _split),
    "group": Column("the patient, if one has several scans; never divided between splits"),
    "series": Column("which of several DICOM series: `id=...`, a UID, or a rule such as `largest`"),
    "volume": Column(
        "which volume of a 4D scan: its number from 0, or a value such as `b=1000`", _volume
    ),
    "pages": Column("`stack` reads the pages of a picture as slices", _pages),
    "pixel_mm": Column("size of a picture's pixels, such as `0.5` or `0.5x0.4`", _pixel_mm),
}

# Other names for these columns: letters and digits in lower case, without a plural's "s".
_SIMILAR = {
    "case_id": ("id", "case", "name", "scanid", "imageid"),
    "image": ("img", "scan", "file", "filename", "path", "filepath", "imagepath", "imagefile"),
    "label": (
        *("mask", "seg", "segmentation", "annotation", "reference", "groundtruth", "gt"),
        *("labelpath", "maskpath", "segpath", "labelfile", "maskfile", "segfile"),
    ),
    "split": ("subset", "partition"),
    "group": ("patient", "subject", "patientid", "subjectid", "participant", "participantid"),
    "series": ("seriesuid", "seriesinstanceuid"),
    "volume": ("vol",),
}


def channel_of(column: str) -> str | None:
    """Return the channel of a column `image` or `image_<channel>`; None for other columns."""
    if column == "image":
        return column
    match = _CHANNEL.fullmatch(column)
    return match[1] if match else None


def is_extra(column: str) -> bool:
    """Whether a column is unknown to voxtile, so that it is only copied to the report."""
    return column != "case_id" and column not in KNOWN and channel_of(column) is None


def read_manifest(
    path: str | Path, *, root: str | Path | None = None, need_images: bool = True
) -> tuple[Case, ...]:
    """Read a manifest, or raise an error that lists everything that is wrong with it.

    Parameters
    ----------
    path : str or Path
        CSV or an Excel workbook, as `voxtile.manifest.cells` reads them; header required.
    root : str or Path, optional
        Folder that relative paths start from; by default the manifest's folder.
    need_images : bool, default True
        Whether image files must exist; scoring finished masks needs no images.

    Raises
    ------
    ManifestError
        Lists all problems, each with its line.
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
    """Read a manifest as `read_manifest` does, but return valid rows together with all problems.

    No row is valid if the header is not. With `need_labels` label files must exist.

    Raises
    ------
    ManifestError
        If the file is missing, empty or not a table.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    header, rows, found_problems = header_and_rows(path)
    problems = list(found_problems)
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


def header_and_rows(path: Path) -> tuple[list[str], Rows, tuple[str, ...]]:
    """Return the header of a manifest, its other rows with their lines, and problems."""
    found = read_cells(path)
    return [name.strip() for name in found.rows[0][1]], found.rows[1:], found.problems


def header_problems(header: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the names of the columns."""
    channels = [name for name in header if name != "image" and channel_of(name)]
    if "case_id" not in header:
        yield f"column case_id is missing; {_instead('case_id', header)}"
    if "image" not in header and not channels:
        yield (
            "column image is missing (or image_<channel> for several channels); "
            f"{_instead('image', header)}"
        )
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


def similar(name: str) -> str | None:
    """Return the known column that an unknown column's name may mean."""
    plain = re.sub(r"[\W_]", "", name.casefold())
    for column, others in _SIMILAR.items():
        if plain.removesuffix("s") in (column.replace("_", ""), *others):
            return column
    alike = get_close_matches(plain, [column.replace("_", "") for column in _SIMILAR], 1, 0.8)
    close = alike and abs(len(alike[0]) - len(plain)) < 2
    return alike[0].replace("caseid", "case_id") if close else None


def _instead(column: str, header: Sequence[str]) -> str:
    """Return a question about the column that may be meant, and the names of all columns."""
    meant = [name for name in header if similar(name) == column]
    rename = f"did you mean {meant[0]!r}? Then rename it to {column}; " if meant else ""
    return f"{rename}the columns are {first_few([name[:40] for name in header], 20)}"


def _as_known(name: str) -> str:
    """Return the known column whose name differs at most in case; else the name itself."""
    if name.casefold() in ("case_id", "image", *KNOWN):
        return name.casefold()
    image, _, channel = name.partition("_")
    column = f"{image.casefold()}_{channel}"  # upper case in a channel's name is allowed
    return column if channel_of(column) else name


def _row_problems(row: dict[str, str], base: Path, files: set[str]) -> Iterator[str]:
    """Yield what is wrong with one row."""
    if "case_id" in row and (problem := id_problem(row["case_id"])):
        yield problem
    images = [column for column in row if channel_of(column)]
    if images and not any(row[column] for column in images):
        several = "; at least one channel is needed" if len(images) > 1 else ""
        yield f"{' and '.join(images)} {'are' if several else 'is'} empty{several}"
    for column, cell in row.items():
        if not cell:
            continue
        if column in files and (problem := _path_problem(column, cell, base)):
            yield problem
        if column in KNOWN:
            try:
                KNOWN[column].value(cell)
            except ValueError as error:
                yield f"{column} {cell!r} {error}"


def _located(cell: str, base: Path) -> Path:
    """Return the path of a cell; ``~`` and ``$NAME`` are replaced, unless such a file exists."""
    if (cell.startswith("~") or "$" in cell) and not os.path.lexists(base / cell):
        cell = os.path.expanduser(os.path.expandvars(cell))  # noqa: PTH111, leaves unknown users
    return base / cell


def _path_problem(column: str, cell: str, base: Path) -> str | None:
    """Return why a file cannot be read; None if it can be."""
    path = _located(cell, base)
    try:
        if is_special(path):
            return f"{column} {cell!r} is a pipe, socket or device; name a file or folder"
        if path.exists():
            return None
        unset = re.search(r"\$\w+|\$\{\w+\}", str(path))
        where = f"the variable {unset[0]} is not set" if unset else f"looked in {base.absolute()}"
        return f"{column} {cell!r} does not exist ({where})"
    except (OSError, ValueError) as error:
        return f"{column} {cell[:120]!r} cannot be a path ({error})"


def _case(row: dict[str, str], base: Path, line: int) -> Case:
    """Return the case of a valid row."""
    known: dict[str, Any] = {}
    for name, column in KNOWN.items():
        if cell := row.get(name):
            known[name] = _located(cell, base) if column.is_path else column.value(cell)
    columns = [name for name in row if channel_of(name)]
    channels = tuple(channel for name in columns if (channel := channel_of(name)))
    return Case(
        case_id=row["case_id"],
        images=tuple(
            (channel, _located(cell, base))
            for name, cell in row.items()
            if cell and (channel := channel_of(name)) is not None
        ),
        channels=channels if not all(row[name] for name in columns) else (),
        extras=tuple((name, cell) for name, cell in row.items() if is_extra(name)),
        line=line,
        **known,
    )
