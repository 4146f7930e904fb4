"""What the network said of each voxel, kept while a run infers.

A file for each label, 0 to 1 as whole numbers with a slope: steps of 1/255 in
uint8, of 1/65535 in uint16. Planes are written to a file without a name as
they come and let go, so memory holds one plane however many classes there are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.inference.infer import Watch
from voxtile.machine.scratch import ScratchArray
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.planes import slice_axis, to_planes
from voxtile.volume import Volume, canonical_axes
from voxtile.writing.nifti import write_volume

from .finished import Finished
from .terminology import file_stem

KINDS: dict[str, type[np.unsignedinteger]] = {
    "probabilities": np.uint8,
    "probabilities16": np.uint16,
}


@contextmanager
def keeping_probabilities(
    case: Finished, scan: Volume, spec: ModelSpec, view: View, formats: Sequence[str]
) -> Iterator[Watch]:
    """Give a watch for inference, and write what it saw when the block ends well.

    Files are ``exports/<format>/<case_id>/<value>_<name>.nii.gz``, one for each
    label and on the scan's grid. Background is what is left to 1 (softmax).

    Parameters
    ----------
    case : Finished
    scan : Volume
        Its voxels do not matter.
    spec : ModelSpec
    view : View
        Of the planes that pass, from `voxtile.inference.infer.deciding_view`.
    formats : sequence of str
        Those of `KINDS` among them are written; without any, planes pass by.
    """
    wanted = [name for name in formats if name in KINDS]
    if not wanted:
        yield iter
        return
    axes = canonical_axes(scan.affine)
    first = 1 if spec.activation == "softmax" else 0
    along = axes.order[slice_axis(view)]
    stores = {
        name: [_store(scan, KINDS[name], along, case) for _ in spec.labels] for name in wanted
    }

    def keep(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the planes, and keep each."""
        for index, plane in enumerate(planes):
            for name in wanted:
                top = np.float32(np.iinfo(KINDS[name]).max)
                for channel, (file, array) in enumerate(stores[name], start=first):
                    # Resampling may overshoot 0 and 1 by rounding.
                    scaled = np.rint(np.clip(plane[..., channel], 0, 1) * top)
                    to_planes(axes.apply(array), view)[index] = scaled
                    file.let_go()
            yield plane

    yield keep
    for name in wanted:
        for label, (file, array) in zip(spec.labels, stores[name], strict=True):
            path = case.target(name) / case.case_id / f"{file_stem(label)}.nii.gz"
            slope = 1 / np.iinfo(KINDS[name]).max
            write_volume(path, scan.with_array(array), slope=slope, let_go=file.let_go)


def _store(
    scan: Volume, kind: type[np.unsignedinteger], along: int, case: Finished
) -> tuple[ScratchArray, np.ndarray]:
    """Return a file for the voxels of a scan, and a view of it with the axes of the scan.

    The axis `along` which planes come is the slowest in the file and k the
    next, if it is another: a plane then touches its own pages only, and few
    pages hold parts of many planes along k, which are written later.
    """
    order = (along, *(axis for axis in (2, 1, 0) if axis != along))
    try:
        case.out.mkdir(parents=True, exist_ok=True)
        # Beside the results: the system's temporary folder is often small, or memory.
        file = ScratchArray(tuple(scan.shape[axis] for axis in order), kind, case.out)
    except OSError as error:
        raise EnvironmentFault(
            f"{case.out} has no room for probabilities ({error.strerror}); free some space, or run "
            "without --export probabilities"
        ) from error
    return file, file.array.transpose(*np.argsort(order))
