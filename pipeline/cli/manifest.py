"""`voxtile manifest`: make, check, divide, choose from and export manifests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voxtile.case import Split
from voxtile.errors import UsageError, counted
from voxtile.manifest.build_options import BuildOptions
from voxtile.reading.scan import ReadPolicy

from .help import HelpfulGroup, add_command
from .options import (
    AsJson,
    LabelMap,
    Labels,
    Manifest,
    Option,
    Root,
    argument,
    fractions,
    label_list,
    words,
)
from .output import BAD_INPUT, counter, echo_lines

if TYPE_CHECKING:
    from voxtile.manifest.check import CheckResult

app = typer.Typer(
    help="Make, check, divide and export manifests.",
    no_args_is_help=True,
    cls=HelpfulGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

NewManifest = Annotated[Path, "The manifest to write; it must not exist."]


def build(
    *,
    source: Annotated[Path, argument("Folder, or JSON file of msd or monai.")],
    out: NewManifest,
    kind: Annotated[
        Literal["dicom", "nifti", "nnunet", "msd", "monai", "bids"] | None,
        Option("What SOURCE is (default: detected, and printed).", name="from"),
    ] = None,
    bids: Annotated[bool, "The same as --from bids."] = False,
    options: BuildOptions,
    label_names: Annotated[
        Path | None, "Write the names of the labels to this JSON file, for train."
    ] = None,
    key: Annotated[
        Path | None, "dicom: write which patient each pseudonym stands for. Sensitive."
    ] = None,
) -> None:
    """Make a manifest from DICOM, NIfTI, nnU-Net, Decathlon, MONAI or BIDS data.

    Examples
    --------
    voxtile manifest build scans/ --out cases.csv
    voxtile manifest build DATA --bids --suffix T1w --out cases.csv
    """
    from voxtile.manifest.build import Outputs, build_manifest, detect

    if bids and kind not in (None, "bids"):
        raise UsageError(f"--bids and --from {kind} exclude each other")
    chosen = "bids" if bids else kind or detect(source)
    if not bids and kind is None:
        typer.echo(f"{source} was detected as {chosen}; choose another with --from")
    found = build_manifest(
        source,
        Outputs(out, key, label_names),
        kind=chosen,
        options=options,
        on_files=counter("files"),
    )
    echo_lines(f"note: {notice}" for notice in found.notices)
    labelled = sum(case.label is not None for case in found.cases)
    groups = len({case.group for case in found.cases if case.group})
    typer.echo(
        f"{counted(len(found.cases), 'case')}, {labelled} with a reference"
        + (f", {counted(groups, 'group')}" if groups else "")
    )
    if found.labels:
        typer.echo(f"labels: {', '.join(f'{value} {name}' for value, name in found.labels)}")
    typer.echo(f"manifest: {out}")
    if key is not None:
        typer.echo(
            f"warning: {key} says which patient each pseudonym stands for; store it apart from "
            "the data, and delete it when it is no longer needed",
            err=True,
        )


def check(
    *,
    manifest: Manifest,
    policy: ReadPolicy,
    root: Root,
    deep: Annotated[bool, "Read every voxel: checksums, label values, copies."] = False,
    model: Annotated[
        str | None, "Also check channels, label values and modality for this model."
    ] = None,
    as_json: AsJson,
    label_map: LabelMap,
    labels: Labels,
) -> None:
    """Check a manifest against its files; exit code 4 if anything is wrong.

    Examples
    --------
    voxtile manifest check cases.csv
    voxtile manifest check cases.csv --deep --model hippocampus
    """
    import json

    from voxtile.manifest.check import CheckSettings, check_manifest
    from voxtile.models.bundle import load_bundle
    from voxtile.report.suitability import suitability

    if labels is not None and not deep:
        raise UsageError("--labels is compared with every voxel; add --deep")
    bundle = None if model is None else load_bundle(model)
    result = check_manifest(
        manifest,
        root=root,
        spec=None if bundle is None else bundle.spec,
        settings=CheckSettings(deep, policy, label_map, label_list(labels)),
        compare=None if bundle is None else suitability(bundle),
        on_case=None if as_json else counter("cases"),
    )
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=1, allow_nan=False))
    else:
        _show(result)
    raise typer.Exit(BAD_INPUT if result.errors else 0)


def split(
    *,
    manifest: Manifest,
    out: NewManifest,
    by: Annotated[str, "Column: equal values stay together, in addition to group."] = "group",
    seed: Annotated[int, "Another seed gives another division."] = 0,
    folds: Annotated[int | None, "Write a column fold, 0 to K-1."] = None,
    shares: Annotated[
        dict[str, float] | None,
        Option(
            "Write a column split: train=0.7,val=0.1,test=0.2.", name="fractions", read=fractions
        ),
    ] = None,
    validate: Annotated[
        int | None, "With --folds: also write a column split: this fold val, the others train."
    ] = None,
    stratify: Annotated[
        str | None, "Column whose values are spread over all parts in equal proportions."
    ] = None,
    keep: Annotated[
        tuple[str, ...], Option("Splits that stay as they are, such as test.", read=words)
    ] = (),
) -> None:
    """Divide a manifest into splits or folds; a group is never divided.

    Examples
    --------
    voxtile manifest split all.csv --folds 5 --out cases.csv
    voxtile manifest split all.csv --fractions train=0.8,val=0.2 --out cases.csv
    """
    from voxtile.manifest.split import Division, shares_of, write_split

    parts, column = shares_of(folds, shares)
    division = Division(parts, column, by, stratify, keep, seed)
    echo_lines(write_split(manifest, out, division, validate))
    typer.echo(f"manifest: {out}")


def export(
    *,
    manifest: Manifest,
    to: Annotated[Literal["nnunet", "monai"], "Layout of the data set."],
    out: Annotated[Path, "Folder of the data set; it must be new or empty."],
    policy: ReadPolicy,
    root: Root,
    link: Annotated[bool, "Link valid .nii.gz files instead of writing them again."] = False,
    channels: Annotated[
        tuple[str, ...],
        Option("Channel names in the data set, such as CT (default: the columns').", read=words),
    ] = (),
    labels: Labels,
) -> None:
    """Write the cases of a manifest as a data set of nnU-Net or MONAI.

    Examples
    --------
    voxtile manifest export cases.csv --to nnunet --out Dataset001_Liver
    voxtile manifest export cases.csv --to monai --out data --link
    """
    from voxtile.manifest.export import ExportSettings, export_manifest

    found = label_list(labels, out)
    named = () if found is None else found.labels
    names = {value: label.name for label in named for value in label.values}
    names |= {label.value: label.name for label in named}
    settings = ExportSettings(to, link, channels, names, policy)
    notices = export_manifest(manifest, out, settings, root=root, on_case=counter("cases"))
    echo_lines(f"note: {notice}" for notice in notices)
    typer.echo(f"data set: {out}")


def review(
    *,
    manifest: Manifest,
    out: NewManifest,
    review: Annotated[Path, "The review.csv that report.html exported."],
    keep: Annotated[
        Literal["accepted", "rejected", "open"], "Cases with this review; open: without one."
    ] = "rejected",
    labels: Annotated[
        Path | None, "Folder of masks <case_id>.nii.gz that become the references."
    ] = None,
    split: Annotated[Split | None, "Split of these cases, such as train."] = None,
    add_to: Annotated[Path | None, "Manifest whose rows come first in the new one."] = None,
    root: Root,
) -> None:
    """Make a manifest of the cases that people accepted or rejected in report.html.

    Examples
    --------
    voxtile manifest review cases.csv --review review.csv --out rejected.csv
    voxtile manifest review a.csv --review r.csv --labels new/ --out b.csv
    """
    from voxtile.manifest.review import Chosen, write_reviewed

    chosen = Chosen(keep, labels, split)
    echo_lines(write_reviewed(manifest, review, out, chosen, add_to=add_to, root=root))
    typer.echo(f"manifest: {out}")


for _command in (build, check, split, review, export):
    add_command(app, _command, _command.__name__)


def _show(result: "CheckResult") -> None:
    """Print a check for people: a table on a terminal, else a line for each finding."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    echo_lines(result.summary())
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
        echo_lines(map(str, result.findings))
    warnings = len(result.findings) - len(result.errors)
    typer.echo(f"{counted(len(result.errors), 'error')}, {counted(warnings, 'warning')}")
