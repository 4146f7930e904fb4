"""Count the weights in a ``model.weights.h5``, and refuse content of an attack.

HDF5 can name other files, and can say that an array is large without holding its
numbers. Only the structure is read here, not the numbers.
"""

import math
from io import BytesIO
from typing import Any

_MOST_OBJECTS = 100_000
_DEEPEST = 64
# Trained weights hardly compress; shuffle and gzip reduce rounded weights to a third.
_LARGEST_RATIO = 16
_ALLOWANCE = 16 * 2**20
_FILTERS = {1, 2, 3}  # gzip, shuffle, a checksum


def count_weights(content: bytes, size: int) -> int:
    """Return how many numbers an HDF5 file holds.

    `size` is the archive's size in bytes. ValueError if the content is not HDF5, refers to other
    files, or would become far larger in memory.
    """
    import h5py

    try:
        with h5py.File(BytesIO(content), "r") as file:
            return _count(file, _LARGEST_RATIO * size + _ALLOWANCE)
    except ValueError:
        raise
    except Exception as error:  # from the C library
        raise ValueError(f"its weights are not valid HDF5 ({type(error).__name__})") from error


def _count(file: Any, most_bytes: int) -> int:
    """Return how many numbers the file holds; each dataset is counted once."""
    import h5py

    waiting: list[tuple[Any, int]] = [(file, 0)]
    seen: set[int] = set()
    numbers = total = objects = 0
    while waiting:
        group, depth = waiting.pop()
        _check_attributes(group)
        for name in group:
            objects += 1
            if objects > _MOST_OBJECTS or depth > _DEEPEST:
                raise ValueError("its weights have too many groups")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError("its weights have a link, which may lead to another file")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                raise ValueError("its weights have one object under two names")
            seen.add(place)
            if isinstance(item, h5py.Group):
                waiting.append((item, depth + 1))
                continue
            _check_dataset(item)
            numbers += item.size
            total += item.size * item.dtype.itemsize
            if total > most_bytes:
                raise ValueError(
                    f"its weights would take more than {most_bytes / 1e6:.0f} MB, far more than "
                    "the file"
                )
    return numbers


def _check_dataset(item: Any) -> None:
    """Refuse a dataset that is not a plain array in this file."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        raise ValueError("its weights have an object that is not an array")
    _check_attributes(item)
    if item.dtype.kind not in "biuf" or item.dtype.hasobject or item.dtype.itemsize > 8:
        raise ValueError("its weights have an array that is not of plain numbers")
    plan = item.id.get_create_plist()
    if item.is_virtual or plan.get_external_count():
        raise ValueError("its weights are partly in another file, outside of its checksum")
    if item.shape is None:
        raise ValueError("its weights have an array without a shape")
    if any(plan.get_filter(index)[0] not in _FILTERS for index in range(plan.get_nfilters())):
        raise ValueError("its weights are compressed in a way that Keras does not use")
    if item.chunks is not None and math.prod(item.chunks) > max(4 * item.size, 2**20):
        raise ValueError("its weights have a chunk that is larger than its array")


def _check_attributes(item: Any) -> None:
    """Refuse attributes that refer to other objects, or are large."""
    import h5py

    if len(item.attrs) > 64:
        raise ValueError("its weights have too many attributes")
    for name in item.attrs:
        attribute = h5py.h5a.open(item.id, name.encode())
        kind = attribute.get_type()
        if kind.get_class() in (h5py.h5t.REFERENCE, h5py.h5t.VLEN, h5py.h5t.COMPOUND):
            raise ValueError("its weights have an attribute that refers to other objects")
        if attribute.get_storage_size() > 2**20:
            raise ValueError("its weights have an attribute of more than 1 MiB")
