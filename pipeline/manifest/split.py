"""Divide a manifest into splits or folds, never within a group.

How the parts are dealt out is in `dealing`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from voxtile.case import Split
from voxtile.errors import ManifestError
from voxtile.machine.files import write_text

from .dealing import Unit, deal, equal_shares, unit_name
from .rows import examine_manifest
from .source import listed
from .table import Table, read_table


@dataclass(frozen=True, slots=True)
class Division:
    """How a manifest is divided.

    Parameters
    ----------
    shares : mapping of str to float
        For each part its fraction of the cases; they add up to 1. Parts are
        splits, or the numbers of folds.
    column : {"split", "fold"}
        What is written.
    by : str, default "group"
        Column whose equal values stay together, beside those of `group`. A row
        with neither stands alone.
    stratify : str or None
        Column whose values every part gets its share of.
    keep : tuple of str
        Splits whose rows stay as they are and are not dealt.
    seed : int, default 0

    Raises
    ------
    ValueError
        If the shares are none.
    """

    shares: Mapping[str, float]
    column: str = "split"
    by: str = "group"
    stratify: str | None = None
    keep: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(math.isfinite(share) and share > 0 for share in self.shares.values()):
            raise ValueError(f"fractions {dict(self.shares)} must be positive; leave a part out")
        if not math.isclose(sum(self.shares.values()), 1, abs_tol=1e-6):
            raise ValueError(
                f"fractions {dict(self.shares)} add up to {sum(self.shares.values()):g}; they must "
                "add up to 1"
            )
        known = get_args(Split)
        strange = [name for name in self.shares if self.column == "split" and name not in known]
        strange += [name for name in self.keep if name not in known]
        if strange:
            raise ValueError(f"split {strange[0]!r} is not one of {', '.join(known)}")


def split_manifest(manifest: Path, division: Division) -> Table:
    """Return a manifest with its cases divided; every other column is as it was.

    Parameters
    ----------
    manifest : Path
        Its files need not exist.
    division : Division

    Raises
    ------
    ManifestError
        If the manifest is none, a column is missing, a group would be
        divided between kept and dealt rows, or a part would stay empty.
    """
    _, problems = examine_manifest(manifest, need_images=False, need_labels=False)
    if problems:
        raise ManifestError(problems)
    table = read_table(manifest)
    problems = tuple(
        f"{manifest} has no column {name!r}; it has {', '.join(table.header)}"
        for name in (division.stratify, division.by if division.by != "group" else None)
        if name and name not in table.header
    )
    if problems:
        raise ManifestError(problems)
    kept = {row for row, split in enumerate(table.column("split")) if split in division.keep}
    units = _units(table, division, kept, manifest)
    parts = deal(units, division.shares, division.seed)
    empty = [name for name in division.shares if name not in parts.values()]
    if empty:
        raise ManifestError(
            [
                f"{manifest} has {len(units)} groups to divide, too few for a share of "
                f"{', '.join(empty)}; ask for fewer parts, or larger shares"
            ]
        )
    cells = list(table.column("split")) if division.column == "split" else [""] * len(table.rows)
    for unit in units:
        for row in unit.rows:
            cells[row] = parts[unit.name]
    return table.with_column(division.column, cells)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks for.

    Parameters
    ----------
    by, seed, stratify, keep
        As in `Division`.
    folds : int or None
    fractions : mapping of str to float, or None
        One of the two.
    validate : int or None
        With `folds`: which fold is ``val`` in column `split`.
    """

    by: str = "group"
    seed: int = 0
    folds: int | None = None
    fractions: Mapping[str, float] | None = None
    validate: int | None = None
    stratify: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def division(self) -> Division:
        """The division that it stands for.

        Raises
        ------
        ValueError
            If it stands for none.
        """
        if (self.folds is None) == (self.fractions is None):
            raise ValueError("give either --folds K or --fractions train=0.7,val=0.3")
        if self.validate is not None and self.folds is None:
            raise ValueError("--validate is for --folds")
        shares = equal_shares(self.folds) if self.folds is not None else self.fractions or {}
        column = "split" if self.folds is None else "fold"
        return Division(shares, column, self.by, self.stratify, self.keep, self.seed)


