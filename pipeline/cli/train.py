"""`voxtile train`: models from a manifest with references."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from voxtile.errors import UsageError
from voxtile.training.options import FoldOptions, TrainOptions
from voxtile.training.recipe.recipe import BUDGETS

from .options import Budget, Manifest, RecipeChoices, ignored_value, label_list
from .output import echo_lines, print_warnings


def train(
    *,
    manifest: Manifest,
    out: Annotated[Path, "Folder of the new model; it must not exist, except with --folds."],
    choices: RecipeChoices,
    recipe: Annotated[Path | None, "TOML file with choices; options override it."] = None,
    dry_run: Annotated[bool, "Print fingerprint and recipe, and train nothing."] = False,
    options: TrainOptions,
    folds: FoldOptions,
) -> None:
    """Train U-Nets on a manifest's train split, and write them as a model folder.

    Examples
    --------
    voxtile train cases.csv --out my_model --dry-run
    voxtile train cases.csv --out my_model --minutes 60
    """
    from voxtile.manifest.advice import manifest_notices
    from voxtile.models.bundle import bundle_name
    from voxtile.run_folder.protection import Input, protect
    from voxtile.training.drive import train_bundle
    from voxtile.training.folds.cross_validation import plan_folds, train_folds
    from voxtile.training.plan import plan_training
    from voxtile.training.recipe.recipe_file import asked_recipe

    outputs = () if dry_run else (out, out.with_name(f"{out.name}.training"))
    protect([] if recipe is None else [Input("the recipe", recipe)], *outputs)
    if (found := label_list(choices["labels"], *outputs)) is not None:
        choices["ignore"] = ignored_value(choices["ignore"], found)
        choices |= {"labels": found.labels, "unlabelled": found.unlabelled}
    budgets: dict[str, Budget] = {name: choices[name] for name in BUDGETS if choices[name]}
    choices |= {name: budget.amount for name, budget in budgets.items()}
    longer = any(budget.more for budget in budgets.values())
    if longer and (dry_run or folds.count is not None):
        raise UsageError(
            "a budget with + trains a finished model further; leave out --dry-run and --folds"
        )
    options = replace(options, recipe=asked_recipe(recipe, choices), longer=longer)
    common: dict[str, Any] = {"root": options.root, "recipe": options.recipe, "init": options.init}
    common |= {"policy": options.policy, "device": options.fitting_devices[0]}
    name = bundle_name(out)
    print_warnings(manifest_notices(manifest))
    if dry_run:
        if folds.count is not None:
            echo_lines(plan_folds(manifest, folds.count, validation=options.validation, **common))
        else:
            plan = plan_training(manifest, name=name, validation=options.validation, **common)
            echo_lines(plan.lines())
        return
    try:
        if folds.count is None:
            typer.echo(f"model: {train_bundle(manifest, out, options).folder}")
        else:
            done = train_folds(manifest, out, folds, options, typer.echo)
            echo_lines([] if done is None else done.lines())
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted; the same command with --resume goes on from the last checkpoint"
        ) from None
