"""`voxtile manifest`: words -> calls, for making, checking, dividing and handing on manifests."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exit import BAD_INPUT, explained
from .options import (
    Duplicates,
    DuplicatesOption,
    Manifest,
    MissingOption,
    MissingSlices,
    Nan,
    NanOption,
    Root,
    Series,
    Tilt,
    TiltOption,
    Volume,
    counter,
    read_policy,
)
from .options import label_map as label_map_of
from .words import words_of

if TYPE_CHECKING:
    from voxtile.manifest.check import CheckResult

app = typer.Typer(
    help="Make, check, divide and export manifests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Source(StrEnum):
    """What a manifest is made from."""

    dicom = "dicom"
    nifti = "nifti"
    nnunet = "nnunet"
    msd = "msd"
    monai = "monai"
    bids = "bids"


class Layout(StrEnum):
    """What a manifest is exported to."""

    nnunet = "nnunet"
    monai = "monai"


NewManifest = Annotated[Path, typer.Option(help="The manifest to write; must not exist.")]


@app.command()
def build(
    source: Annotated[
        Path, typer.Argument(help="Folder, or JSON file of msd or monai.", show_default=False)
    ],
    out: NewManifest,
    kind: Annotated[
        Source | None, typer.Option("--from", help="What SOURCE is (default: found out, and said).")
    ] = None,
    bids: Annotated[bool, typer.Option("--bids", help="The same as --from bids.")] = False,
    labels: Annotated[
        Path | None, typer.Option(help="nifti: folder of labels, named as their images.")
    ] = None,
    label_pattern: Annotated[
        str | None,
        typer.Option(
            help="nifti: name of a label, such as {case}_seg. bids: its path, such as "
            "derivatives/manual/{folder}/{entities}_label-*_mask.nii.gz."
        ),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="bids: which images, such as T1w; several are channels.")
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="monai: where relative paths begin (default: the list's folder)."),
    ] = None,
    label_names: Annotated[
        Path | None, typer.Option(help="Write the names of labels to this JSON, for train.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="dicom: write who is behind each pseudonym. Sensitive.")
    ] = None,
) -> None:
    """Make a manifest from what there is: DICOM, NIfTI, nnU-Net, Decathlon, MONAI, BIDS."""
    with explained():
        from voxtile.manifest.build import BuildOptions, Outputs, build_manifest, detect

        if bids and kind not in (None, Source.bids):
            raise ValueError(f"--bids and --from {kind} exclude each other")
        if bids:
            kind = Source.bids
        chosen = detect(source) if kind is None else kind.value
        if kind is None:
            typer.echo(f"{source} was taken for {chosen}; --from says otherwise")
        found = build_manifest(
            source,
            Outputs(out, key, label_names),
            kind=chosen,
            options=BuildOptions(labels, label_pattern, words_of(suffix) or (), root),
            on_files=counter("files"),
        )
        for notice in found.notices:
            typer.echo(f"note: {notice}")
        cases = found.cases
        labelled = sum(case.label is not None for case in cases)
        groups = len({case.group for case in cases if case.group})
        typer.echo(
            f"{len(cases)} cases, {labelled} with a label"
            + (f", {groups} groups" if groups else "")
        )
        if found.labels:
            named = ", ".join(f"{value} {name}" for value, name in found.labels)
            typer.echo(f"labels: {named}")
        typer.echo(f"manifest: {out}")
        if key is not None:
            typer.echo(
                f"warning: {key} says which patient is behind each pseudonym; keep it apart from "
                "the data, and delete it when it is not needed",
                err=True,
            )


@app.command()
def check(
    manifest: Manifest,
    root: Root = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every voxel: checksums, label values, copies.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="The model that it is for: channels, and label values.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    label_map: Annotated[
        str | None, typer.Option(help="Rename reference values, such as 2:1,3:1.")
    ] = None,
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
) -> None:
    """Hold a manifest against its files; exit code 4 if anything is wrong."""
    with explained():
        import json

        from voxtile.manifest.check import CheckSettings, check_manifest
        from voxtile.models.bundle import load_bundle

        policy = read_policy(
            nan=nan,
            volume=volume,
            series=series,
            missing_slices=missing_slices,
            duplicates=duplicates,
            tilt=tilt,
        )
        result = check_manifest(
            manifest,
            root=root,
            spec=None if model is None else load_bundle(model).spec,
            settings=CheckSettings(deep, policy, label_map_of(label_map)),
            on_case=None if as_json else counter("cases"),
        )
        if as_json:
            typer.echo(json.dumps(result.as_json(), indent=1, allow_nan=False))
        else:
            _show(result)
        raise typer.Exit(BAD_INPUT if result.errors else 0)


@app.command()
def split(
    manifest: Manifest,
    out: NewManifest,
    by: Annotated[
        str, typer.Option(help="Column whose equal values stay together, beside those of group.")
    ] = "group",
    seed: Annotated[int, typer.Option(help="Another seed is another division.")] = 0,
    folds: Annotated[int | None, typer.Option(help="Write a column fold, 0 to K-1.")] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Write a column split: train=0.7,val=0.1,test=0.2.")
    ] = None,
    validate: Annotated[
        int | None,
        typer.Option(help="With --folds: write split too, this fold as val, the others as train."),
    ] = None,
    stratify: Annotated[
        str | None, typer.Option(help="Column whose values every part gets its share of.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Splits that stay as they are, such as test.")
    ] = None,
) -> None:
    """Divide a manifest into splits or folds; a group is never divided."""
    with explained():
        from voxtile.manifest.split import Wish, write_split

        wish = Wish(
            by=by,
            seed=seed,
            folds=folds,
            fractions=_fractions(fractions),
            validate=validate,
            stratify=stratify,
            keep=words_of(keep) or (),
        )
        for line in write_split(manifest, out, wish):
            typer.echo(line)
        typer.echo(f"manifest: {out}")


@app.command()
def export(
    manifest: Manifest,
    to: Annotated[Layout, typer.Option(help="Whose layout.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set; must be new or empty.")],
    root: Root = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link sound .nii.gz files instead of writing them anew.")
    ] = False,
    channels: Annotated[
        str | None,
        typer.Option(help="Names of channels there, such as CT (default: the columns')."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help='Names: JSON {"1": "liver"} or CSV value,name.')
    ] = None,
    nan: NanOption = Nan.refuse,
    volume: Volume = None,
    series: Series = None,
    missing_slices: MissingOption = MissingSlices.refuse,
    duplicates: DuplicatesOption = Duplicates.refuse,
    tilt: TiltOption = Tilt.refuse,
) -> None:
    """Write the cases of a manifest as a data set of nnU-Net or MONAI."""
    with explained():
        from voxtile.manifest.export import ExportSettings, export_manifest
        from voxtile.manifest.label_list import read_labels

        names = () if labels is None else read_labels(labels)
        settings = ExportSettings(
            to=to.value,
            link=link,
            channels=words_of(channels) or (),
            labels={label.value: label.name for label in names},
            policy=read_policy(
                nan=nan,
                volume=volume,
                series=series,
                missing_slices=missing_slices,
                duplicates=duplicates,
                tilt=tilt,
            ),
        )
        for notice in export_manifest(manifest, out, settings, root=root, on_case=counter("cases")):
            typer.echo(f"note: {notice}")
        typer.echo(f"data set: {out}")


def _fractions(text: str | None) -> dict[str, float] | None:
    """Return ``train=0.7,val=0.3`` as a mapping."""
    if text is None:
        return None
    try:
        pairs = [part.split("=") for part in text.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise ValueError(f"--fractions {text!r} must look like train=0.7,val=0.3") from None
    if len(shares) < len(pairs):
        raise ValueError(f"--fractions {text!r} names a part twice")
    return shares


def _show(result: "CheckResult") -> None:
    """Print a check for people: a table on a terminal, else a line for each finding."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for line in result.summary():
        typer.echo(line)
    console = Console()
    if console.is_terminal and result.findings:
        table = Table("line", "case", "", "code", "what", show_edge=False, pad_edge=False)
        for finding in result.findings:
            table.add_row(
                str(finding.line or ""),
                Text(finding.case_id),
                Text(finding.severity, "red" if finding.severity == "error" else "yellow"),
                Text(finding.code),
                Text(finding.sentence),
            )
        console.print(table)
    else:
        for finding in result.findings:
            typer.echo(str(finding))
    warnings = len(result.findings) - len(result.errors)
    typer.echo(f"{len(result.errors)} errors, {warnings} warnings")
