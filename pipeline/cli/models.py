"""`voxtile models`: list, get and pack models, measure engines, and exchange networks."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from voxtile.engines.options import Wish

from .help import HelpfulGroup, add_command
from .options import AsJson, OneModel, Option, Root, SomeCases, Splits, argument
from .output import answering, counter, echo_lines

app = typer.Typer(
    help="List and get models, measure engines, and exchange networks with other programs.",
    invoke_without_command=True,
    cls=HelpfulGroup,
    rich_markup_mode=None,
)

NewFolder = Annotated[Path, Option("New folder.", name="out")]


@app.callback()
def _default(context: typer.Context) -> None:
    """List the models if no command is given."""
    if context.invoked_subcommand is None:
        list_models(remote=False, as_json=False)


def list_models(
    *, remote: Annotated[bool, "List the models of the index instead."] = False, as_json: AsJson
) -> None:
    """List the models that have a name: those that come with voxtile, and downloaded ones.

    Examples
    --------
    voxtile models list
    voxtile models list --remote --json
    """
    from voxtile.library.card import printable
    from voxtile.library.index import published_models
    from voxtile.models.bundle import named_bundles
    from voxtile.models.spec_file import read_spec

    with answering(as_json=as_json) as answer:
        if remote:
            published = published_models().values()
            echo_lines(map(str, published))
            if not published:
                typer.echo("the index has no models yet; `voxtile models get` takes addresses too")
            answer({"models": [one.model_dump(mode="json") for one in published]})
            return
        specs = {name: read_spec(path / "spec.json") for name, path in named_bundles().items()}
        for name, spec in specs.items():
            typer.echo(printable(f"{name}: {spec.description}"))
            echo_lines(printable(f"  {label.value}  {label.name}") for label in spec.labels)
        models = [
            {
                "name": name,
                "description": spec.description,
                "channels": list(spec.channels),
                "labels": [{"value": one.value, "name": one.name} for one in spec.labels],
            }
            for name, spec in specs.items()
        ]
        answer({"models": models})


def get(
    *,
    model: Annotated[str, argument("Name in the index, or address of an archive.")],
    sha256: Annotated[str, Option("SHA-256 of the archive; needed for an address.")] = "",
    as_json: AsJson,
) -> None:
    """Download a model once and check it; then its name can be used, also offline.

    Examples
    --------
    voxtile models get hippocampus
    voxtile models get https://example.org/liver.zip --sha256 2c26b46b68ff...
    """
    from voxtile.library.get import get_model

    shown = counter("MB")
    found = get_model(
        model, sha256, on_bytes=lambda done, size: shown(done // 10**6, size // 10**6)
    )
    with answering(as_json=as_json) as answer:
        typer.echo(f"{'model' if found.is_new else 'already there'}: {found.folder}")
        typer.echo(f"use it: voxtile run SCANS {found.name} --out out")
        answer({"name": found.name, "folder": str(found.folder), "new": found.is_new})


def pack(
    *,
    model: OneModel,
    out: Annotated[Path | None, "Archive to write (default: NAME.zip)."] = None,
    as_json: AsJson,
) -> None:
    """Write a model as one file to publish, if it has a card and a licence.

    Examples
    --------
    voxtile models pack my_model
    voxtile models pack my_model --out liver.zip
    """
    from dataclasses import asdict

    from voxtile.library.pack import pack_model
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.protection import Input, protect

    bundle = load_bundle(model)
    out = out or Path(f"{bundle.name}.zip")
    protect([Input("the model", one.folder) for one in bundle.members], out)
    packed = pack_model(bundle, out)
    with answering(as_json=as_json) as answer:
        typer.echo(f"archive: {out} ({packed.size_bytes:,} bytes, SHA-256 {packed.sha256})")
        echo_lines(f"left out: {name}" for name in packed.left_out)
        echo_lines(f"note: {notice}" for notice in packed.notices)
        typer.echo(
            "when it is published, others get it with:\n"
            f"  voxtile models get ADDRESS --sha256 {packed.sha256}"
        )
        answer({"archive": str(out), **asdict(packed)})


def card(*, model: Annotated[str, argument("Name of a model, or a model folder.")]) -> None:
    """Show the card of a model: what it does, its scores, its limits.

    Examples
    --------
    voxtile models card hippocampus
    voxtile models card my_model
    """
    from voxtile.library.card import read_card

    typer.echo(read_card(model))


def verify(
    *,
    model: OneModel,
    manifest: SomeCases = None,
    root: Root,
    cases: Annotated[int, Option("Measure on at most this many cases.", least=1)] = 8,
    planes: Annotated[int, Option("At most this many planes per case.", least=1)] = 16,
    device: Annotated[str, "Device to measure: cpu, gpu or gpu:N."] = "cpu",
    save: Annotated[bool, "Publish the table in the model's README and spec."] = False,
    as_json: AsJson,
) -> None:
    """Measure every engine and precision of this machine against float32.

    Examples
    --------
    voxtile models verify hippocampus
    voxtile models verify my_model cases.csv --cases 2
    """
    from dataclasses import asdict

    from voxtile.manifest.rows import read_manifest
    from voxtile.measuring.engines import save_evidence, verify_model
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.protection import Input, inputs_of, protect

    if save and manifest is not None:
        inputs = [Input("the manifest", manifest), *inputs_of(read_manifest(manifest, root=root))]
        folder = load_bundle(model).folder
        protect(inputs, folder / "spec.json", folder / "README.md", advice="leave --save out")
    say = partial(typer.echo, err=True)
    device = Wish(device=device).device.replace("auto", "cpu")
    evidence = verify_model(
        model, manifest, root=root, cases=cases, planes=planes, device=device, say=say
    )
    with answering(as_json=as_json) as answer:
        echo_lines(evidence.lines())
        saved = str(save_evidence(model, evidence)) if save else None
        if save:
            typer.echo(f"saved: {saved}")
        answer({**asdict(evidence), "chosen": evidence.chosen, "saved": saved})


def calibrate(
    *,
    model: OneModel,
    cases: Annotated[
        Path, argument("CSV of cases that did not train the model, or the folder of --folds.")
    ],
    root: Root,
    split: Splits,
) -> None:
    """Learn from cases with references how the Dice of a model's masks is predicted.

    Examples
    --------
    voxtile models calibrate my_model cases.csv --split test
    voxtile models calibrate my_model cv
    """
    if cases.is_dir():
        from voxtile.errors import UsageError
        from voxtile.measuring.calibration_by_folds import calibrate_by_folds

        if root is not None or split:
            raise UsageError("--root and --split belong to a CSV of cases; leave them out")
        echo_lines(calibrate_by_folds(model, cases).lines())
        return
    from voxtile.measuring.calibration import calibrate_model

    done = calibrate_model(model, cases, root=root, splits=split, on_case=counter("cases"))
    echo_lines(done.lines())


def export(
    *,
    model: OneModel,
    out: NewFolder,
    form: Annotated[str, Option("onnx, openvino or savedmodel.", name="format")],
) -> None:
    """Write a model's networks for other programs, and compare them with Keras.

    Examples
    --------
    voxtile models export hippocampus --format onnx --out onnx
    voxtile models export my_model --format openvino --out openvino
    """
    from voxtile.engines.exchange import export_model
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.protection import Input, protect

    protect([Input("the model", one.folder) for one in load_bundle(model).members], out)
    for path in export_model(model, form, out):
        typer.echo(f"network: {path}")
    typer.echo(f"spec: {out / 'spec.json'}")


def import_(
    *,
    file: Annotated[Path, argument(".onnx or .keras file, or a results folder of nnU-Net v2.")],
    out: NewFolder,
    spec: Annotated[Path | None, "spec.json: inputs and outputs of a network in a file."] = None,
    folds: Annotated[str, "Folds of nnU-Net, such as 0,1 (default: all)."] = "",
    checkpoint: Annotated[str, "Checkpoint of each fold of nnU-Net."] = "checkpoint_final.pth",
    orientation: Annotated[
        str | None, "How nnU-Net's training scans are stored, such as LPS (default: as each scan)."
    ] = None,
) -> None:
    """Make a model folder from a 2D network that was trained elsewhere.

    Examples
    --------
    voxtile models import net.onnx --spec spec.json --out my_model
    voxtile models import net.keras --spec spec.json --out my_model
    """
    from voxtile.engines.exchange import import_model
    from voxtile.errors import ModelError, UsageError
    from voxtile.importing.nnunet import import_nnunet
    from voxtile.run_folder.protection import Input, protect

    protect([Input("the network", file), *([Input("the spec", spec)] if spec else [])], out)
    if file.is_dir():
        if spec is not None:
            raise ModelError(
                f"{file} is a folder, but --spec is for a network in a file; leave it out for a "
                "results folder of nnU-Net"
            )
        found = import_nnunet(
            file,
            out,
            folds=folds.split(",") if folds else None,
            checkpoint=checkpoint,
            orientation=orientation,
        )
        echo_lines(f"note: {notice}" for notice in found.notices)
        typer.echo(f"model: {found.bundle.folder}")
        return
    if spec is None:
        raise UsageError(f"{file} needs --spec; a folder of nnU-Net does not")
    typer.echo(f"model: {import_model(file, spec, out).folder}")


for _name, _command in (
    ("list", list_models),
    ("get", get),
    ("card", card),
    ("pack", pack),
    ("verify", verify),
    ("calibrate", calibrate),
    ("export", export),
    ("import", import_),
):
    add_command(app, _command, _name)
