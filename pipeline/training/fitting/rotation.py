"""Which cases are in the memory of a device at which step, if not all of them fit.

    step    0 ...... 95 | 96 ..... 191 | 192 ...
    cases   a, d, e     | b, c, f      | a, b, f ...

A round has each case once, in random groups. A group stays for a number of steps that is
proportional to the number of its cases, and each step draws from these alone. So in a round each
case has the same expected number of tiles, as if every step drew from all cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Steps of a round for each case: so many that the next group is read and sent meanwhile, and so
# few that a fit has several rounds.
STEPS = 32
# Sets the generator of groups apart from those of batches.
_SALT = 0x67726F75


@dataclass(frozen=True, slots=True)
class Rotation:
    """The groups of cases of a fit; they depend on the seed, the sizes and the room alone."""

    sizes: tuple[int, ...]  # of each case
    room: int  # for the cases of a group, at least the largest size
    seed: int = 0

    def at(self, step: int) -> tuple[int, tuple[int, ...]]:
        """Return the first step of a step's group, and the cases of the group."""
        if sum(self.sizes) <= self.room:
            return 0, tuple(range(len(self.sizes)))
        number, left = divmod(step, STEPS * len(self.sizes))
        begin = step - left
        for group in _groups(self, number):
            if step < begin + STEPS * len(group):
                return begin, group
            begin += STEPS * len(group)
        raise AssertionError("the groups of a round have all its steps")


@lru_cache(maxsize=8)
def _groups(rotation: Rotation, number: int) -> tuple[tuple[int, ...], ...]:
    """Return the groups of a round: as few as possible, with about equal sizes."""
    sizes, room = rotation.sizes, rotation.room
    rng = np.random.default_rng((_SALT, rotation.seed, number))
    order: Sequence[int] = rng.permutation(len(sizes)).tolist()
    for count in range(-(-sum(sizes) // room), len(sizes) + 1):
        groups: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for case in order:
            place = filled.index(min(filled))
            groups[place].append(case)
            filled[place] += sizes[case]
        if max(filled) <= room:
            return tuple(tuple(sorted(group)) for group in groups if group)
    return tuple((case,) for case in order)
