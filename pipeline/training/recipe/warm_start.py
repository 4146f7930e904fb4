"""Fine-tuning: the choices that come from the bundle that a training run starts with."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from voxtile.errors import UsageError
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label, ModelSpec, View

from .recipe import Recipe

# The rate is a quarter of the rate for random weights, so that the network forgets less.
_RATE = 5e-4


def continued(recipe: Recipe, start: Bundle) -> Recipe:
    """Return the recipe with the settings that the bundle's networks dictate, or refuse it."""
    spec = start.spec
    if start.others:
        raise UsageError(
            f"--init names {len(start.members)} models ({start.name}), but networks start with the "
            "weights of one; name one of them"
        )
    if not spec.trainable:
        raise UsageError(
            f"{start.folder} was imported from another program, and training does not prepare "
            "scans as its spec.json says; train further in that program, and import it again"
        )
    fixed: dict[str, Any] = {
        "views": spec.views,
        "network": "shared" if len(_kinds(start)) < len(spec.views) else "per_view",
        "members": len(spec.networks) // len(_kinds(start)),
        "context_slices": spec.context_slices,
        "position": spec.position,
        "spacing_mm": spec.spacing_mm or "native",
        "intensity": spec.intensity,
        "depth": spec.multiple.bit_length() - 1,
        **_architecture(start),
    }
    known = {choice.name: choice.default for choice in fields(Recipe)}
    for name, value in fixed.items():
        chosen = getattr(recipe, name)
        if chosen not in (known[name], value):
            has = "an unknown one" if value is None else value
            raise UsageError(
                f"{name} is {chosen}, but {start.folder} has {has}, which fine-tuning cannot "
                f"change; leave {name} out, or train without --init"
            )
    return replace(
        recipe,
        **{name: value for name, value in fixed.items() if value is not None},
        tile=recipe.tile or _tiles(spec),
        labels=recipe.labels or spec.labels,
        unlabelled=recipe.unlabelled or spec.unlabelled or (),
        ignore=spec.ignore if recipe.ignore is None else recipe.ignore,
        learning_rate=recipe.learning_rate or _RATE,
    )


def _tiles(spec: ModelSpec) -> dict[View, tuple[int, int]] | tuple[int, int]:
    """Return the tile of each view, or the common tile of all views."""
    tiles = {view: spec.tile_of(view) for view in spec.views}
    return spec.tile if set(tiles.values()) == {spec.tile} else tiles


def _architecture(start: Bundle) -> dict[str, Any]:
    """Return the architecture of the networks; None for what is unknown."""
    network = starting_network(start, start.spec.networks[0].views)
    widths = [layer.filters for layer in network.layers if hasattr(layer, "filters")]
    recipe = start.spec.training.get("recipe")
    known = recipe if isinstance(recipe, dict) else {}
    return {
        "filters": widths[0] if widths else None,
        "normalisation": known.get("normalisation"),
        "dropout": known.get("dropout"),
    }


def _kinds(start: Bundle) -> list[tuple[View, ...]]:
    """Return the views of each kind of network: one kind for all views, or one per view."""
    networks = [network.views for network in start.spec.networks]
    kinds = list(dict.fromkeys(networks))
    alike = len({networks.count(views) for views in kinds}) == 1
    if not alike or (len(kinds) > 1 and any(len(views) != 1 for views in kinds)):
        raise UsageError(
            f"{start.folder} has {len(networks)} networks for views "
            f"{', '.join('+'.join(views) for views in networks)}; fine-tuning needs the same "
            "number for each view, or networks for all views"
        )
    return kinds


def starting_network(start: Bundle, views: tuple[View, ...], member: int = 0) -> Any:
    """Return the bundle's Keras network for these views; of several, the one number `member`."""
    from voxtile.engines.keras_engine import build

    serving = [network for network in start.spec.networks if network.views == views]
    return build(start, serving[member])


def same_outputs(start: ModelSpec, spec: ModelSpec) -> bool:
    """Whether the last layer of a bundle suits the labels of another spec."""
    same = _meaning(start.labels) == _meaning(spec.labels)
    return same and start.activation == spec.activation


def adapted_words(start: ModelSpec, spec: ModelSpec) -> str:
    """Return what is new in networks that start with other weights; empty if nothing is."""
    words = []
    if not same_outputs(start, spec):
        words.append(
            f"the last layer is new, because the labels are {_words(spec.labels)} instead of "
            f"{_words(start.labels)}"
        )
    if added := [name for name in spec.channels if name not in start.channels]:
        words.append(f"new channels start from the mean of the old ones: {', '.join(added)}")
    if removed := [name for name in start.channels if name not in spec.channels]:
        words.append(f"channels are left out: {', '.join(removed)}")
    return f"{'; '.join(words)}; all other weights are those of {start.name}" if words else ""


def _meaning(labels: Sequence[Label]) -> list[tuple[int, tuple[int, ...]]]:
    """Return what the outputs depend on: the values, but not the names and colours."""
    return [(label.value, label.values) for label in labels]


def _words(labels: Sequence[Label]) -> str:
    """Return labels for a message."""
    return ", ".join(f"{label.value} {label.name}" for label in labels)


def warm_start_facts(start: Bundle, scored: Sequence[str]) -> dict[str, Any]:
    """Return facts about the bundle to start with, and the scored cases that it was trained on.

    `cases` are the ids of its training and validation cases, and of the cases of
    the bundle that it started with; `seen` are the scored cases among them. A
    bundle knows only ids, and cases of another cohort may have the same ids.
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
    """Return a sentence about scored cases that were seen before; empty if there are none."""
    count = len(facts.get("seen", ()))
    if not count:
        return ""
    return (
        f"{facts['name']} was trained or chosen with cases that have the ids of {count} of the "
        f"{scored} scored cases: if they are the same cases, the scores are too good"
    )
