"""The result of a reader, and its options."""

from dataclasses import dataclass
from typing import Literal

from voxtile.errors import Notice
from voxtile.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A volume as it was read, with notices.

    Parameters
    ----------
    regridded : bool
        Whether the volume is on a grid that the source does not have (tilt
        undone, gaps filled), so that a mask can only be shown on this image.
    """

    volume: Volume
    notices: tuple[Notice, ...] = ()
    regridded: bool = False


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What to do where a scan leaves a choice; the defaults refuse.

    Parameters
    ----------
    nan : {"refuse", "fill"}
        NaN and infinite voxels: refuse, or replace by the finite minimum.
    volume : int or None
        Which volume of a 4D scan, counting from 0.
    series : str or None
        Which DICOM series of several: a SeriesInstanceUID, or rules such as
        ``modality=CT``, ``slices>=20``, ``largest``, several with commas.
    missing_slices : {"refuse", "interpolate"}
        A DICOM stack with gaps: refuse, or fill them from their neighbours.
    duplicates : {"refuse", "first"}
        DICOM slices at one place that differ: refuse, or take the first in
        name order. Identical ones never matter.
    tilt : {"refuse", "native", "resample"}
        A stack sheared by gantry tilt: refuse, keep the slices as acquired on
        a sheared grid, or shift them onto a rectangular one.

    Raises
    ------
    ValueError
        If a word is not one of these.
    """

    nan: Literal["refuse", "fill"] = "refuse"
    volume: int | None = None
    series: str | None = None
    missing_slices: Literal["refuse", "interpolate"] = "refuse"
    duplicates: Literal["refuse", "first"] = "refuse"
    tilt: Literal["refuse", "native", "resample"] = "refuse"

    def __post_init__(self) -> None:
        words = {
            "nan": ("refuse", "fill"),
            "missing_slices": ("refuse", "interpolate"),
            "duplicates": ("refuse", "first"),
            "tilt": ("refuse", "native", "resample"),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} must be one of {allowed}")
