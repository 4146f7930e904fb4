"""Divide a manifest into splits or folds without dividing a group."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from voxtile.case import Split
from voxtile.errors import ManifestError, UsageError, counted, first_few
from voxtile.machine.files import write_text
from voxtile.run_folder.protection import Input, inputs_of, protect

from .dealing import Unit, deal, equal_shares, unit_name
from .rows import examine_manifest
from .table import Table, read_table


@dataclass(frozen=True, slots=True)
class Division:
    """How a manifest is divided.

    Parameters
    ----------
    shares : mapping of str to float
        For each part its fraction of the cases; the fractions add up to 1.
        Parts are splits, or the numbers of folds.
    column : {"split", "fold"}
        The column to write.
    by : str, default "group"
        Rows with the same value in this column stay together, and so do rows
        of the same `group`. A row with neither value may go to any part.
    stratify : str or None
        Column of which every part gets its share of each value.
    keep : tuple of str
        Splits whose rows keep their split and are not divided.

    """

    shares: Mapping[str, float]
    column: str = "split"
    by: str = "group"
    stratify: str | None = None
    keep: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(math.isfinite(share) and share > 0 for share in self.shares.values()):
            raise UsageError(
                f"fractions {dict(self.shares)} must be positive; leave a part out instead"
            )
        if not math.isclose(sum(self.shares.values()), 1, abs_tol=1e-6):
            raise UsageError(
                f"fractions {dict(self.shares)} add up to {sum(self.shares.values()):g}; they must "
                "add up to 1"
            )
        known = get_args(Split)
        unknown = [name for name in self.shares if self.column == "split" and name not in known]
        unknown += [name for name in self.keep if name not in known]
        if unknown:
            raise UsageError(f"split {unknown[0]!r} is not one of {', '.join(known)}")


def split_manifest(manifest: Path, division: Division) -> Table:
    """Return a manifest with its cases divided; other columns are kept, files are not needed.

    Raises
    ------
    ManifestError
        If the manifest cannot be read, if a column is missing, if a group has
        both rows to keep and rows to divide, or if a part would stay empty.
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
                f"{manifest} has {counted(len(units), 'group')} to divide, so that "
                f"{', '.join(empty)} would stay empty; use fewer parts, or larger shares"
            ]
        )
    cells = list(table.column("split")) if division.column == "split" else [""] * len(table.rows)
    for unit in units:
        for row in unit.rows:
            cells[row] = parts[unit.name]
    return table.with_column(division.column, cells)


def shares_of(
    folds: int | None, fractions: Mapping[str, float] | None
) -> tuple[Mapping[str, float], str]:
    """Return the shares of the parts and the column to write; give exactly one option."""
    if folds is None and fractions is not None:
        return fractions, "split"
    if folds is not None and fractions is None:
        return equal_shares(folds), "fold"
    raise UsageError("give either --folds K or --fractions train=0.7,val=0.3")


def write_split(
    manifest: Path, out: Path, division: Division, validate: int | None = None
) -> tuple[str, ...]:
    """Write a divided manifest to a new file; return a line for each part, and notes.

    With folds, `validate` is the fold that is ``val`` in column `split`.
    """
    if validate is not None and division.column != "fold":
        raise UsageError("--validate needs --folds")
    if os.path.lexists(out):
        raise ManifestError([f"{out} exists; name another, or move it away"])
    cases, _ = examine_manifest(manifest, need_images=False, need_labels=False)
    protect([Input("the manifest", manifest), *inputs_of(cases)], out, advice="name another file")
    table = split_manifest(manifest, division)
    lines = [*_counts(table, division)]
    tests = 0 if "test" in division.keep else table.column("split").count("test")
    if division.column == "fold" and tests:
        lines.append(
            f"note: the folds include {counted(tests, 'case')} of split test; to leave them out, "
            "pass --keep test"
        )
    if validate is not None:
        table = _validated(table, str(validate))
        lines.append(f"split: fold {validate} is val, the others are train")
    if out.parent.resolve() != manifest.parent.resolve():
        lines.append(
            f"note: its relative paths start from {manifest.parent}; pass that folder as --root"
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
        in_groups = f", {counted(groups, 'group')}" if groups else ""
        yield f"{division.column} {part}: {counted(count, 'case')}{in_groups}"


def _validated(table: Table, fold: str) -> Table:
    """Return the table with split ``val`` for one fold and ``train`` for the other folds."""
    numbers = table.column("fold")
    if fold not in numbers:
        raise UsageError(f"fold {fold} is not one of {', '.join(sorted(set(numbers) - {''}))}")
    splits = [
        ("val" if number == fold else "train") if number else split
        for number, split in zip(numbers, table.column("split"), strict=True)
    ]
    return table.with_column("split", splits)


def _units(table: Table, division: Division, kept: set[int], manifest: Path) -> list[Unit]:
    """Return the units to divide."""
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
                f"to divide ({first_few([ids[row] for row in rows])} must stay together); give all "
                "of them one split, or leave --keep out"
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
    """A value that keeps rows together."""

    # 0 for column `by`, 1 for `group` if that is another column, 2 for a case that has neither.
    rank: int
    column: str
    value: str

    @property
    def unit(self) -> str:
        """Name of the unit whose smallest key this is."""
        # A group must not be joined with a value of another column `by` of the same name.
        if self.rank == 1:
            return f"rows of group {self.value}"
        return unit_name("" if self.rank else self.value, self.value)


def _together(table: Table, by: str) -> dict[_Key, list[int]]:
    """Return the rows that stay together, by the smallest of their keys.

    These are rows with the same group, rows with the same value in column `by`,
    and rows that are connected through these: if scan 1 of patient A and scan 2 of
    patient B are in group 7, all scans of A and B stay together.
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
            # Keep the smaller key, so that the name does not depend on the order of rows.
            low, high = sorted((least(first), least(other)))
            before[high] = low
    together: dict[_Key, list[int]] = {}
    for row, some in enumerate(keys):
        together.setdefault(least(some[0]), []).append(row)
    return together
