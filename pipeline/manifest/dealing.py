"""Divide what must stay together into parts: for splits, folds, and the folds of a training.

A unit is what must stay together: all cases of one group, or a single case
without one. Units are ordered by a hash of seed and name, so nothing depends
on the order of rows, on a random generator or on the machine. They are then
dealt one by one, each to the part that lacks most of its share so far:

    shares     train 0.6, val 0.2, test 0.2
    unit       1      2    3      4     5      6      7    8      9     10
    goes to    train  val  train  test  train  train  val  train  test  train

With strata, those of one stratum are dealt one after the other. The counts of
every part over any run of units stay close to its share of the run, so each
stratum is divided like the whole, however small it is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxtile.errors import UsageError


@dataclass(frozen=True, slots=True)
class Unit:
    """What stays together.

    Parameters
    ----------
    name : str
        From `unit_name`.
    rows : tuple of int
        Which cases it is made of.
    stratum : str
    """

    name: str
    rows: tuple[int, ...]
    stratum: str = ""


def unit_name(group: str | None, case_id: str) -> str:
    """Return the name of the unit that a case belongs to.

    A case without a group never meets a group of its id's name.

    Examples
    --------
    >>> unit_name("p1", "scan1"), unit_name("", "p1")
    ('group p1', 'case p1')
    """
    return f"group {group}" if group else f"case {case_id}"


def equal_shares(count: int) -> dict[str, float]:
    """Return the shares of equal folds, numbered from 0.

    Raises
    ------
    ValueError
        If there are fewer than two.
    """
    if count < 2:
        raise UsageError(f"{count} folds; at least 2 are needed")
    return {str(number): 1 / count for number in range(count)}


def deal(units: Sequence[Unit], shares: Mapping[str, float], seed: int | str) -> dict[str, str]:
    """Return the part of each unit.

    Parameters
    ----------
    units : sequence of Unit
        In any order.
    shares : mapping of str to float
        For each part its fraction of the cases.
    seed : int or str

    Returns
    -------
    dict of str to str
        By the unit's name: the part that lacked most of its share of what was
        dealt before.
    """
    dealt = 0
    have = dict.fromkeys(shares, 0)
    parts = {}
    # Not by size: large groups would always go to the part with the largest share.
    for unit in sorted(units, key=lambda unit: (unit.stratum, _rank(seed, unit.name))):
        dealt += len(unit.rows)
        part = max(shares, key=lambda name: shares[name] * dealt - have[name])
        parts[unit.name] = part
        have[part] += len(unit.rows)
    return parts


def _rank(seed: int | str, name: str) -> str:
    """Return a number that puts names in an order that only the seed decides."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()
