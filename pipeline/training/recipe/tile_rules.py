"""The rules for the tiles of a training run: what they show, their size, and how they bend."""

from collections.abc import Sequence
from math import ceil, floor, inf, log2, pi
from typing import Literal

from voxtile.models.spec import View
from voxtile.preparation.planes import in_plane, slice_axis
from voxtile.training.data.fingerprint import Fingerprint
from voxtile.volume import Shape2D

from .recipe import Recipe

_VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
# A tile shows this many diameters of a label's median part and of its largest, but has at least
# `_LEAST_TILE` pixels per side. A batch has many small tiles, each centred on another part.
_DIAMETERS, _LARGEST_DIAMETERS = 3, 1
_LEAST_TILE = 64
_LARGEST_TILE = 256
# Minimum of pixels of a plane's shorter side after all poolings; with fewer, most is padding.
_LEAST_BOTTOM = 5
# With five poolings each output depends on a whole plane of 256 pixels, and on where in it it is.
_LEAST_DEPTH, _MOST_DEPTH = 2, 5
# Largest standard deviation of elastic shifts, in diameters of the largest part of any label.
_ELASTIC_SHARE = 0.1


def _largest_planes(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> Shape2D:
    """Return the (rows, columns) that hold every plane of some views of every case."""
    shape = [int(spread.most) for spread in fingerprint.shape]
    if recipe.pixel_mm is not None:
        pairs = zip(fingerprint.extent_mm, recipe.pixel_mm, strict=True)
        shape = [max(1, round(extent.most / mm)) for extent, mm in pairs]
    planes = [in_plane(view, shape) for view in views]
    return int(max(rows for rows, _ in planes)), int(max(columns for _, columns in planes))


def shown(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> tuple[Shape2D, str]:
    """Return the (rows, columns) that a tile of these views should show, and why.

    A lesion looks the same everywhere. But several labels, such as vertebrae or a left and a
    right kidney, may differ only in their place, so their tiles show whole planes.
    """
    planes = _largest_planes(fingerprint, recipe, views)
    if len(fingerprint.labels) > 1:
        return planes, f"{planes[0]}x{planes[1]}"
    spacing = recipe.pixel_mm or [spread.median for spread in fingerprint.spacing_mm]
    usual_mm, largest_mm = diameter_mm(fingerprint, "median"), diameter_mm(fingerprint, "most")
    wanted_mm = max(_DIAMETERS * usual_mm, _LARGEST_DIAMETERS * largest_mm)
    finest = [min(in_plane(view, spacing)[axis] for view in views) for axis in (0, 1)]
    enough = [max(_LEAST_TILE, wanted_mm / mm) for mm in finest]
    if all(size <= most for size, most in zip(planes, enough, strict=True)):
        return planes, f"{planes[0]}x{planes[1]}"
    rows, columns = (ceil(min(size, most)) for size, most in zip(planes, enough, strict=True))
    return (rows, columns), (
        f"{planes[0]}x{planes[1]}, but {rows}x{columns} is enough around parts of {usual_mm:.2g} "
        f"mm (median), at most {largest_mm:.2g} mm"
    )


def diameter_mm(fingerprint: Fingerprint, size: Literal["median", "most"]) -> float:
    """Return the diameter of the median or the largest part; infinity if nothing is labelled.

    Of several labels, the largest of these diameters counts.
    """
    parts = (getattr(label.component_ml, size) for label in fingerprint.labels)
    volume_ml = max(parts, default=0) or inf
    diameter_mm = (6000 * volume_ml / pi) ** (1 / 3)
    for view in _VIEWS:
        if fingerprint.is_flat(view):  # a disc and not a ball
            thick_mm = fingerprint.spacing_mm[slice_axis(view)].median
            diameter_mm = (4000 * volume_ml / thick_mm / pi) ** (1 / 2)
    return float(diameter_mm)


def elastic(fingerprint: Fingerprint, recipe: Recipe, views: Sequence[View]) -> tuple[float, str]:
    """Return the standard deviation of elastic shifts, which follows pixels and structures."""
    spacing = recipe.pixel_mm or [spread.median for spread in fingerprint.spacing_mm]
    pixel_mm = min(mm for view in views for mm in in_plane(view, spacing))
    most_mm = _ELASTIC_SHARE * diameter_mm(fingerprint, "most")
    return float(f"{min(pixel_mm, most_mm):.3g}"), (
        f"elastic_mm: the finest pixel is {pixel_mm:.3g} mm, and a tenth of the largest part "
        + (f"{most_mm:.2g} mm" if most_mm < inf else "unknown")
    )


def depth_for(planes: Shape2D, tiles: Sequence[Shape2D]) -> tuple[int, str]:
    """Return the number of poolings after which a plane still has enough pixels."""
    shortest = min(min(tile) for tile in (planes, *tiles))
    most = floor(log2(max(shortest, _LEAST_BOTTOM) / _LEAST_BOTTOM))
    depth = min(_MOST_DEPTH, max(_LEAST_DEPTH, most))
    while depth > 1 and any(size % 2**depth for tile in tiles for size in tile):
        depth -= 1
    return depth, (
        f"at least {_LEAST_BOTTOM} of {shortest} pixels remain after it; {_LEAST_DEPTH} to "
        f"{_MOST_DEPTH}"
    )


def tile_for(
    fingerprint: Fingerprint, recipe: Recipe, depth: int
) -> tuple[Shape2D | dict[View, Shape2D], str]:
    """Return each network's tile: its largest plane or enough, rounded up for the poolings."""
    multiple = 2**depth
    cap = max(1, _LARGEST_TILE // multiple)

    def fitted(views: Sequence[View]) -> tuple[Shape2D, str]:
        size, words = shown(fingerprint, recipe, views)
        rows, columns = (multiple * min(cap, ceil(length / multiple)) for length in size)
        return (rows, columns), words

    why = f"at most {_LARGEST_TILE}"
    if len(fingerprint.labels) > 1:
        why += "; several labels may differ only in their place, so tiles show whole planes"
    if len(recipe.kinds) == 1:
        tile, plane = fitted(recipe.kinds[0])
        return tile, f"the largest plane is {plane}; {why}"
    tiles = {views[0]: fitted(views) for views in recipe.kinds}
    planes = ", ".join(f"{view} {plane}" for view, (_, plane) in tiles.items())
    return {view: tile for view, (tile, _) in tiles.items()}, f"the largest planes: {planes}; {why}"


def tile_pixels(recipe: Recipe) -> int:
    """Return the pixels of a tile, the mean over the networks, of a recipe with tiles."""
    sizes = [recipe.tile_of(kind) for kind in recipe.kinds]
    return sum(rows * columns for rows, columns in sizes) // len(sizes)
