"""Arrays that are larger than the memory, in a file without a name."""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class ScratchArray:
    """An array of zeros in a file without a name, which disappears with the array.

    OSError if the disk has no space for the whole array: later, a page without space
    would end the process. If `folder` is None, the system's temporary folder is used.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, folder: Path | None) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self.array = np.frombuffer(self._map, dtype).reshape(shape)

    def let_go(self) -> None:
        """Leave the contents to the system's file cache, which shrinks if memory is needed.

        Until then, pages that were used count as memory of this process.
        """
        self._map.madvise(mmap.MADV_DONTNEED)
