"""Options that several commands share: each is written once."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .scan import ReadPolicy


class Nan(StrEnum):
    """What to do with NaN and infinite voxels."""

    refuse = "refuse"
    fill = "fill"


class MissingSlices(StrEnum):
    """What to do with gaps in a DICOM stack."""

    refuse = "refuse"
    interpolate = "interpolate"


class Duplicates(StrEnum):
    """What to do with DICOM slices at one place that differ."""

    refuse = "refuse"
    first = "first"


class Tilt(StrEnum):
    """What to do with a stack sheared by gantry tilt."""

    refuse = "refuse"
    native = "native"
    resample = "resample"


Manifest = Annotated[Path, typer.Argument(help="CSV of cases.", show_default=False)]
Root = Annotated[
    Path | None,
    typer.Option(help="Where the manifest's relative paths begin (default: its folder)."),
]
Volume = Annotated[
    int | None, typer.Option(min=0, help="Which volume of 4D scans, counting from 0.")
]
NanOption = Annotated[Nan, typer.Option(help="NaN voxels: refuse, or fill with the minimum.")]
Series = Annotated[
    str | None,
    typer.Option(
        help="Which DICOM series of several: id=..., a UID, modality=CT, slices>=20, largest; "
        "joined by commas."
    ),
]
MissingOption = Annotated[
    MissingSlices, typer.Option(help="Gaps in a DICOM stack: refuse, or fill from neighbours.")
]
DuplicatesOption = Annotated[
    Duplicates, typer.Option(help="DICOM slices at one place that differ: refuse, or first.")
]
TiltOption = Annotated[
    Tilt,
    typer.Option(help="Gantry tilt: refuse, keep slices as acquired, or resample to upright."),
]


def read_policy(**words: Any) -> "ReadPolicy":
    """Return the reading policy of the options; each is named as in `ReadPolicy`."""
    from .scan import ReadPolicy

    # An enum's member is its word; the policy checks each once more.
    plain: dict[str, Any] = {
        name: word.value if isinstance(word, StrEnum) else word for name, word in words.items()
    }
    return ReadPolicy(**plain)


def label_map(text: str | None) -> dict[int, int]:
    """Return ``2:1,3:1`` as a mapping."""
    if not text:
        return {}
    try:
        pairs = [pair.split(":") for pair in text.split(",")]
        renamed = {int(before): int(after) for before, after in pairs}
    except ValueError:
        raise ValueError(f"--label-map {text!r} must look like 2:1,3:1") from None
    if not all(0 <= value <= 65535 for pair in renamed.items() for value in pair):
        raise ValueError(f"--label-map {text!r}: values are 0 to 65535")
    return renamed
