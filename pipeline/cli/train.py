"""`voxtile train`: models from a manifest with references."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import FOLDS, Labels, Manifest, Option, RecipeChoices, Root
from .output import echo_lines, print_warnings


def train(
    *,
    manifest: Manifest,
    out: Annotated[Path, "Folder of the new model; it must not exist, except with --folds."],
    choices: RecipeChoices,
    root: Root,
    recipe: Annotated[Path | None, "TOML file with choices; options override it."] = None,
    dry_run: Annotated[bool, "Print fingerprint and recipe, and train nothing."] = False,
    resume: Annotated[bool, "Continue a training that was interrupted."] = False,
    init: Annotated[str | None, "Model to fine-tune: a name or a folder."] = None,
    labels: Labels,
    licence: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, readable=True, help="Licence of the weights, a text file."
        ),
    ] = None,
    description: Annotated[str, "One sentence for the model card."] = "",
    tensorboard: Annotated[Path | None, "Folder for TensorBoard events."] = None,
    folds: Annotated[
        int | None,
        Option(
            "Cross-validate with this many folds of the splits train and val.", least=2, panel=FOLDS
        ),
    ] = None,
    fold: Annotated[int | None, Option("Train this fold only.", least=0, panel=FOLDS)] = None,
    join: Annotated[bool, Option("Join the folds that are finished.", panel=FOLDS)] = False,
) -> None:
    """Train U-Nets on a manifest's train split, and write them as a model folder."""
    from voxtile.errors import UsageError
    from voxtile.manifest.advice import manifest_notices
    from voxtile.models.bundle import bundle_name
    from voxtile.run_folder.protection import Input, protect
    from voxtile.training.drive import plan_training
    from voxtile.training.drive import train as train_model
    from voxtile.training.folds.cross_validation import cross_validate, plan_folds
    from voxtile.training.recipe.recipe_file import asked_recipe

    chosen = asked_recipe(recipe, choices | {"labels": labels})
    if folds is None and (fold is not None or join):
        raise UsageError("--fold and --join are for --folds")
    name = bundle_name(out)
    print_warnings(manifest_notices(manifest))
    if dry_run and folds is not None:
        echo_lines(plan_folds(manifest, folds, root=root, recipe=chosen, init=init))
        return
    if dry_run:
        echo_lines(plan_training(manifest, root=root, recipe=chosen, init=init, name=name).lines())
        return
    options: dict[str, Any] = {
        "root": root,
        "recipe": chosen,
        "init": init,
        "resume": resume,
        "description": description,
        "licence": licence,
        "tensorboard": tensorboard,
    }
    chosen_in = [] if recipe is None else [Input("the recipe", recipe)]
    protect(chosen_in, out, out.with_name(f"{out.name}.training"))
    try:
        if folds is None:
            typer.echo(f"model: {train_model(manifest, out, **options).folder}")
        else:
            done = cross_validate(
                manifest, out, folds, only=fold, join=join, say=typer.echo, **options
            )
            echo_lines([] if done is None else done.lines())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted; the same command with --resume goes on from the last checkpoint"
        ) from None
