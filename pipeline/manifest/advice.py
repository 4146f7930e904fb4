"""Notices about a manifest that can be read: what was guessed, and columns without effect."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from voxtile.errors import Notice, first_few

from .cells import read_cells
from .rows import channel_of, is_extra, similar


def manifest_notices(path: str | Path) -> tuple[Notice, ...]:
    """Return notices about a manifest as a whole.

    Raises
    ------
    ManifestError
        If the file is missing, empty or not a table.
    """
    found = read_cells(Path(path))
    return (*found.notices, *_unused([name.strip() for name in found.rows[0][1]]))


def _unused(header: Sequence[str]) -> Iterator[Notice]:
    """Yield a notice about each column whose name may be a mistake for another one."""
    there = {"image" if channel_of(name) else name for name in header}
    for name in filter(is_extra, header):
        meant = similar(name)
        if meant == "group" and meant not in there:
            yield Notice(
                "manifest_group",
                f"column {name!r} does not keep the scans of a patient in one split; if it names "
                "the patient, rename it to group",
            )
        elif meant and meant not in there:
            yield Notice(
                "manifest_column",
                f"column {name!r} has no effect; did you mean {meant}? Then rename it; the columns "
                f"are {first_few([one[:40] for one in header], 20)}",
            )
