"""The options for kinds of sources: of `build_manifest`, and of a BIDS App.

The command line makes its options from these classes, so this module imports nothing slow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["participant", "group"]  # of a BIDS App


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a source does not say; each option is only for the kinds of sources named below.

    Parameters
    ----------
    labels : Path, optional
        nifti: folder of references, named as their images.
    label_pattern : str, optional
        nifti: name of a reference, such as {case}_seg. bids: its path, such as
        derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz.
    suffixes : tuple of str
        bids: which images, such as T1w; several are channels.
    root : Path, optional
        monai: folder that relative paths start from (default: the list's).
    fold : int, optional
        nnunet: write this fold of splits_final.json as splits train and val.
    gaps : bool
        bids, nifti: keep cases that lack a channel, with an empty cell.
    """

    labels: Path | None = None
    label_pattern: str | None = None
    suffixes: tuple[str, ...] = ()
    root: Path | None = None
    fold: int | None = None
    gaps: bool = False


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
