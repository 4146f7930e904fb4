"""What the network said of each voxel, kept while a run infers.

A file for each label, 0 to 1 as whole numbers with a slope: steps of 1/255 in
uint8, of 1/65535 in uint16. Planes are written to a file without a name as
they come, so memory holds one plane however many classes there are.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.inference import Watch
from voxtile.models.spec import ModelSpec, View
from voxtile.nifti import write_volume
from voxtile.planes import to_planes
from voxtile.volume import Volume, canonical_axes

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
        Of the planes that pass, from `voxtile.inference.deciding_view`.
    formats : sequence of str
        Those of `KINDS` among them are written; without any, planes pass by.
    """
    wanted = [name for name in formats if name in KINDS]
    if not wanted:
        yield iter
        return
    axes = canonical_axes(scan.affine)
    first = 1 if spec.activation == "softmax" else 0
    stores = {name: [_store(scan, KINDS[name], case) for _ in spec.labels] for name in wanted}

    def keep(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the planes, and keep each."""
        for index, plane in enumerate(planes):
            for name in wanted:
                top = np.float32(np.iinfo(KINDS[name]).max)
                for channel, store in enumerate(stores[name], start=first):
                    # Resampling may overshoot 0 and 1 by rounding.
                    scaled = np.rint(np.clip(plane[..., channel], 0, 1) * top)
                    to_planes(axes.apply(store), view)[index] = scaled
            yield plane

    yield keep
    for name in wanted:
        for label, store in zip(spec.labels, stores[name], strict=True):
            path = case.target(name) / case.case_id / f"{file_stem(label)}.nii.gz"
            write_volume(path, scan.with_array(store), slope=1 / np.iinfo(KINDS[name]).max)


def _store(scan: Volume, kind: type[np.unsignedinteger], case: Finished) -> np.ndarray:
    """Return zeros of a volume's shape on disk, gone when nobody holds them."""
    try:
        case.out.mkdir(parents=True, exist_ok=True)
        # Beside the results: the system's temporary folder is often small, or memory.
        with tempfile.TemporaryFile(dir=case.out) as file:
            return np.memmap(file, kind, "w+", shape=scan.shape, order="F")
    except OSError as error:
        raise EnvironmentFault(
            f"{case.out} has no room for probabilities ({error.strerror}); free some space, or run "
            "without --export probabilities"
        ) from error
