"""Draw a case as one picture: three planes with the outlines of prediction and reference.

    +---------+---------+---------+
    | axial   | coronal | sagittal|     each through the plane with the most labelled voxels
    |  A      |  S      |  S      |     patient's right on the left, as radiologists read
    | R   L   | R   L   | A   P   |
    +---------+---------+---------+
    | the same planes with errors |     only with a reference
    +---------+---------+---------+
    | name    name    ...         |
    +-----------------------------+

The prediction has a solid line, the reference a dashed one, both in the
colour of the label. Errors are areas in the colours of `error_map`. No display
is needed.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from voxtile.machine.files import replacing
from voxtile.models.spec import Label
from voxtile.volume import Volume, canonical

from .error_map import ERRORS, error_map

# Side of a panel, in pixels: enough for a plane of 512 x 512, and three fit on a page.
_PANEL = 384
_LINE = 20
_DASH = 4
# Percentiles of the plane that become black and white, so that single bright voxels do not count.
_BLACK, _WHITE = 1.0, 99.0
_VOXELS_TO_COUNT = 2**21
_PAPER, _INK = (16, 16, 16), (235, 235, 235)
# Axis that a plane is perpendicular to, and the letters of its left, right, top and bottom edge.
_VIEWS = ((2, "RLAP"), (1, "RLSI"), (0, "APSI"))


def montage(
    image: Volume, prediction: Volume, labels: Sequence[Label], *, reference: Volume | None = None
) -> Image.Image:
    """Draw a case.

    The image is (i, j, k), or (i, j, k, channels); then the first channel is shown. Prediction and
    reference hold integers on its grid.
    """
    scan = canonical(image)
    voxels = scan.array if scan.array.ndim == 3 else scan.array[..., 0]
    masks = [canonical(mask).array for mask in (prediction, reference) if mask is not None]
    chosen = _busiest_planes(masks)
    legend = max(top for _, top, _ in _legend_positions(labels)) + _LINE
    above = len(masks) * _PANEL  # a second row shows the errors
    # If there is only one plane, the other views would be lines.
    flat = [view for view in _VIEWS if scan.shape[view[0]] == 1]
    shown = Image.new("RGB", (3 * _PANEL, above + legend), _PAPER)
    for column, (axis, edges) in enumerate(flat[:1] or _VIEWS):
        plane, *outlined = (shown_plane(array, axis, chosen[axis]) for array in (voxels, *masks))
        spacing = [size for other, size in enumerate(scan.spacing_mm) if other != axis]
        for row in range(len(masks)):
            panel = _panel(plane, outlined, labels, (spacing[1], spacing[0]), errors=row == 1)
            if not image.is_picture:
                _letter(panel, edges)
            shown.paste(panel, (column * _PANEL, row * _PANEL))
    _legend(shown, above, labels, has_reference=reference is not None)
    return shown


def write_montage(path: Path, picture: Image.Image) -> None:
    """Write a picture as a PNG file, completely or not at all."""
    content = BytesIO()
    picture.save(content, "PNG", compress_level=3)
    with replacing(path) as file:
        file.write(content.getvalue())


def _busiest_planes(masks: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Return for each axis the plane with the most labelled voxels; without labels, the middle."""
    shape = masks[0].shape
    # Every n-th voxel is counted. All are counted only if that misses a small structure.
    for most in (_VOXELS_TO_COUNT, np.inf):
        step = max(1, int(np.ceil((masks[0].size / most) ** (1 / 3))))
        marked = np.zeros([-(-size // step) for size in shape], bool)
        for mask in masks:
            marked |= mask[::step, ::step, ::step] != 0
        if marked.any():
            axes = [tuple({0, 1, 2} - {axis}) for axis in range(3)]
            return tuple(int(marked.sum(axis=others).argmax()) * step for others in axes)
    return tuple(size // 2 for size in shape)


def shown_plane(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Return a plane of a canonical array as radiologists see it, rows from the top.

    Columns run along the first in-plane axis and rows along the second, both
    backwards: R (or A) is on the left and S (or A) is up.
    """
    # np.take would first copy a whole array in Fortran order.
    plane: np.ndarray = np.moveaxis(array, axis, 0)[index]
    return plane.T[::-1, ::-1]


def _panel(
    plane: np.ndarray,
    masks: Sequence[np.ndarray],
    labels: Sequence[Label],
    spacing_mm: tuple[float, float],
    *,
    errors: bool,
) -> Image.Image:
    """Return one plane with outlines or errors, fitted into a square panel."""
    sizes = [count * size for count, size in zip(plane.shape, spacing_mm, strict=True)]
    rows, columns = (max(1, round(_PANEL * size / max(sizes))) for size in sizes)
    picture = Image.fromarray(_grey(plane)).resize((columns, rows), Image.Resampling.BILINEAR)
    pixels = np.repeat(np.asarray(picture)[..., np.newaxis], 3, axis=2)
    # The nearest pixel, so that an outline follows the voxels of the mask.
    row, column = (
        np.minimum((np.arange(pixel) + 0.5) * size / pixel, size - 1).astype(int)
        for pixel, size in zip((rows, columns), plane.shape, strict=True)
    )
    large = [mask[row][:, column] for mask in masks]
    if errors:
        _draw_errors(pixels, large, labels)
    else:
        _draw_outlines(pixels, large, labels)
    panel = Image.new("RGB", (_PANEL, _PANEL), _PAPER)
    panel.paste(Image.fromarray(pixels), ((_PANEL - columns) // 2, (_PANEL - rows) // 2))
    return panel


def _draw_outlines(
    pixels: np.ndarray, masks: Sequence[np.ndarray], labels: Sequence[Label]
) -> None:
    """Draw the outlines of the prediction, and dashed ones of the reference, onto a plane."""
    dashes = np.add.outer(*map(np.arange, pixels.shape[:2])) // _DASH % 2 == 0
    # The reference is drawn first, so that the solid line of the prediction is seen if both agree.
    for mask, dashed in reversed(list(zip(masks, (False, True), strict=False))):
        for label in labels:
            outline = _outline(np.isin(mask, label.values))
            pixels[outline & dashes if dashed else outline] = ImageColor.getrgb(label.color)


def _draw_errors(pixels: np.ndarray, masks: Sequence[np.ndarray], labels: Sequence[Label]) -> None:
    """Mix the colours of errors into a plane; values without a label are background."""
    values = [value for label in labels for value in label.values]
    errors = error_map(*(np.where(np.isin(mask, values), mask, 0) for mask in masks))
    for number, (_, color) in enumerate(ERRORS, start=1):
        inside = errors == number
        pixels[inside] = (pixels[inside] * 0.4 + np.multiply(ImageColor.getrgb(color), 0.6)).round()


def _grey(plane: np.ndarray) -> np.ndarray:
    """Return a plane as uint8; two percentiles become black and white."""
    low, high = np.percentile(plane, (_BLACK, _WHITE))
    if high <= low:
        low, high = float(plane.min()), float(plane.max())
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray(((plane.astype(np.float64) - low) * scale).clip(0, 255).astype(np.uint8))


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask with a neighbour outside; the panel's edge is not outside."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return np.asarray(mask & ~inside)


def _letter(panel: Image.Image, edges: str) -> None:
    """Write the direction in the patient at each edge of a panel."""
    draw = ImageDraw.Draw(panel)
    half, end = _PANEL // 2, _PANEL - 4
    positions = (((4, half), "lm"), ((end, half), "rm"), ((half, 4), "mt"), ((half, end), "mb"))
    for letter, (position, anchor) in zip(edges, positions, strict=True):
        draw.text(position, letter, _INK, _font(), anchor, stroke_width=2, stroke_fill=_PAPER)


def _legend_positions(labels: Sequence[Label]) -> Iterator[tuple[int, int, Label]]:
    """Yield the position of each label's name, from left to right and top to bottom."""
    left, top = 8, _LINE
    for label in labels:
        width = 24 + int(_font().getlength(label.name[:40]))
        if left + width > 3 * _PANEL:
            left, top = 8, top + _LINE
        yield left, top, label
        left += width + 12


def _legend(
    picture: Image.Image, above: int, labels: Sequence[Label], *, has_reference: bool
) -> None:
    """Write below the panels what the lines and colours mean."""
    draw = ImageDraw.Draw(picture)
    lines = "solid: prediction" + (", dashed: reference" if has_reference else "")
    draw.text((8, above + _LINE // 2), lines, fill=_INK, font=_font(), anchor="lm")
    names = [
        (left, top, label.name[:40], label.color) for left, top, label in _legend_positions(labels)
    ]
    if has_reference:
        names += [(_PANEL + 150 * place, 0, *error) for place, error in enumerate(ERRORS)]
    for left, top, name, color in names:
        middle = above + top + _LINE // 2
        draw.rectangle((left, middle - 5, left + 10, middle + 5), fill=color)
        draw.text((left + 16, middle), name, fill=_INK, font=_font(), anchor="lm")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of Pillow, so that no font of the machine is needed."""
    return ImageFont.load_default(13)
