"""Write one binary NIfTI for each label, for programs that cannot read label maps."""

import numpy as np

from voxtile.errors import Notice
from voxtile.models.spec import Label
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask

from .finished import Finished
from .terminology import file_stem


def write_binary(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/binary/<case_id>/<value>_<name>.nii.gz``, 1 inside and 0 outside.

    For a region, all of its values are inside. A label without voxels has a file too.
    """
    for label in case.labels:
        inside = voxels_of(label, mask)
        path = case.target("binary") / f"{file_stem(label)}.nii.gz"
        write_mask(path, mask.with_array(inside.view(np.uint8)))
    return ()


def voxels_of(label: Label, mask: Volume) -> np.ndarray:
    """Return where a label map has a value of a label, as bool."""
    # A lookup table is ten times faster than np.isin on a large mask.
    table = np.zeros(np.iinfo(mask.array.dtype).max + 1, bool)
    table[[value for value in label.values if value < len(table)]] = True
    return np.asarray(table[mask.array])
