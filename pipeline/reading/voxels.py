"""Read the raw voxels after a header; NIfTI, NRRD, MetaImage and MGH share this module.

The header promises a shape and a type. Memory is allocated only if the file
can hold them, and the file is read to its end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxtile.errors import CaseError, counted
from voxtile.machine.memory import free_memory_mb

from .scan import LabelPolicy, ReadPolicy
from .stream import SLACK, Stream


@dataclass(frozen=True, slots=True)
class Layout:
    """The voxels that a header promises, in Fortran order.

    Parameters
    ----------
    offset : int
        Bytes before the first voxel.
    paired : bool
        Whether the voxels are in a separate file.
    slack : int
        Bytes that may follow the last voxel.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int = 0
    paired: bool = False
    slack: int = SLACK

    @property
    def voxels(self) -> int:
        """Number of voxels, without overflow."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels."""
        return self.voxels * self.dtype.itemsize


Voxels = Callable[[Stream, Layout, int], np.ndarray]


def read_voxels(file: Stream, layout: Layout, consumed: int = 0) -> np.ndarray:
    """Return all voxels in storage order, and read the file to its end."""
    promised, free = promised_bytes(file, layout), free_memory_mb() * 1e6
    if layout.nbytes > free:
        raise CaseError(
            "too_large",
            f"{file.name} has {layout.nbytes / 2**30:.1f} GiB of voxels, but only "
            f"{free / 2**30:.1f} GiB of memory are free; read it on a larger machine, or crop it",
        )
    skipped = memoryview(bytearray(layout.offset - consumed))
    stored = np.empty(layout.voxels, layout.dtype)
    got = file.read_into(skipped) + file.read_into(stored.view(np.uint8).data)
    hold_promise(consumed + got, promised, file.name)
    file.finish(promised, layout.slack)
    return stored.reshape(layout.shape, order="F")


def no_voxels(file: Stream, layout: Layout, _: int = 0) -> np.ndarray:
    """Return zeros of the promised shape, after the size of the file was checked."""
    promised_bytes(file, layout)
    return zeros(layout)


def zeros(layout: Layout) -> np.ndarray:
    """Return zeros of the promised shape that take no memory."""
    return np.broadcast_to(np.zeros((), layout.dtype.newbyteorder("=")), layout.shape)


def promised_bytes(file: Stream, layout: Layout) -> int:
    """Return the number of bytes that the header promises, if the file can hold them."""
    promised = layout.offset + layout.nbytes
    file.require(promised, f"{layout.shape} voxels")
    return promised


def hold_promise(got: int, promised: int, name: str) -> None:
    """Refuse a file with fewer bytes than its header promises."""
    if got < promised:
        raise CaseError(
            "truncated",
            f"{name}: the header promises {promised} bytes, but the file has {got}; copy it again",
        )


def pick_volume(voxels: np.ndarray, policy: ReadPolicy, name: str) -> np.ndarray:
    """Return the (i, j, k) array of the only volume, or of the one that the policy chooses.

    The array does not keep the memory of the other volumes. Of a label map, all volumes are
    returned, along a fourth axis.
    """
    space = (*voxels.shape[:3], 1, 1)[:3]
    volumes = voxels.reshape((*space, -1), order="F")
    count = volumes.shape[3]
    chosen = policy.volume
    if isinstance(policy, LabelPolicy) and count > 1:
        return _native(volumes)
    if chosen is None:
        if count > 1:
            raise CaseError(
                "several_volumes",
                f"{name} holds {count} volumes (shape {voxels.shape}), but one is needed; "
                "keep one of them in the file",
                f"choose one with --volume 0 to --volume {count - 1}",
            )
        chosen = 0
    if not isinstance(chosen, int):
        raise CaseError(
            "no_such_volume",
            f"{name}: volume {chosen} was chosen, but the file does not say what its volumes are; "
            "choose one by its number, from 0",
        )
    if not 0 <= chosen < count:
        raise CaseError(
            "no_such_volume",
            f"{name}: volume {chosen} was chosen, but the file holds {counted(count, 'volume')}, "
            "numbered from 0; choose another",
        )
    picked = _native(volumes[..., chosen])
    takes_memory = any(picked.strides)
    return picked.copy(order="F") if count > 1 and takes_memory else picked


def _native(array: np.ndarray) -> np.ndarray:
    """Return an array in the byte order of this machine."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
