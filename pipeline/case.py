"""A case: one patient scan, one row of a manifest."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]

_CASE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
# Names of devices on Windows, with any suffix ("Naming Files, Paths, and Namespaces").
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Case:
    """One patient scan of a manifest.

    Parameters
    ----------
    case_id : str
        Letters, digits, ``.``, ``_``, ``-``; at most 100. No ``.`` at the end,
        and no name of a device on Windows, such as ``aux``.
    images : tuple of (channel, Path)
        A NIfTI file or a folder with a DICOM series for each channel. A single
        column `image` is the channel "image".
    label : Path or None
        Reference mask.
    split : {"train", "val", "test"} or None
    group : str or None
        Patient, or anything else that must not be divided between splits.
    series : str or None
        Which of several DICOM series, as in `ReadPolicy`.
    volume : int or None
        Which volume of a 4D scan, counting from 0.
    pages : {"refuse", "stack"} or None
        How to read a picture with several pages, as in `ReadPolicy`.
    pixel_mm : tuple of float
        Size of a picture's pixels, as in `ReadPolicy`.
    extras : tuple of (column, value)
        Further columns, as they stand in the manifest.
    line : int
        Line of the manifest, for messages; 0 without one.
    """

    case_id: str
    images: tuple[tuple[str, Path], ...]
    label: Path | None = None
    split: Split | None = None
    group: str | None = None
    series: str | None = None
    volume: int | None = None
    pages: Literal["refuse", "stack"] | None = None
    pixel_mm: tuple[float, ...] = ()
    extras: tuple[tuple[str, str], ...] = ()
    line: int = 0

    def __post_init__(self) -> None:
        if problem := id_problem(self.case_id):
            raise ValueError(problem)
        if not self.images:
            raise ValueError(f"case {self.case_id} has no image")


def id_problem(case_id: str) -> str | None:
    """Return what is wrong with a case id, which names files in the run folder."""
    if not _CASE_ID.fullmatch(case_id) or not case_id.strip("."):
        return (
            f"case_id {case_id[:120]!r} must have 1 to 100 characters, only letters, digits, '.', "
            "'_' and '-', and not only dots, because it names files"
        )
    if case_id.endswith("."):
        return f"case_id {case_id!r} ends in a dot, which Windows drops from names; rename it"
    if _DEVICE.fullmatch(case_id):
        return f"case_id {case_id!r} is a device on Windows, so no file can have it; rename it"
    return None
