"""One binary NIfTI for each label, for programs that know no label maps."""

import numpy as np

from voxtile.nifti import write_mask
from voxtile.scan import Notice
from voxtile.volume import Volume

from .finished import Finished
from .terminology import file_stem


def write_binary(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/binary/<case_id>/<value>_<name>.nii.gz``, 1 inside and 0 outside.

    A region holds all of its values. A label without a voxel has its file too.
    """
    for label in case.labels:
        inside = np.isin(mask.array, label.values).astype(np.uint8)
        path = case.target("binary") / case.case_id / f"{file_stem(label)}.nii.gz"
        write_mask(path, mask.with_array(inside))
    return ()
