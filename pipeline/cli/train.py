"""`voxtile train`: models from a manifest with labels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .exit import explained
from .options import Manifest, Root
from .say import echo_lines
from .words import spacing_of, tile_of, words_of

# Heading of the options of a cross-validation.
_FOLDS = "Cross-validation (docs/cross-validation.md)"
# Heading of the choices that the rules of a training make where they are left out.
_CHOICES = "Choices (default: by rule, docs/training.md)"


def train(
    manifest: Manifest,
    out: Annotated[
        Path,
        typer.Option(help="Folder of the new model; must not exist, but for --folds."),
    ],
    root: Root = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML with choices; the options below override it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print fingerprint and recipe, and train nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Fine-tune this model: a name or a folder.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget (default: 18).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Budget in epochs instead.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps instead.")] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Stop early after so many validations without a better one."),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(help="axial, coronal or sagittal; several as a,b.", rich_help_panel=_CHOICES),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="per_view or shared, where there are several.", rich_help_panel=_CHOICES),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(min=1, help="Networks of each kind; their mean.", rich_help_panel=_CHOICES),
    ] = None,
    context_slices: Annotated[
        int | None, typer.Option(help="Planes seen at once, odd.", rich_help_panel=_CHOICES)
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="Pixel spacing in mm as R,A,S; or native.", rich_help_panel=_CHOICES),
    ] = None,
    tile: Annotated[
        str | None, typer.Option(help="ROWSxCOLUMNS.", rich_help_panel=_CHOICES)
    ] = None,
    filters: Annotated[
        int | None, typer.Option(min=1, help="Of the first level.", rich_help_panel=_CHOICES)
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Poolings.", rich_help_panel=_CHOICES)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles in a step.", rich_help_panel=_CHOICES)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, mixed_bfloat16 or mixed_float16 (default: the fastest, measured).",
            rich_help_panel=_CHOICES,
        ),
    ] = None,
    flips: Annotated[
        str | None,
        typer.Option(
            help="Axes that may be mirrored, such as R or R,A (default: none).",
            rich_help_panel=_CHOICES,
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help='Names: JSON {"1": "liver"} or CSV value,name,color.')
    ] = None,
    licence: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, readable=True, help="Licence of the weights, a text file."
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="One sentence for the model card.")] = "",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard events.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice (default: 0).")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cross-validate with so many folds of train and val.",
            rich_help_panel=_FOLDS,
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Train this fold only.", rich_help_panel=_FOLDS)
    ] = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Join the folds that are there.", rich_help_panel=_FOLDS),
    ] = False,
) -> None:
    """Train U-Nets on a manifest's train split, and write them as a model folder."""
    with explained():
        from voxtile.manifest.label_list import read_labels
        from voxtile.models.bundle import bundle_name
        from voxtile.training.drive import plan_training
        from voxtile.training.drive import train as train_model
        from voxtile.training.folds.cross_validation import cross_validate, plan_folds
        from voxtile.training.recipe.recipe_file import asked_recipe

        given = {
            "minutes": minutes,
            "epochs": epochs,
            "steps": steps,
            "patience": patience,
            "views": words_of(view),
            "network": network,
            "members": members,
            "context_slices": context_slices,
            "spacing_mm": spacing if spacing == "native" else spacing_of(spacing),
            "tile": tile_of(tile),
            "filters": filters,
            "depth": depth,
            "batch": batch,
            "precision": precision,
            "flips": words_of(flips),
            "labels": None if labels is None else read_labels(labels),
            "seed": seed,
        }
        asked = asked_recipe(recipe, given)
        if folds is None and (fold is not None or join):
            raise ValueError("--fold and --join are for --folds")
        name = bundle_name(out)
        if dry_run and folds is not None:
            echo_lines(plan_folds(manifest, folds, root=root, recipe=asked, init=init))
            return
        if dry_run:
            plan = plan_training(manifest, root=root, recipe=asked, init=init, name=name)
            echo_lines(plan.lines())
            return
        how: dict[str, Any] = {
            "root": root,
            "recipe": asked,
            "init": init,
            "resume": resume,
            "description": description,
            "licence": licence,
            "tensorboard": tensorboard,
        }
        try:
            if folds is None:
                typer.echo(f"model: {train_model(manifest, out, **how).folder}")
            else:
                done = cross_validate(
                    manifest, out, folds, only=fold, join=join, say=typer.echo, **how
                )
                echo_lines([] if done is None else done.lines())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted; the same command with --resume goes on from the last checkpoint"
            ) from None
