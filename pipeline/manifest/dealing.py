"""Divide cases into parts without dividing groups: for splits, folds and cross-validation.

A unit stays together: all cases of one group, or a single case without a
group. Units are ordered by a hash of seed and name, so that the result does
not depend on the order of rows, a random generator or the machine. They are
then given out one by one, each to the part that is furthest below its share so far:

    shares     train 0.6, val 0.2, test 0.2
    unit       1      2    3      4     5      6      7    8      9     10
    goes to    train  val  train  test  train  train  val  train  test  train

With strata, the units of one stratum are given out one after the other. In any
sequence of units, each part gets nearly its share, so every stratum, even a
small one, is divided in the same proportions as the whole.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxtile.errors import UsageError, counted


@dataclass(frozen=True, slots=True)
class Unit:
    """Cases that stay together, under a name from `unit_name`."""

    name: str
    rows: tuple[int, ...]
    stratum: str = ""


def unit_name(group: str | None, case_id: str) -> str:
    """Return the name of the unit that a case belongs to.

    A case without a group is never joined with a group of the same name.

    Examples
    --------
    >>> unit_name("p1", "scan1"), unit_name("", "p1")
    ('group p1', 'case p1')
    """
    return f"group {group}" if group else f"case {case_id}"


def equal_shares(count: int) -> dict[str, float]:
    """Return the share of cases for each fold (all equal); folds are numbered from 0."""
    if count < 2:
        raise UsageError(f"{counted(count, 'fold')} given; at least 2 are needed")
    return {str(number): 1 / count for number in range(count)}


def deal(units: Sequence[Unit], shares: Mapping[str, float], seed: int | str) -> dict[str, str]:
    """Return the part for each unit's name; `shares` has each part's fraction of the cases."""
    dealt = 0
    have = dict.fromkeys(shares, 0)
    parts = {}
    # Units are not sorted by size: large groups would always go to the part with the largest share.
    for unit in sorted(units, key=lambda unit: (unit.stratum, _rank(seed, unit.name))):
        dealt += len(unit.rows)
        part = max(shares, key=lambda name: shares[name] * dealt - have[name])
        parts[unit.name] = part
        have[part] += len(unit.rows)
    return parts


def _rank(seed: int | str, name: str) -> str:
    """Return a text to sort names by, in an order that depends only on the seed."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
