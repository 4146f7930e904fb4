"""The result of a reader, and its options."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from voxtile.errors import Notice, UsageError

if TYPE_CHECKING:
    from voxtile.volume import Volume

# The channels of a picture with colours.
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A volume as it was read, with notices.

    Parameters
    ----------
    regridded : bool
        Whether the volume is on a grid that differs from the source's (tilt
        undone, gaps filled), so that a mask fits only this volume.
    channels : tuple of str
        Names along the last axis of a picture with colours; else empty.
    """

    volume: "Volume"
    notices: tuple[Notice, ...] = ()
    regridded: bool = False
    channels: tuple[str, ...] = ()


def off_grid(what: str, name: str, voxels: float) -> Notice:
    """Return the notice about a mask or channel that is off the scan's grid, but tolerably."""
    return Notice(
        f"{what}_off_grid",
        f"{name} is up to {voxels:.2g} voxels away from the image; its voxels were taken as those "
        "of the image",
    )


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """How to read a scan that can be read in several ways; by default it is refused.

    Parameters
    ----------
    nan : {"refuse", "fill"}
        NaN and infinite voxels: refuse the scan, or fill them with its smallest finite value.
    volume : int or str, optional
        Which volume of a 4D scan to read: its number, counting from 0, or in DICOM a value that
        distinguishes it from the other volumes, such as b=1000, "phase 3" or water.
    series : str, optional
        Which DICOM series to read where there are several: id=..., a SeriesInstanceUID, or rules
        such as modality=CT, description=t1*, slices>=20, largest, separated by commas.
    missing_slices : {"refuse", "interpolate"}
        Gaps in a DICOM stack: refuse the scan, or interpolate between the neighbouring slices.
    duplicates : {"refuse", "first"}
        DICOM slices at one position that differ: refuse the scan, or use the first in name order.

        Identical slices are never refused.
    tilt : {"refuse", "native", "resample"}
        Gantry tilt: refuse the scan, keep the slices as acquired on a sheared grid (native), or
        resample them onto an upright grid.
    pages : {"refuse", "stack"}
        Pictures (TIFF) with several pages: refuse the scan, or read the pages as its slices.
    pixel_mm : tuple of float
        Size of a picture's pixels, for all axes or along (columns, rows, pages); empty for 1 mm.

    Raises
    ------
    UsageError
        If a value is not one of those listed.
    """

    nan: Literal["refuse", "fill"] = "refuse"
    volume: int | str | None = None
    series: str | None = None
    missing_slices: Literal["refuse", "interpolate"] = "refuse"
    duplicates: Literal["refuse", "first"] = "refuse"
    tilt: Literal["refuse", "native", "resample"] = "refuse"
    pages: Literal["refuse", "stack"] = "refuse"
    pixel_mm: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixel_mm", tuple(self.pixel_mm))  # JSON has a list
        for field in fields(self):
            value, known = getattr(self, field.name), get_args(field.type)
            if get_origin(field.type) is Literal and value not in known:
                raise UsageError(f"{field.name} {value!r} must be one of {', '.join(known)}")


def volume_choice(text: str) -> int | str:
    """Return the number of a volume, or the value that names it; ValueError for other texts."""
    if text.isdecimal():
        return int(text)
    if not any(letter.isalpha() for letter in text):
        raise ValueError("is not a whole number from 0 or a value such as b=1000")
    return text


class LabelPolicy(ReadPolicy):
    """How a label map is read: if there are several volumes, all of them, as (i, j, k, volume)."""

    __slots__ = ()
