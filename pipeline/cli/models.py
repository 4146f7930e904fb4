"""The commands of `voxtile models`: words -> calls, as in `voxtile.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from .exit import explained
from .options import Root

app = typer.Typer(
    help="Models: list them, measure engines, hand networks to other programs and take theirs.",
    invoke_without_command=True,
)

Model = Annotated[
    str, typer.Argument(help="Name of a shipped model, or a model folder.", show_default=False)
]
NewFolder = Annotated[Path, typer.Option("--out", help="New folder.")]


@app.callback()
def _default(context: typer.Context) -> None:
    """List the models where no command is named."""
    if context.invoked_subcommand is None:
        list_models()


@app.command(name="list")
def list_models() -> None:
    """List the models that come with voxtile."""
    with explained():
        from voxtile.models.bundle import load_bundle, shipped_bundles

        for name in shipped_bundles():
            spec = load_bundle(name).spec
            typer.echo(f"{name}: {spec.description}")
            for label in spec.labels:
                typer.echo(f"  {label.value}  {label.name}")


@app.command()
def verify(
    model: Model,
    manifest: Annotated[
        Path | None, typer.Argument(help="CSV of cases (default: a phantom).", show_default=False)
    ] = None,
    root: Root = None,
    cases: Annotated[int, typer.Option(min=1, help="Most cases to measure on.")] = 4,
    planes: Annotated[int, typer.Option(min=1, help="Most planes of a case.")] = 16,
    save: Annotated[
        bool, typer.Option("--save", help="Publish the table in the model's README and spec.")
    ] = False,
) -> None:
    """Measure every engine and precision of this machine against float32."""
    with explained():
        from voxtile.measuring.engines import save_evidence, verify_model

        evidence = verify_model(
            model,
            manifest,
            root=root,
            cases=cases,
            planes=planes,
            say=lambda line: typer.echo(line, err=True),
        )
        for line in evidence.lines():
            typer.echo(line)
        if save:
            typer.echo(f"saved: {save_evidence(model, evidence)}")


@app.command()
def export(
    model: Model,
    out: NewFolder,
    form: Annotated[
        str, typer.Option("--format", help="onnx, openvino or savedmodel.", show_default=False)
    ],
) -> None:
    """Write a model's networks for other programs, compared with Keras."""
    with explained():
        from voxtile.engines.exchange import export_model

        for path in export_model(model, form, out):
            typer.echo(f"network: {path}")
        typer.echo(f"spec: {out / 'spec.json'}")


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help=".onnx or .keras.", show_default=False)],
    spec: Annotated[Path, typer.Option(help="spec.json: what it expects and emits.")],
    out: NewFolder,
) -> None:
    """Make a model folder of a 2D network that was trained elsewhere."""
    with explained():
        from voxtile.engines.exchange import import_model

        typer.echo(f"model: {import_model(file, spec, out).folder}")
