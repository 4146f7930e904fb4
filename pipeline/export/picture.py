"""Write the mask of a picture as PNG: the picture's rows and columns, and label values as grey."""

from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from voxtile.errors import CaseError, Notice
from voxtile.label_values import label_type
from voxtile.machine.files import replacing
from voxtile.volume import Volume

from .finished import Finished


def write_png(case: Finished, mask: Volume) -> tuple[Notice, ...]:
    """Write ``exports/png/<case_id>.png``, with 8 bits, or 16 if a value is above 255.

    A run always writes it for each picture.
    """
    if not is_plane(mask):
        raise CaseError(
            "not_a_picture",
            f"a PNG holds one plane of columns and rows, but the mask has shape {mask.shape} "
            f"({mask.orientation}); export another format",
        )
    rows = mask.array[:, :, 0].T
    content, origin = BytesIO(), PngInfo()
    origin.add_text("Software", "voxtile")  # tells it from files of other programs
    picture = Image.fromarray(np.ascontiguousarray(rows, label_type([int(rows.max())])))
    picture.save(content, "PNG", pnginfo=origin)
    with replacing(case.target("png")) as file:
        file.write(content.getvalue())
    return ()


def is_plane(mask: Volume) -> bool:
    """Whether a mask is one plane with the axes that a picture has after reading."""
    straight = np.count_nonzero(mask.affine[:3, :3]) == 3
    return mask.shape[2] == 1 and straight and mask.orientation == "LPS"
