"""A part of a manifest, for job arrays: shard i of n takes every n-th case."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from voxtile.errors import UsageError

_Item = TypeVar("_Item")
_FORM = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count` of a manifest.

    Parameters
    ----------
    index : int
        From 1.
    count : int

    Examples
    --------
    >>> Shard(2, 3).of(["a", "b", "c", "d", "e"])
    ('b', 'e')
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"shard {self.index}/{self.count}: the first is 1, the last is n")

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Self:
        """Return the shard that ``i/n`` names, or ``auto`` in a Slurm job array.

        Parameters
        ----------
        text : str
        environment : mapping of str to str
            Where Slurm says which task of the array this is.

        Raises
        ------
        ValueError
            If it is neither.
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
                    "(SLURM_ARRAY_TASK_ID, _MIN, _MAX, _COUNT); elsewhere pass --shard i/n"
                ) from None
            if last - first + 1 != count:
                raise UsageError(
                    f"the Slurm array has {count} tasks from {first} to {last}; "
                    "number them without gaps, such as --array=1-8"
                )
            return cls(task - first + 1, count)
        match = _FORM.fullmatch(text)
        if match is None:
            raise UsageError(f"--shard {text!r} must look like 2/8, or be auto")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[_Item]) -> tuple[_Item, ...]:
        """Return the items of this shard; neighbours go to different ones."""
        return tuple(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"
