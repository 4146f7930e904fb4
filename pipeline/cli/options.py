"""Options that several commands share: each is written once."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voxtile.reading.scan import ReadPolicy


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
Nsd = Annotated[
    str, typer.Option(help="Tolerances of the surface Dice in mm, such as 1,2; empty for none.")
]
Lesions = Annotated[
    bool, typer.Option("--lesions", help="Match connected parts as lesions: found, missed, false.")
]
By = Annotated[
    str | None, typer.Option(help="Summarise by these columns too, such as scanner,sex.")
]
Html = Annotated[bool, typer.Option(help="Write report.html, the page for people.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Volume = Annotated[
    int | None, typer.Option(min=0, help="Which volume of 4D scans, counting from 0.")
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Only cases of these splits, such as val or val,test.")
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

Model = Annotated[
    str,
    typer.Argument(
        help="Name of a shipped model, or a model folder; several with commas decide together.",
        show_default=False,
    ),
]

_NETWORK = "The network"
Tile = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_NETWORK,
        help="Tile as ROWSxCOLUMNS, such as 256x256 (default: fitted to the plane).",
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.95,
        rich_help_panel=_NETWORK,
        help="Overlap of tiles, a fraction (default: spec).",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, rich_help_panel=_NETWORK, help="Tiles in the network at once."),
]
Tta = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_NETWORK,
        help="Judge mirrored planes too: none, flips, or axes such as A,S (default: spec).",
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        min=1,
        rich_help_panel=_NETWORK,
        help="MB to plan with, for all workers (default: 70 % of what is free).",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option("--engine", rich_help_panel=_NETWORK, help="auto, keras, openvino or onnx."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        rich_help_panel=_NETWORK,
        help="auto, float32, bfloat16, float16 or int8; auto takes what models verify has shown.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", rich_help_panel=_NETWORK, help="auto, cpu, gpu or gpu:N.")
]


def read_policy(**words: Any) -> "ReadPolicy":
    """Return the reading policy of the options; each is named as in `ReadPolicy`."""
    from voxtile.reading.scan import ReadPolicy

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


def counter(what: str) -> Callable[[int, int], None]:
    """Return what says on a terminal how far a job is; silent elsewhere."""

    def say(done: int, count: int) -> None:
        if sys.stderr.isatty():
            end = "\r" if done < count else "\r\x1b[K"
            sys.stderr.write(f"{done}/{count} {what}{end}")
            sys.stderr.flush()

    return say
