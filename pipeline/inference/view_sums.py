"""Add up the probabilities of several views of one volume, in bounded memory.

Each view has its own planes, so the mean at a voxel is known only after the
last view. The sums have 16 bits, and are in a file if memory is short. File
and memory give the same numbers, so the free memory does not change a mask.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.machine.scratch import ScratchArray
from voxtile.models.spec import View
from voxtile.preparation.planes import to_planes
from voxtile.volume import Shape3D

# The integer for a probability of 1. Larger integers leave room to round up half a step per view.
_ONE = 65000


class Accumulator:
    """Sums of probabilities over a canonical volume, exact to 1e-5 for each added view.

    They take at most `room_mb` of memory, in MB (10^6 bytes). Larger sums are in a file without a
    name, in `scratch` or in the system's folder for temporary files.
    """

    def __init__(
        self, shape: Shape3D, classes: int, *, room_mb: float, scratch: Path | None = None
    ) -> None:
        size = int(np.prod(shape)) * classes * 2
        self._file: ScratchArray | None = None
        if size <= room_mb * 1e6:
            self._sums: np.ndarray = np.zeros((*shape, classes), np.uint16)
            return
        try:
            self._file = ScratchArray((*shape, classes), np.uint16, scratch)
        except OSError as error:
            raise EnvironmentFault(
                f"{scratch or tempfile.gettempdir()} has no room for the sums of several views, "
                f"{size / 1e6:.0f} MB ({error.strerror}); free some space"
            ) from error
        self._sums = self._file.array

    def add(self, view: View, share: float, planes: Iterable[np.ndarray]) -> None:
        """Add a view's probabilities, float32 in [0, 1]; the shares of all views sum to 1."""
        for sums, plane in zip(to_planes(self._sums, view), planes, strict=True):
            # Rounding may leave a little less than 0 or more than 1, which would wrap around.
            within = np.clip(plane, 0, 1)
            sums += (within * np.float32(share * _ONE) + np.float32(0.5)).astype(np.uint16)
            self._let_go()

    def planes(self) -> Iterator[np.ndarray]:
        """Yield the sums of each axial plane, float32, shape (rows, columns, classes)."""
        for sums in to_planes(self._sums, "axial"):
            yield sums * np.float32(1 / _ONE)
            self._let_go()

    def _let_go(self) -> None:
        """Keep only the current plane of a file in memory."""
        if self._file is not None:
            self._file.let_go()
