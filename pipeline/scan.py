"""What a reader gives, and how it was told to read."""

from dataclasses import dataclass
from typing import Literal

from .volume import Volume


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth knowing that did not stop a case; ends in its JSON and report.

    Parameters
    ----------
    code : str
        Stable name, for programs.
    sentence : str
        For people. No value of a DICOM text tag, no name of a DICOM file.
    """

    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A volume as it was read, with what was noticed on the way."""

    volume: Volume
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What to do where a scan leaves a choice; the defaults refuse.

    Parameters
    ----------
    nan : {"refuse", "fill"}
        NaN and infinite voxels: refuse, or replace by the finite minimum.
    volume : int or None
        Which volume of a 4D scan, counting from 0.
    """

    nan: Literal["refuse", "fill"] = "refuse"
    volume: int | None = None
