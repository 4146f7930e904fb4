"""A part of a manifest, for job arrays: shard i of n has every n-th case."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from voxtile.errors import UsageError

_Item = TypeVar("_Item")
_FORM = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index`, counted from 1, of the `count` parts of a manifest.

    Examples
    --------
    >>> Shard(2, 3).of(["a", "b", "c", "d", "e"])
    ('b', 'e')
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"shard {self.index}/{self.count}: i of i/n must be 1 to n")

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Return the shard that ``i/n`` names, or ``auto`` in a Slurm job array.

        `environment` has Slurm's variables. ValueError if the text is neither, or the job array is
        not complete.
        """
        if text == "auto":
            try:
                first = int(environment["SLURM_ARRAY_TASK_MIN"])
                last = int(environment["SLURM_ARRAY_TASK_MAX"])
                task = int(environment["SLURM_ARRAY_TASK_ID"])
                count = int(environment["SLURM_ARRAY_TASK_COUNT"])
            except (KeyError, ValueError):
                raise UsageError(
                    "--shard auto needs the variables of a Slurm job array "
                    "(SLURM_ARRAY_TASK_ID, _MIN, _MAX, _COUNT); outside Slurm, pass --shard i/n"
                ) from None
            if last - first + 1 != count:
                raise UsageError(
                    f"the Slurm array has {count} tasks from {first} to {last}; "
                    "number them without gaps, such as --array=1-8"
                )
            return cls(task - first + 1, count)
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"--shard {text!r} must be auto or i/n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[_Item]) -> tuple[_Item, ...]:
        """Return the items of this shard; neighbours are in different shards."""
        return tuple(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
