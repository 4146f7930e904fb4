"""Arrays larger than the memory there is to keep them in: a file that nobody sees."""

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class ScratchArray:
    """An array of zeros in a file without a name, gone when nobody holds it.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    folder : Path, optional
        Where the file is; the system's folder for temporary files unless given.

    Raises
    ------
    OSError
        If the file cannot be made, or the disk has no room for all of it:
        a page that finds none later would end the process.
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
        """Leave what is in the file to the system's cache, which shrinks when it must.

        What was touched since counts as memory of this process until then.
        """
        self._map.madvise(mmap.MADV_DONTNEED)
