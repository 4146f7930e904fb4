"""The options of a BIDS App: which images of a data set are segmented.

The command line makes its options from this class, so this module imports nothing slow.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["participant", "group"]


@dataclass(frozen=True, slots=True)
class BidsChoice:
    """Which images of a BIDS data set are used; by default all.

    Parameters
    ----------
    participants : tuple of str
        Only these participants, such as 01,02.
    sessions : tuple of str
        Only these sessions, such as pre,post.
    runs : tuple of str
        Only these runs, such as 1,2.
    suffixes : tuple of str
        Which images, such as T1w; several are channels.
    label_pattern : str, optional
        Path of a reference, such as derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    label_pattern: str | None = None

    @property
    def entities(self) -> dict[str, tuple[str, ...]]:
        """The values of each entity that an image must have, with or without ``sub-``."""
        wanted = {"sub": self.participants, "ses": self.sessions, "run": self.runs}
        return {
            entity: tuple(value.removeprefix(f"{entity}-") for value in values)
            for entity, values in wanted.items()
            if values
        }