def write_split(manifest: Path, out: Path, wish: Wish) -> tuple[str, ...]:
    """Write a manifest divided, and return what came of it.

    Parameters
    ----------
    manifest : Path
    out : Path
        Must not exist.
    wish : Wish

    Returns
    -------
    tuple of str
        A line for each part, and what the user should know.

    Raises
    ------
    ManifestError
        As `split_manifest`, or if `out` exists.
    """
    division = wish.division
    if out.exists():
        raise ManifestError([f"{out} exists; name another, or move it away"])
    table = split_manifest(manifest, division)
    lines = [*_counts(table, division)]
    tests = 0 if "test" in wish.keep else table.column("split").count("test")
    if wish.folds is not None and tests:
        lines.append(
            f"note: {tests} cases of split test were dealt into folds as well; to leave them out, "
            "pass --keep test"
        )
    if wish.validate is not None:
        table = validate_on(table, wish.validate)
        lines.append(f"split: fold {wish.validate} is val, the others are train")
    if out.parent.resolve() != manifest.parent.resolve():
        lines.append(
            f"note: relative paths in it begin at {manifest.parent}; name that with --root"
        )
    write_text(out, table.csv())
    return tuple(lines)


def _counts(table: Table, division: Division) -> Iterator[str]:
    """Yield a line for each part: how many cases and how many groups."""
    cells = table.column(division.column)
    together = _together(table, division.by)
    for part in division.shares:
        count = cells.count(part)
        groups = sum(key.rank < 2 and cells[rows[0]] == part for key, rows in together.items())
        yield f"{division.column} {part}: {count} cases" + (f", {groups} groups" if groups else "")


def validate_on(table: Table, fold: int) -> Table:
    """Return the table with splits for one fold: it is ``val``, the others are ``train``.

    Parameters
    ----------
    table : Table
        With a column ``fold``; rows without one keep their split.
    fold : int

    Raises
    ------
    ValueError
        If there is no such fold.
    """
    numbers = table.column("fold")
    if str(fold) not in numbers:
        raise ValueError(f"fold {fold} is none of {', '.join(sorted(set(numbers) - {''}))}")
    return table.with_column(
        "split",
        [
            ("val" if number == str(fold) else "train") if number else split
            for number, split in zip(numbers, table.column("split"), strict=True)
        ],
    )


def _units(table: Table, division: Division, kept: set[int], manifest: Path) -> list[Unit]:
    """Return what is dealt."""
    together = _together(table, division.by)
    divided = [
        (key, rows)
        for key, rows in together.items()
        if kept.intersection(rows) and not kept.issuperset(rows)
    ]
    if divided:
        ids = table.column("case_id")
        raise ManifestError(
            [
                f"{manifest}: {key.column} {key.value!r} has rows that keep their split and others "
                f"that are to be dealt ({listed([ids[row] for row in rows])} stay together); give "
                "all of them one split, or keep none"
                for key, rows in divided
            ]
        )
    strata = table.column(division.stratify) if division.stratify else ("",) * len(table.rows)
    return [
        Unit(key.unit, tuple(rows), " + ".join(sorted({strata[row] for row in rows})))
        for key, rows in together.items()
        if not kept.intersection(rows)
    ]


@dataclass(frozen=True, slots=True, order=True)
class _Key:
    """A value that rows share.

    Parameters
    ----------
    rank : int
        0 is column `by`, 1 is `group` beside it, 2 is a case that has neither.
    column, value : str
    """

    rank: int
    column: str
    value: str

    @property
    def unit(self) -> str:
        """Name of the unit that it is the least key of."""
        # A group beside `by` must not meet a value of `by` that is called alike.
        if self.rank == 1:
            return f"rows of group {self.value}"
        return unit_name("" if self.rank else self.value, self.value)


def _together(table: Table, by: str) -> dict[_Key, list[int]]:
    """Return the rows that stay together, by the least key among them.

    Rows with one group do, and rows with one value in column `by`. So do rows
    that others join: scan 1 of patient A and scan 2 of patient B where both
    are of group 7, and every other scan of A or B.
    """
    columns = tuple(dict.fromkeys((by, "group")))
    keys = [
        [_Key(rank, columns[rank], cell) for rank, cell in enumerate(cells) if cell]
        or [_Key(2, "case_id", name)]
        for name, *cells in zip(
            table.column("case_id"), *(table.column(column) for column in columns), strict=True
        )
    ]
    before = {key: key for some in keys for key in some}

    def least(key: _Key) -> _Key:
        while before[key] != key:
            before[key] = before[before[key]]
            key = before[key]
        return key

    for first, *others in keys:
        for other in others:
            # Always to the lesser, so that the name does not depend on the order of rows.
            low, high = sorted((least(first), least(other)))
            before[high] = low
    together: dict[_Key, list[int]] = {}
    for row, some in enumerate(keys):
        together.setdefault(least(some[0]), []).append(row)
    return together
