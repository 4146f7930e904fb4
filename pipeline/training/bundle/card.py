"""The README.md of a trained bundle: what it does, how it was trained, how good it is."""

from collections.abc import Mapping
from typing import Any

from voxtile.errors import counted
from voxtile.models.spec import ModelSpec
from voxtile.training.longer import longer_words
from voxtile.training.recipe.recipe import BUDGETS
from voxtile.training.recipe.warm_start import seen_words

from .selection_card import reference_section, selection_section
from .too_short import warning_if_useless

LIMITS = """## Limits

- The model works on scans like its training scans. On another field of view, contrast or \
pathology it may fail without a warning: look at the masks.
- Research use only. Not a medical device; not for diagnosis or treatment.
"""


def init_words(init: Mapping[str, Any] | None, scored: int | None) -> str:
    """Return sentences about the first weights, if they come from another bundle.

    `init` comes from `voxtile.training.recipe.warm_start.warm_start_facts`;
    `scored` is the number of cases with scores, if the card shows them.
    """
    if init is None:
        return ""
    words = f" The fit started with the weights of {init['name']} ({init['sha256']})."
    if "adapted" in init:
        words += f" Of these, {init['adapted']}."
    warning = "" if scored is None else seen_words(init, scored)
    return words + (f" {warning}." if warning else "")


def card_head(name: str, description: str) -> str:
    """Return the first lines of a model card: name, description, command."""
    return f"""# {name}

{description}

    voxtile run MANIFEST {name} --out DIR

(for a shipped model use its name, for any other the path of its folder)
"""


def model_card(spec: ModelSpec, *, has_licence: bool) -> str:
    """Return a model card in Markdown, from the spec of a trained bundle alone.

    (The headings follow Mitchell et al. 2019, "Model Cards for Model
    Reporting", section 4.)
    """
    facts = spec.training
    recipe = facts["recipe"]
    licence = (
        "See LICENSE."
        if has_licence
        else "No licence was given. The licence of the training data applies to the weights: add "
        "it as LICENSE before you share this model."
    )
    budget = next(f"{recipe[name]:g} {name}" for name in BUDGETS if name in recipe)
    networks = facts["networks"]
    scored = None if "fold" in facts else facts["n_val"]  # scores of folds are shown together
    return f"""{card_head(spec.name, spec.description or "A 2D U-Net trained with voxtile.")}
## What it does

- Input: {_channels(spec)}; {", ".join(spec.views)} planes with \
{counted(spec.context_slices, "slice")} at once{
        ", with the position in the scan" if spec.position else ""
    }, {_spacing(spec)}, intensities by `{spec.intensity.method}`.
- Output: a label map on the scan's own grid.

| value | label | colour |
|---|---|---|
{_rows([label.value, label.name, label.color] for label in spec.labels)}

## How it was trained

- {counted(facts["n_train"], "case")} of `{facts["manifest"]}` (SHA-256 \
`{facts["manifest_sha256"]}`); their ids are in spec.json.
- {_networks(networks)} with {facts["parameters"]:,} parameters in all, {facts["steps"]} steps of \
{recipe["batch"]} tiles of {_tiles(spec)} in {recipe["precision"]}, budget {budget}, \
{facts["seconds"] / 60:.1f} minutes in all on {facts["machine"]}, seed {recipe["seed"]}.{
        init_words(facts.get("init"), scored)
    }{longer_words(facts)}
- {", ".join(f"{name} {number}" for name, number in facts["versions"].items())}.
- fingerprint.json describes the cases, recipe.toml has every choice with its reason, history.csv \
has the loss and the validation Dice of every epoch, and training.html shows all of it.

## Scores

{_scores(facts)}
{selection_section(facts.get("selection")) or reference_section(spec.divisions)}
{LIMITS}
## Licence

{licence}
"""


def _scores(facts: Mapping[str, Any]) -> str:
    """Return the scores of the validation cases, and what they are worth."""
    networks, scores = facts["networks"], facts.get("validation_dice")
    if scores is None:
        return (
            "Nothing was held out: all cases trained the networks, and the weights of the end were "
            "saved. So this model has no scores. Test it on other patients, or cross-validate the "
            "same recipe."
        )
    rows = [
        [row["name"], *(_cell(row[key]) for key in ("mean", "ci", "sd", "min")), row["n"]]
        for row in scores["labels"]
    ]
    warning = warning_if_useless(facts)
    warned = f"**Warning:** {warning}.\n\n" if warning else ""
    epochs = ", ".join(str(network["best_epoch"]) for network in networks)
    return f"""Dice of whole volumes, {counted(facts["n_val"], "validation case")}, mean over \
labels {scores["mean"]:.3f}:

| label | mean | 95 % interval of the mean | SD | worst case | n |
|---|---|---|---|---|---|
{_rows(rows)}

{warned}{_by_network(networks)}The validation cases were not trained on, but they chose the \
checkpoint (epoch {epochs}), so these scores are a little optimistic. Cases from your \
own scanner that were not used at all show more."""


def _rows(rows: Any) -> str:
    """Return the body of a Markdown table."""
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def _tiles(spec: ModelSpec) -> str:
    """Return the different tiles of the networks in words."""
    tiles = dict.fromkeys(spec.tile_of(view) for view in spec.views)
    return " and ".join(f"{rows}x{columns}" for rows, columns in tiles)


def _networks(networks: list[dict[str, Any]]) -> str:
    """Return the number of networks in words."""
    if len(networks) == 1:
        return "One U-Net"
    kinds = len({tuple(network["views"]) for network in networks})
    if kinds == 1:
        return f"{len(networks)} U-Nets with different first weights and batches,"
    members = len(networks) // kinds
    return f"{len(networks)} U-Nets, {'one' if members == 1 else members} for each view,"


def _by_network(networks: list[dict[str, Any]]) -> str:
    """Return a sentence with the score of each network, if there are several."""
    if len(networks) == 1:
        return ""
    alone = ", ".join(
        f"{' and '.join(network['views'])} {network['validation_dice']['mean']:.3f}"
        for network in networks
    )
    return f"Each network alone: {alone}. The table shows all networks together.\n\n"


def _channels(spec: ModelSpec) -> str:
    """Return the input in words."""
    if len(spec.channels) == 1:
        return "one scan"
    words = f"{len(spec.channels)} channels ({', '.join(spec.channels)})"
    if not spec.optional_channels:
        return words
    lacking = spec.training.get("missing_channels", {})
    parts = [
        f"{channel} (in {lacking.get(channel, 0)} of {spec.training['n_train']} training cases)"
        for channel in spec.optional_channels
    ]
    return f"{words}; these may be missing: {', '.join(parts)}"


def _spacing(spec: ModelSpec) -> str:
    """Return the pixel spacing in words."""
    if spec.spacing_mm is None:
        return "at the scan's own spacing"
    return "at " + " x ".join(f"{value:g}" for value in spec.spacing_mm) + " mm (R, A, S)"


def _cell(value: float | list[float] | None) -> str:
    """Return a score, or the ends of an interval, for a table."""
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    return "-" if value is None else f"{value:.3f}"
