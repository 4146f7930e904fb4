"""The options of `build_manifest` for kinds of sources.

The command line makes its options from this class, so this module imports nothing slow.
"""

from dataclasses import dataclass
from pathlib import Path


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
    """

    labels: Path | None = None
    label_pattern: str | None = None
    suffixes: tuple[str, ...] = ()
    root: Path | None = None
    fold: int | None = None
