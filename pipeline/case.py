"""A case is a row of a manifest; a manifest is a CSV of cases.

case_id,image,label,split,group,site
p001,scans/p001.nii.gz,labels/p001.nii.gz,train,p001,A
p002,dicom/p002/,,test,p002,B
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, get_args

from .errors import ManifestError

Split = Literal["train", "val", "test"]

# Columns with a meaning; `image_<channel>` has one too, and the rest travels to the report.
_MEANT = ("case_id", "image", "label", "split", "group", "series", "volume")
_CASE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_CHANNEL = re.compile(r"image_([A-Za-z0-9_]{1,40})")


@dataclass(frozen=True, slots=True)
class Case:
    """One patient scan of a manifest.

    Parameters
    ----------
    case_id : str
        Letters, digits, ``.``, ``_``, ``-``; at most 100.
    images : tuple of (channel, Path)
        A NIfTI file or DICOM series folder for each channel. A single
        `image` column is the channel "image".
    label : Path or None
        Reference mask.
    split : {"train", "val", "test"} or None
    group : str or None
        Patient, or whatever must not be divided between splits.
    series : str or None
        Which DICOM series of several, as in `ReadPolicy`.
    volume : int or None
        Which volume of a 4D scan, counting from 0.
    extras : tuple of (column, value)
        Further columns, as they stand in the manifest.
    line : int
        Line of the manifest, for messages; 0 without one.
    """

    case_id: str
    images: tuple[tuple[str, Path], ...]
    label: Path | None = None
    split: Split | None = None
    group: str | None = None
    series: str | None = None
    volume: int | None = None
    extras: tuple[tuple[str, str], ...] = ()
    line: int = 0

    def __post_init__(self) -> None:
        problem = _id_problem(self.case_id)
        if problem:
            raise ValueError(problem)
        if not self.images:
            raise ValueError(f"case {self.case_id} has no image")


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    reserved: Callable[[str], bool] = lambda _: False,
    need_images: bool = True,
) -> tuple[Case, ...]:
    """Read a manifest, or say everything that is wrong with it.

    Parameters
    ----------
    path : str or Path
        CSV, UTF-8 (with or without BOM), any line ends, header required.
    root : str or Path, optional
        Where relative paths begin; the manifest's folder unless given.
    reserved : callable
        Whether a name is one that no further column may have, such as the
        report's; none is unless given.
    need_images : bool, default True
        Whether image files must exist; scoring finished masks needs none.

    Returns
    -------
    tuple of Case
        In the manifest's order.

    Raises
    ------
    ManifestError
        With all problems at once, each with its line.
    """
    cases, problems = examine_manifest(
        path, root=root, reserved=reserved, need_images=need_images, need_labels=True
    )
    if problems:
        raise ManifestError(problems)
    return cases


def examine_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    reserved: Callable[[str], bool] = lambda _: False,
    need_images: bool = True,
    need_labels: bool = True,
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Read a manifest as `read_manifest` does, and return its sound rows beside all problems.

    Parameters
    ----------
    need_labels : bool, default True
        Whether label files must exist.

    Returns
    -------
    cases : tuple of Case
        Those whose row has no problem; none where the header has one.
    problems : tuple of str
        With their lines.

    Raises
    ------
    ManifestError
        If there is no file or nothing in it.
    """
    path = Path(path)
    base = path.parent if root is None else Path(root)
    problems: list[str] = []
    header, rows = read_rows(path, problems)
    before = len(problems)
    _check_header(header, path, reserved, problems)
    sound_header = len(problems) == before
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path} line {line}"
        if len(cells) != len(header):
            problems.append(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            continue
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        found = _row_problems(row, seen, line, base, need_images, need_labels)
        problems.extend(f"{where}: {problem}" for problem in found)
        if not found and sound_header:
            cases.append(_case(row, base, line))
    if not rows:
        problems.append(f"{path} has a header but no case")
    return tuple(cases), tuple(problems)


def read_rows(path: Path, problems: list[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a manifest, and each further row with the line it begins on.

    Parameters
    ----------
    path : Path
    problems : list of str
        Takes what is wrong with the file as CSV.

    Raises
    ------
    ManifestError
        If there is no file or nothing in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    rows = _rows(content, path, problems)
    if not rows:
        problems.append(f"{path} is empty; it needs a header line and at least one case")
        raise ManifestError(problems)
    return [name.strip() for name in rows[0][1]], rows[1:]


def _rows(content: bytes, path: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """Return each row that is not blank with the line it begins on."""
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
        problems.append(f"{path} line {begin}: not CSV ({error})")
    return rows


def _check_header(
    header: list[str], path: Path, reserved: Callable[[str], bool], problems: list[str]
) -> None:
    """Add what is wrong with the header line."""
    where = f"{path} line 1"
    channels = [name for name in header if _CHANNEL.fullmatch(name)]
    if "case_id" not in header:
        hint = ""
        if len(header) == 1 and re.search(r"[;\t]", header[0]):
            hint = "; cells must be separated by commas"
        problems.append(f"{where}: column case_id is missing{hint}")
    if "image" not in header and not channels:
        problems.append(f"{where}: column image is missing (or image_<channel> for several)")
    if "image" in header and channels:
        problems.append(f"{where}: columns image and {channels[0]} exclude each other")
    for name in dict.fromkeys(header):
        if header.count(name) > 1:
            problems.append(f"{where}: column {name!r} appears {header.count(name)} times")
        if not name:
            problems.append(f"{where}: a column has no name")
        meant = _as_meant(name)
        if meant != name:
            problems.append(
                f"{where}: column {name!r} must be written {meant}, or have another name if it "
                "means something else"
            )
        if name not in _MEANT and reserved(name):
            problems.append(f"{where}: column {name!r} is one of the report's; rename it")


def _as_meant(name: str) -> str:
    """Return the column with a meaning that a name is but for upper case; else the name itself."""
    if name.casefold() in _MEANT:
        return name.casefold()
    image, _, channel = name.partition("_")
    column = f"{image.casefold()}_{channel}"  # the case of a channel's name is its own
    return column if _CHANNEL.fullmatch(column) else name


def _row_problems(
    row: dict[str, str],
    seen: dict[str, int],
    line: int,
    base: Path,
    need_images: bool,
    need_labels: bool,
) -> list[str]:
    """Return what is wrong with one row; remembers its id in `seen`."""
    problems = []
    case_id = row.get("case_id")
    if case_id is not None:
        problem = _id_problem(case_id)
        if problem:
            problems.append(problem)
        # Some file systems do not tell upper from lower case, and masks are named by id.
        earlier = seen.setdefault(case_id.casefold(), line)
        if earlier != line:
            problems.append(f"case_id {case_id!r} is already on line {earlier}")
    for column, cell in row.items():
        is_image = column == "image" or _CHANNEL.fullmatch(column)
        if is_image and not cell:
            problems.append(f"{column} is empty")
        elif cell and ((is_image and need_images) or (column == "label" and need_labels)):
            problem = _path_problem(column, cell, base)
            if problem:
                problems.append(problem)
    if row.get("split") and row["split"] not in get_args(Split):
        problems.append(f"split {row['split']!r} is not one of train, val, test")
    if row.get("volume") and not row["volume"].isdecimal():
        problems.append(f"volume {row['volume']!r} is not a whole number from 0")
    return problems


def _id_problem(case_id: str) -> str | None:
    """Return what is wrong with an id, which names files in the run folder."""
    if _CASE_ID.fullmatch(case_id) and case_id.strip("."):
        return None
    return (
        f"case_id {case_id[:120]!r} must be 1 to 100 of letters, digits, '.', '_' and '-' "
        "(and not only dots), because it names files"
    )


def _path_problem(column: str, cell: str, base: Path) -> str | None:
    """Return why a path cannot be read, if so."""
    try:
        if (base / cell).exists():
            return None
        return f"{column} {cell!r} does not exist (looked in {base.absolute()})"
    except (OSError, ValueError) as error:
        return f"{column} {cell[:120]!r} cannot be a path ({error})"


def _case(row: dict[str, str], base: Path, line: int) -> Case:
    """Return the case of a sound row."""
    images = []
    for column, cell in row.items():
        channel = _CHANNEL.fullmatch(column)
        if column == "image" or channel:
            images.append((channel[1] if channel else "image", base / cell))
    splits: dict[str, Split] = {split: split for split in get_args(Split)}
    return Case(
        case_id=row["case_id"],
        images=tuple(images),
        label=base / row["label"] if row.get("label") else None,
        split=splits.get(row.get("split", "")),
        group=row.get("group") or None,
        series=row.get("series") or None,
        volume=int(row["volume"]) if row.get("volume") else None,
        extras=tuple(
            (column, cell)
            for column, cell in row.items()
            if column not in _MEANT and not _CHANNEL.fullmatch(column)
        ),
        line=line,
    )
