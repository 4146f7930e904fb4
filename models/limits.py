"""How large the arrays of a network may be, compared with its tile.

The full-size U-Net has at most 128 numbers for each pixel of a tile in one
array, and 1,600 in all arrays together. A file that asks for far more is an
attack or an error, and is refused before anything is allocated.
"""

import math
from collections.abc import Iterable, Sequence

from voxtile.errors import ModelError

# Maximum of numbers per pixel of a tile, in one array and in all arrays together.
_MOST_IN_ONE = 4096
_MOST_IN_ALL = 262_144
# A smaller tile counts as this many pixels, because many channels may be tried on a small tile.
_LEAST_PIXELS = 4096


def check_sizes(
    arrays: Iterable[tuple[str, Sequence[int]]], tile: tuple[int, int], name: str
) -> None:
    """Refuse a network with absurdly large arrays.

    `arrays` has the name and the shape of each array for one tile; `name` is the file's name, for
    messages. ModelError if one array, or all together, would be too large.
    """
    pixels = max(math.prod(tile), _LEAST_PIXELS)
    whole = 0
    for array, shape in arrays:
        size = math.prod(shape)
        whole += size
        if min(shape, default=0) < 0 or size > _MOST_IN_ONE * pixels:
            raise ModelError(
                f"{name} would make an array of {size:.3g} numbers ({array[:100]!r}) from a tile "
                f"of {tile[0]}x{tile[1]}; at most {_MOST_IN_ONE * pixels:.3g} are allowed"
            )
        if whole > _MOST_IN_ALL * pixels:
            raise ModelError(
                f"{name} would make arrays of more than {_MOST_IN_ALL * pixels:.3g} numbers from a "
                f"tile of {tile[0]}x{tile[1]}, which is not allowed"
            )
