"""The options for the sources of `build_manifest`.

The command line makes its options from it, so this module imports nothing heavy.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a source does not say; each option is for some kinds of sources.

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
    """

    labels: Path | None = None
    label_pattern: str | None = None
    suffixes: tuple[str, ...] = ()
    root: Path | None = None
