"""`voxtile models`: list models, measure engines, and exchange networks with other programs."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from voxtile.engines.options import Wish

from .options import Manifest, OneModel, Option, Root, SomeCases, Splits, argument, with_options
from .output import counter, echo_lines

app = typer.Typer(
    help="List models, measure engines, and exchange networks with other programs.",
    invoke_without_command=True,
)

NewFolder = Annotated[Path, Option("New folder.", name="out")]


@app.callback()
def _default(context: typer.Context) -> None:
    """List the models if no command is given."""
    if context.invoked_subcommand is None:
        list_models()


@app.command(name="list")
@with_options
def list_models() -> None:
    """List the models that come with voxtile."""
    from voxtile.models.bundle import load_bundle, shipped_bundles

    for name in shipped_bundles():
        spec = load_bundle(name).spec
        typer.echo(f"{name}: {spec.description}")
        for label in spec.labels:
            typer.echo(f"  {label.value}  {label.name}")


@app.command()
@with_options
def verify(
    *,
    model: OneModel,
    manifest: SomeCases = None,
    root: Root,
    cases: Annotated[int, Option("Measure on at most this many cases.", least=1)] = 4,
    planes: Annotated[int, Option("At most this many planes per case.", least=1)] = 16,
    device: Annotated[str, "Device to measure: cpu, gpu or gpu:N."] = "cpu",
    save: Annotated[bool, "Publish the table in the model's README and spec."] = False,
) -> None:
    """Measure every engine and precision of this machine against float32."""
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
    echo_lines(evidence.lines())
    if save:
        typer.echo(f"saved: {save_evidence(model, evidence)}")


@app.command()
@with_options
def calibrate(*, model: OneModel, manifest: Manifest, root: Root, split: Splits) -> None:
    """Learn from cases with references how the Dice of a model's masks is predicted."""
    from voxtile.measuring.calibration import calibrate_model

    done = calibrate_model(model, manifest, root=root, splits=split, on_case=counter("cases"))
    echo_lines(done.lines())


@app.command()
@with_options
def export(
    *,
    model: OneModel,
    out: NewFolder,
    form: Annotated[str, Option("onnx, openvino or savedmodel.", name="format")],
) -> None:
    """Write a model's networks for other programs, and compare them with Keras."""
    from voxtile.engines.exchange import export_model
    from voxtile.models.bundle import load_bundle
    from voxtile.run_folder.protection import Input, protect

    protect([Input("the model", one.folder) for one in load_bundle(model).members], out)
    for path in export_model(model, form, out):
        typer.echo(f"network: {path}")
    typer.echo(f"spec: {out / 'spec.json'}")


@app.command(name="import")
@with_options
def import_(
    *,
    file: Annotated[Path, argument(".onnx or .keras file.")],
    spec: Annotated[Path, "spec.json: the network's inputs and outputs."],
    out: NewFolder,
) -> None:
    """Make a model folder from a 2D network that was trained elsewhere."""
    from voxtile.engines.exchange import import_model
    from voxtile.run_folder.protection import Input, protect

    protect([Input("the network", file), Input("the spec", spec)], out)
    typer.echo(f"model: {import_model(file, spec, out).folder}")
