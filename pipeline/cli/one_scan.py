"""`voxtile segment` and `convert`: one scan, without a manifest."""

from pathlib import Path
from typing import Annotated

import typer

from .exit import USAGE, explained, refuse
from .options import (
    Batch,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    EngineOption,
    MaxMemory,
    MissingOption,
    MissingSlices,
    Model,
    Nan,
    NanOption,
    Overlap,
    PrecisionOption,
    Series,
    Tile,
    Tilt,
    TiltOption,
    Tta,
    Volume,
    read_policy,
)
from .words import engine_of, plan_of


def segment(
    image: Annotated[Path, typer.Argument(help="NIfTI file or DICOM folder.", show_default=False)],
    model: Model,
    out: Annotated[Path, typer.Argument(help="Mask, .nii.gz or .nii.", show_default=False)],
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
    tile: Tile = None,
    overlap: Overlap = None,
    batch: Batch = None,
    tta: Tta = None,
    max_memory: MaxMemory = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
) -> None:
    """Segment one scan."""
    with explained():
        from voxtile.run.one_scan import segment_file

        if not out.name.lower().endswith((".nii", ".nii.gz")):
            refuse(f"{out.name!r} must end in .nii or .nii.gz", USAGE)
        rows, notices = segment_file(
            image,
            model,
            out,
            policy=read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
            plan=plan_of(tile, overlap, batch, tta, max_memory),
            engine=engine_of(engine, precision, device),
        )
        for notice in notices:
            typer.echo(f"warning: {notice}", err=True)
        for row in rows:
            typer.echo(f"{row.label_name}: {row.voxels_pred} voxels, {row.volume_ml_pred:.3f} ml")
        typer.echo(f"mask: {out}")


def convert(
    source: Annotated[
        Path, typer.Argument(help="DICOM folder or file, DICOMDIR, or NIfTI.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="Volume, .nii.gz or .nii.", show_default=False)],
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
) -> None:
    """Write one scan as NIfTI, and say what was found."""
    with explained():
        from voxtile.run.convert import convert as convert_scan

        if not out.name.lower().endswith((".nii", ".nii.gz")):
            refuse(f"{out.name!r} must end in .nii or .nii.gz", USAGE)
        done = convert_scan(
            source,
            out,
            read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
        )
        for notice in done.notices:
            typer.echo(f"warning: {notice}", err=True)
        for line in done.lines():
            typer.echo(line)
        typer.echo(f"volume: {out}")
