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
    """One patient scan of a manifest."""

    # Letters, digits, ``.``, ``_``, ``-``; at most 100. No ``.`` at the end, and no name of a
    # device on Windows, such as ``aux``.
    case_id: str
    # Each channel has a NIfTI file or a folder with a DICOM series. A single
    # column `image` is the channel "image".
    images: tuple[tuple[str, Path], ...]
    label: Path | None = None  # reference mask
    split: Split | None = None
    group: str | None = None  # patient, or anything else that must not be divided between splits
    series: str | None = None  # which of several DICOM series, as in `ReadPolicy`
    volume: int | str | None = None  # which volume of a 4D scan, as in `ReadPolicy`
    # How to read a picture with several pages, and the size of its pixels, as in `ReadPolicy`.
    pages: Literal["refuse", "stack"] | None = None
    pixel_mm: tuple[float, ...] = ()
    # Further columns, with their values as written in the manifest.
    extras: tuple[tuple[str, str], ...] = ()
    line: int = 0  # line of the manifest, for messages; 0 without a manifest
    # If a channel is missing: all channels that the manifest has a column for, in order.
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if problem := id_problem(self.case_id):
            raise ValueError(problem)
        if not self.images:
            raise ValueError(f"case {self.case_id} has no image")

    @property
    def missing(self) -> tuple[str, ...]:
        """The channels whose cells are empty."""
        return tuple(channel for channel in self.channels if channel not in dict(self.images))


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
        return f"case_id {case_id!r} is a device name on Windows, so no file can have it; rename it"
    return None
