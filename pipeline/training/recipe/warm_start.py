"""Fine-tuning: what a recipe takes over from the bundle that a training begins with."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from voxtile.errors import UsageError
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label, ModelSpec, View

from .recipe import Recipe

# A quarter of the rate for networks that begin from noise: what is known should not be undone.
_RATE = 5e-4


def continued(recipe: Recipe, start: Bundle, channels: Sequence[str]) -> Recipe:
    """Return the recipe with all that the bundle's networks fix.

    Parameters
    ----------
    recipe : Recipe
        What is set in it must agree with the bundle.
    start : Bundle
    channels : sequence of str
        Of the manifest.

    Raises
    ------
    ValueError
        If channels, labels or another choice differ; says what the bundle has.
        If there are several bundles.
    """
    spec = start.spec
    if start.others:
        raise UsageError(
            f"--init names {len(start.members)} models ({start.name}), but networks begin with the "
            "weights of one; name one of them"
        )
    if tuple(channels) != spec.channels:
        raise UsageError(
            f"the manifest has channels {', '.join(channels)}, but {start.folder} was trained on "
            f"{', '.join(spec.channels)}; name the manifest's columns alike, or train from scratch"
        )
    if recipe.labels and _meaning(recipe.labels) != _meaning(spec.labels):
        raise UsageError(
            f"the labels asked for are {_words(recipe.labels)}, but {start.folder} has "
            f"{_words(spec.labels)}; give it the same, or train from scratch"
        )
    fixed: dict[str, Any] = {
        "views": spec.views,
        "network": "shared" if len(_kinds(start)) < len(spec.views) else "per_view",
        "members": len(spec.networks) // len(_kinds(start)),
        "context_slices": spec.context_slices,
        "spacing_mm": spec.spacing_mm or "native",
        "intensity": spec.intensity,
        "depth": spec.multiple.bit_length() - 1,
        **_architecture(start),
    }
    known = {choice.name: choice.default for choice in fields(Recipe)}
    for name, value in fixed.items():
        asked = getattr(recipe, name)
        if asked not in (known[name], value):
            raise UsageError(
                f"{name} {asked} was asked for, but {start.folder} has "
                f"{'its own' if value is None else value}, which fine-tuning cannot change; leave "
                "it out, or train from scratch"
            )
    return replace(
        recipe,
        **{name: value for name, value in fixed.items() if value is not None},
        tile=recipe.tile or _tiles(spec),
        labels=recipe.labels or spec.labels,
        learning_rate=recipe.learning_rate or _RATE,
    )


def _tiles(spec: ModelSpec) -> dict[View, tuple[int, int]] | tuple[int, int]:
    """Return the tile of each view, or the one that all have."""
    tiles = {view: spec.tile_of(view) for view in spec.views}
    return spec.tile if set(tiles.values()) == {spec.tile} else tiles


def _architecture(start: Bundle) -> dict[str, Any]:
    """Return what the networks are like; None where neither layers nor recipe tell."""
    network = starting_network(start, start.spec.networks[0].views)
    widths = [layer.filters for layer in network.layers if hasattr(layer, "filters")]
    told = start.spec.training.get("recipe")
    known = {} if not isinstance(told, dict) else told
    return {
        "filters": widths[0] if widths else None,
        "normalisation": known.get("normalisation"),
        "dropout": known.get("dropout"),
    }


def _kinds(start: Bundle) -> list[tuple[View, ...]]:
    """Return how the bundle's networks divide the views: one for all, or each its own."""
    networks = [network.views for network in start.spec.networks]
    kinds = list(dict.fromkeys(networks))
    alike = len({networks.count(views) for views in kinds}) == 1
    if not alike or (len(kinds) > 1 and any(len(views) != 1 for views in kinds)):
        raise UsageError(
            f"{start.folder} has {len(networks)} networks for views "
            f"{', '.join('+'.join(views) for views in networks)}; fine-tune a bundle with as many "
            "for each view, or with networks that serve all"
        )
    return kinds


def starting_network(start: Bundle, views: tuple[View, ...], member: int = 0) -> Any:
    """Return the bundle's network for these views, as a Keras model; of several, the member."""
    from voxtile.engines.keras_engine import build

    serving = [network for network in start.spec.networks if network.views == views]
    return build(start, serving[member])


def _meaning(labels: Sequence[Label]) -> list[tuple[int, tuple[int, ...]]]:
    """Return what decides the outputs: names and colours do not."""
    return [(label.value, label.values) for label in labels]


def _words(labels: Sequence[Label]) -> str:
    """Return labels for a message."""
    return ", ".join(f"{label.value} {label.name}" for label in labels)


def check_output(spec: ModelSpec, start: Bundle) -> None:
    """Refuse a bundle whose outputs are of another kind than the training's."""
    if spec.activation != start.spec.activation:
        raise UsageError(
            f"{start.folder} has {start.spec.activation} outputs, but these labels need "
            f"{spec.activation}; train from scratch"
        )


def warm_start_facts(start: Bundle, scored: Sequence[str]) -> dict[str, Any]:
    """Return what is told of a start: which bundle, and which scored cases it has seen.

    Parameters
    ----------
    start : Bundle
    scored : sequence of str
        Ids of the cases that scores will be told of.

    Returns
    -------
    dict
        `name`, `sha256`; `cases`, the ids that it, or what it began with,
        learnt from or chose with; `seen`, the scored ones among them. Ids are
        all that a bundle knows of its cases: another cohort may have the same.
    """
    training = start.spec.training
    before = training.get("init", {}).get("cases", ())
    cases = {*training.get("train", ()), *training.get("val", ()), *before}
    return {
        "name": start.spec.name,
        "sha256": start.sha256,
        "cases": sorted(cases),
        "seen": [case_id for case_id in scored if case_id in cases],
    }


def seen_words(facts: Mapping[str, Any], scored: int) -> str:
    """Return a sentence on scored cases that a start has seen; empty where there are none."""
    count = len(facts.get("seen", ()))
    if not count:
        return ""
    return (
        f"{count} of the {scored} cases that scores are told of have ids that {facts['name']} "
        "learnt from or chose with: if they are the same cases, their scores are too good"
    )
