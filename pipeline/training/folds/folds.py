"""The cases that a fold of a cross-validation trains with, chooses with, and is scored on.

    cases with split train or val, by group
        fold 0    fold 1    fold 2    fold 3    fold 4
        held out  '------- training cases ------------'   for fold 0
                  a tenth of these chooses: checkpoint, view weights,
                  thresholds, post-processing

Without validation, the cases that would choose train too. Cases with split ``test`` are not used.
If the manifest has a column `fold`, these are the folds; ``voxtile manifest split --folds`` makes
the same folds as the seed here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import ManifestError, UsageError
from voxtile.manifest.dealing import Unit, deal, equal_shares, unit_name
from voxtile.training.data.splits import shared_groups, tested, unlabelled

# Fraction of a fold's cases that choose and do not train, and the largest one that is accepted.
_CHOOSING, _MOST_CHOOSING = 0.1, 0.3
# Column of the manifest with the number of each case's fold.
_COLUMN = "fold"


@dataclass(frozen=True, slots=True)
class Fold:
    """One of `count` folds of a cross-validation, numbered from 0."""

    number: int
    count: int
    seed: int
    cases: tuple[Case, ...]  # to train with, split ``train``, and to choose with, split ``val``
    held_out: tuple[Case, ...]  # for the scores; they choose nothing
    # SHA-256 of the manifest when it was divided; the file may change during the training run.
    manifest_sha256: str = ""
    own: bool = False  # whether the folds are those of the manifest's column `fold`

    def facts(self) -> dict[str, Any]:
        """Return facts about the fold for the spec."""
        return {
            "number": self.number,
            "count": self.count,
            "seed": self.seed,
            "held_out": [case.case_id for case in self.held_out],
            **({"column": _COLUMN} if self.own else {}),
        }


def taking_part(cases: Sequence[Case], manifest: Path) -> tuple[Case, ...]:
    """Return the cases that are divided into folds."""
    chosen = tuple(case for case in cases if case.split in ("train", "val"))
    if not any(case.split for case in cases):
        chosen = tuple(case for case in cases if fold_cell(case))
    problems = unlabelled(chosen, manifest)
    if not chosen:
        problems.append(
            f"{manifest} has no case with split 'train' or 'val', which the folds consist of; "
            "add a column split"
        )
    problems += shared_groups(chosen, tested(cases), manifest)
    if problems:
        raise ManifestError(problems)
    return chosen


def fold_cell(case: Case) -> str:
    """Return what the manifest's column `fold` says of a case; empty without the column."""
    return dict(case.extras).get(_COLUMN, "").strip()


def assign_folds(cases: Sequence[Case], count: int, seed: int, manifest: Path) -> dict[str, int]:
    """Return the fold of each case; groups stay whole.

    The folds are those of column `fold`; without the column, they have similar sizes.
    """
    if any(map(fold_cell, cases)):
        return _own_folds(cases, count, manifest)
    units = _units(cases)
    parts = deal(units, equal_shares(count), seed)
    if len(set(parts.values())) < count:
        raise ManifestError(
            f"{manifest} has {len(units)} groups (column group, else cases) with split "
            f"train or val, which are too few for {count} folds; use fewer folds"
        )
    return {cases[row].case_id: int(parts[unit.name]) for unit in units for row in unit.rows}


def _own_folds(cases: Sequence[Case], count: int, manifest: Path) -> dict[str, int]:
    """Return the fold of each case as column `fold` has it, or refuse the column."""
    found, problems = {}, []
    groups: dict[str, Case] = {}
    for case in cases:
        where, cell = f"{manifest} line {case.line}: case {case.case_id}", fold_cell(case)
        number = re.fullmatch(r"(\d{1,6})(?:[.,]0+)?", cell)  # spreadsheets may write 2.0
        if number is None or int(number[1]) >= count:
            problems.append(
                f"{where} has {f'fold {cell[:40]!r}' if cell else 'no fold'}, but with --folds "
                f"{count} each case of column {_COLUMN} needs a number from 0 to {count - 1}; "
                "correct the cell, use another --folds, or rename the column to divide anew"
            )
            continue
        found[case.case_id] = int(number[1])
        other = groups.setdefault(case.group, case) if case.group else case
        if found.get(other.case_id) != found[case.case_id]:
            problems.append(
                f"{where} has fold {cell}, but its group {case.group!r} is in fold "
                f"{found[other.case_id]} on line {other.line}; put each group into one fold"
            )
    empty = sorted(set(range(count)) - set(found.values()))
    if empty and not problems:
        problems.append(
            f"{manifest}: no case of column {_COLUMN} is in fold {empty[0]}, but --folds is "
            f"{count}; use as many --folds as the column has, numbered from 0 without a gap"
        )
    if problems:
        raise ManifestError(problems)
    return found


def make_fold(cases: Sequence[Case], count: int, number: int, seed: int, manifest: Path) -> Fold:
    """Return one fold of all cases of a manifest.

    A tenth of the cases outside the fold, by group, has split ``val``; the other
    cases have ``train``. If this gives ``val`` no case, or more than three tenths of
    the cases, only the smallest group has ``val``.
    """
    chosen = taking_part(cases, manifest)
    assigned = assign_folds(chosen, count, seed, manifest)
    if not 0 <= number < count:
        raise UsageError(f"fold {number} does not exist; choose 0 to {count - 1}")
    outside = [case for case in chosen if assigned[case.case_id] != number]
    units = _units(outside)
    if len(units) < 2:
        raise ManifestError(
            f"{manifest}: fold {number} of {count} leaves only one group, but one is needed to "
            "train with and another to choose the checkpoint; use at least three groups"
        )
    parts = deal(units, {"train": 1 - _CHOOSING, "val": _CHOOSING}, f"{seed} inside fold {number}")
    chosen_by = [unit for unit in units if parts[unit.name] == "val"]
    choosing_cases = sum(len(unit.rows) for unit in chosen_by)
    # A tenth of few groups may be no group, or a large group.
    if not 0 < choosing_cases <= _MOST_CHOOSING * len(outside):
        chosen_by = [min(units, key=lambda unit: (len(unit.rows), unit.name))]
    choosing = {row for unit in chosen_by for row in unit.rows}
    return Fold(
        number=number,
        count=count,
        seed=seed,
        cases=tuple(
            replace(case, split="val" if row in choosing else "train")
            for row, case in enumerate(outside)
        ),
        held_out=tuple(case for case in chosen if assigned[case.case_id] == number),
        own=any(map(fold_cell, chosen)),
    )


def _units(cases: Sequence[Case]) -> list[Unit]:
    """Return the groups of cases, which stay together."""
    together: dict[str, list[int]] = {}
    for row, case in enumerate(cases):
        together.setdefault(unit_name(case.group, case.case_id), []).append(row)
    return [Unit(name, tuple(rows)) for name, rows in together.items()]
