"""Write the probabilities of each label during inference.

A file for each label holds 0 to 1 as whole numbers with a slope: steps of
1/255 in uint8, of 1/65535 in uint16. Planes are written to an anonymous file
and released, so memory holds one plane for any number of classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.inference.infer import Watch
from voxtile.machine.scratch import ScratchArray
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.planes import slice_axis, to_planes
from voxtile.volume import Volume, axes_to
from voxtile.writing.nifti import write_volume

from .finished import Finished
from .formats import PROBABILITIES
from .terminology import file_stem


@contextmanager
def keeping_probabilities(
    case: Finished, scan: Volume, spec: ModelSpec, view: View, formats: Sequence[str]
) -> Iterator[Watch]:
    """Yield a function that stores probabilities; write them if the block ends without error.

    Files are ``exports/<format>/<case_id>/<value>_<name>.nii.gz``, one for each
    label, on the scan's grid. With softmax, 1 minus their sum is the background.

    The voxels of `scan` are not used; `view` is the view of the planes, from
    `voxtile.inference.infer.deciding_view`. Formats that are not in `PROBABILITIES` are ignored.
    """
    wanted = [name for name in formats if name in PROBABILITIES]
    if not wanted:
        yield iter
        return
    axes = axes_to(scan.affine, spec.orientation)
    first = 1 if spec.activation == "softmax" else 0
    along = axes.order[slice_axis(view)]
    stores = {
        name: [_store(scan, PROBABILITIES[name], along, case) for _ in spec.labels]
        for name in wanted
    }

    def keep(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the planes, and store each."""
        for index, plane in enumerate(planes):
            for name in wanted:
                top = np.float32(np.iinfo(PROBABILITIES[name]).max)
                for channel, (file, array) in enumerate(stores[name], start=first):
                    # Resampling may overshoot 0 and 1 by rounding.
                    scaled = np.rint(np.clip(plane[..., channel], 0, 1) * top)
                    to_planes(axes.apply(array), view)[index] = scaled
                    file.let_go()
            yield plane

    yield keep
    for name in wanted:
        for label, (file, array) in zip(spec.labels, stores[name], strict=True):
            path = case.target(name) / f"{file_stem(label)}.nii.gz"
            slope = 1 / np.iinfo(PROBABILITIES[name]).max
            write_volume(path, scan.with_array(array), slope=slope, let_go=file.let_go)


def _store(
    scan: Volume, kind: type[np.unsignedinteger], along: int, case: Finished
) -> tuple[ScratchArray, np.ndarray]:
    """Return a file for the voxels of a scan, and a view of the file with the axes of the scan."""
    # The axis across the planes varies slowest in the file; k is next, if it is another axis. Then
    # each plane has its own memory pages, and few pages hold parts of many planes along k, which
    # is the order in which voxels are written later.
    order = (along, *(axis for axis in (2, 1, 0) if axis != along))
    try:
        case.out.mkdir(parents=True, exist_ok=True)
        # Beside the results, because the system's temporary folder is often small or in memory.
        file = ScratchArray(tuple(scan.shape[axis] for axis in order), kind, case.out)
    except OSError as error:
        raise EnvironmentFault(
            f"probabilities cannot be stored in {case.out} ({error.strerror}); free some space, or "
            "run without --export probabilities"
        ) from error
    return file, file.array.transpose(*np.argsort(order))
