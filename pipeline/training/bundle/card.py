"""The README.md of a trained bundle: what it does, what it was made from, how far to trust it."""

from typing import Any

from voxtile.models.spec import ModelSpec
from voxtile.training.recipe.recipe import BUDGETS
from voxtile.training.recipe.warm_start import seen_words

from .selection_card import selection_section


def model_card(spec: ModelSpec, *, has_licence: bool) -> str:
    """Return a model card in Markdown, from the spec and its `training` facts alone.

    (The headings follow Mitchell et al. 2019, "Model Cards for Model
    Reporting", section 4.)

    Parameters
    ----------
    spec : ModelSpec
        As `voxtile.train` writes it.
    has_licence : bool
        Whether a LICENSE lies beside the card.
    """
    facts = spec.training
    scores = facts["validation_dice"]
    recipe = facts["recipe"]
    licence = (
        "See LICENSE."
        if has_licence
        else "None was given. Weights carry the licence of the data they were trained on: add it "
        "as LICENSE before you pass this bundle on."
    )
    budget = next(f"{recipe[name]:g} {name}" for name in BUDGETS if name in recipe)
    networks = facts["networks"]
    return f"""# {spec.name}

{spec.description or "A 2D U-Net trained with voxtile."}

    voxtile run MANIFEST {spec.name} --out DIR

(a shipped bundle goes by its name, any other by the path of its folder)

## What it does

- Input: {_channels(spec)}; {", ".join(spec.views)} planes with {spec.context_slices} slices at \
once, {_spacing(spec)}, intensities by `{spec.intensity.method}`.
- Output: a label map on the scan's own grid.

| value | label | colour |
|---|---|---|
{_rows([label.value, label.name, label.color] for label in spec.labels)}

## How it was trained

- {facts["n_train"]} cases of `{facts["manifest"]}` (SHA-256 `{facts["manifest_sha256"]}`); their \
ids are in spec.json.
- {_networks(networks)} with {facts["parameters"]:,} parameters in all, {facts["steps"]} steps of \
{recipe["batch"]} tiles of {_tiles(spec)} in {recipe["precision"]}, budget {budget}, \
{facts["seconds"] / 60:.1f} minutes in all on {facts["machine"]}, seed {recipe["seed"]}.{
        _init(facts)
    }
- {_versions(facts)}.
- fingerprint.json says what the cases are like, recipe.toml every choice with its reason, \
history.csv and training.png the loss and the validation Dice of every epoch.

## Scores

Dice of whole volumes, {facts["n_val"]} validation cases, mean over labels {scores["mean"]:.3f}:

| label | mean | 95 % interval of the mean | SD | worst case | n |
|---|---|---|---|---|---|
{
        _rows(
            [
                row["name"],
                _number(row["mean"]),
                _interval(row["ci"]),
                _number(row["sd"]),
                _number(row["min"]),
                row["n"],
            ]
            for row in scores["labels"]
        )
    }

{_by_network(networks)}The validation cases were not trained on, but they chose the checkpoint \
(epoch {
        ", ".join(str(network["best_epoch"]) for network in networks)
    }), so these scores are a little optimistic. Cases that were used for nothing, \
from your own scanner, tell more.
{selection_section(facts.get("selection"))}
## Limits

- It knows scans like those it was trained on: another field of view, contrast or pathology may \
fail without a warning. Look at the masks.
- Research use only. Not a medical device; not for diagnosis or treatment.

## Licence

{licence}
"""


def _rows(rows: Any) -> str:
    """Return the body of a Markdown table."""
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def _tiles(spec: ModelSpec) -> str:
    """Return the tiles of all networks in words, each once."""
    tiles = dict.fromkeys(spec.tile_of(view) for view in spec.views)
    return " and ".join(f"{rows}x{columns}" for rows, columns in tiles)


def _networks(networks: list[dict[str, Any]]) -> str:
    """Return how many networks there are, in words."""
    if len(networks) == 1:
        return "One U-Net"
    kinds = len({tuple(network["views"]) for network in networks})
    if kinds == 1:
        return f"{len(networks)} U-Nets that differ in their first weights and in their batches,"
    members = len(networks) // kinds
    return f"{len(networks)} U-Nets, {'one' if members == 1 else members} for each view,"


def _init(facts: dict[str, Any]) -> str:
    """Return what the weights began with, in words."""
    if "init" not in facts:
        return ""
    init = facts["init"]
    words = f" It began with the weights of {init['name']} ({init['sha256']})."
    if "fold" in facts:  # its scores are those of the cross-validation, told there
        return words
    warning = seen_words(init, facts["n_val"])
    return words + (f" {warning}." if warning else "")


def _by_network(networks: list[dict[str, Any]]) -> str:
    """Return the scores of each network alone, where there are several."""
    if len(networks) == 1:
        return ""
    alone = ", ".join(
        f"{' and '.join(network['views'])} {network['validation_dice']['mean']:.3f}"
        for network in networks
    )
    return f"Each network alone: {alone}. The table is of all together.\n\n"


def _channels(spec: ModelSpec) -> str:
    """Return what the input is, in words."""
    if len(spec.channels) == 1:
        return "one scan"
    return f"{len(spec.channels)} channels ({', '.join(spec.channels)})"


def _spacing(spec: ModelSpec) -> str:
    """Return the pixel spacing, in words."""
    if spec.spacing_mm is None:
        return "at the scan's own spacing"
    return "at " + " x ".join(f"{value:g}" for value in spec.spacing_mm) + " mm (R, A, S)"


def _versions(facts: dict[str, Any]) -> str:
    """Return the versions that trained it, in words."""
    return ", ".join(f"{name} {number}" for name, number in facts["versions"].items())


def _interval(ends: list[float] | None) -> str:
    """Return an interval for a table."""
    return "-" if ends is None else " to ".join(map(_number, ends))


def _number(value: float | None) -> str:
    """Return a score for a table."""
    return "-" if value is None else f"{value:.3f}"
