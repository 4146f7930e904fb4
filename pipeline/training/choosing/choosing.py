"""The last stage of a training run: validation cases choose how the networks are used.

bundle -> probabilities of each view for the validation cases -> selection
       -> the same bundle; its spec has weights, thresholds, post-processing and scores,
          and its card is written
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.engines import Wish, choose_engine, load_models
from voxtile.machine.files import remove, write_text
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.preparation.plan import make_plan
from voxtile.training.bundle.card import model_card
from voxtile.training.bundle.selection_card import selection_lines
from voxtile.training.bundle.too_short import warning_if_useless
from voxtile.training.data.stored_cases import StoredCase
from voxtile.training.fitting.judging import Scores, score_facts

from .candidates import MARGIN
from .evidence import gather
from .selection import THRESHOLDS, Selection, select, view_shares


def choose(
    folder: Path,
    cases: Sequence[StoredCase],
    groups: Sequence[str],
    work: Path,
    device: str = "auto",
) -> list[str]:
    """Let validation cases choose view weights, thresholds and post-processing of a bundle.

    The spec is written again and the card for the first time, and a network with
    weight 0 is removed. `groups` has the group of each case, such as its patient;
    `work` gets the probabilities of the views. The result is returned as lines.
    """
    bundle = load_bundle(folder)
    spec = bundle.spec
    plan = make_plan(bundle)
    models = load_models(bundle, choose_engine(bundle, Wish(device=device)))
    sigmoid = spec.activation == "sigmoid"
    least = min((*THRESHOLDS, *spec.thresholds)) if sigmoid else 1 / spec.output_channels
    evidence = gather(cases, spec, models, plan, work, least=least)
    selection = select(evidence, spec)
    chosen = apply_selection(spec, selection)
    scores = _scores([case.case_id for case in cases], selection.dice)
    facts = {
        **chosen.training,
        "selection": _facts(selection, spec, cases),
        "validation_dice": score_facts(scores, spec.labels, groups),
    }
    chosen = chosen.model_copy(update={"training": facts})
    write_text(folder / "spec.json", chosen.dump())
    write_text(folder / "README.md", model_card(chosen, has_licence=(folder / "LICENSE").exists()))
    used = {network.file for network in chosen.networks}
    for unused in {network.file for network in spec.networks} - used:
        remove(folder / unused)
    load_bundle(folder)  # verify it before the training ends
    warning = warning_if_useless(facts)
    lines = selection_lines(facts["selection"])
    return [*lines, *([f"warning: {warning}"] if warning else [])]


def apply_selection(spec: ModelSpec, selection: Selection) -> ModelSpec:
    """Return a spec with the choices.

    If the weights of the views changed, the spec names each network once for
    each of its views. A network with weight 0 is left out, with its training
    facts.
    """
    changes: dict[str, Any] = {
        "thresholds": selection.thresholds,
        "divisions": selection.divisions,
        "postprocess": selection.postprocess,
    }
    if not np.allclose(selection.weights, view_shares(spec)):
        changes["networks"] = tuple(_weighted(spec, selection.weights))
        changes["training"] = _facts_of(spec.training, changes["networks"])
    return ModelSpec.model_validate(spec.model_copy(update=changes).model_dump())


def _weighted(spec: ModelSpec, weights: Sequence[float]) -> Iterator[Network]:
    """Yield the networks of each view; their weights add up to the weight of the view."""
    for view, weight in zip(spec.views, weights, strict=True):
        serving = [network for network in spec.networks if view in network.views]
        whole = sum(network.weight for network in serving)
        for network in serving:
            share = round(weight * network.weight / whole, 6)
            if share > 0:
                yield network.model_copy(update={"views": (view,), "weight": share})


def _facts_of(training: dict[str, Any], networks: Sequence[Network]) -> dict[str, Any]:
    """Return training facts of the given networks only, and their sums."""
    files = {network.file for network in networks}
    left = [facts for facts in training.get("networks", ()) if facts["file"] in files]
    sums = {name: sum(facts[name] for facts in left) for name in ("parameters", "steps")}
    return {**training, "networks": left, **sums} if left else training


def _facts(selection: Selection, spec: ModelSpec, cases: Sequence[StoredCase]) -> dict[str, Any]:
    """Return a selection for the spec, as JSON values."""
    ids = [case.case_id for case in cases]
    weights = [round(weight, 6) for weight in selection.weights]
    alone = [_mean(ids, dice) for dice in selection.view_dice]
    return {
        "cases": len(cases),
        "margin": MARGIN,
        "weights": dict(zip(spec.views, weights, strict=True)),
        "weights_changed": not np.allclose(selection.weights, view_shares(spec)),
        "thresholds": list(selection.thresholds),
        "thresholds_changed": selection.thresholds != spec.thresholds,
        "divisions": [division.model_dump(mode="json") for division in selection.divisions],
        "postprocess": [
            step.model_dump(mode="json", exclude_none=True) for step in selection.postprocess
        ],
        "dice": {
            **dict(zip(spec.views, alone, strict=True)),
            "before": _mean(ids, selection.before),
            "chosen": _mean(ids, selection.dice),
        },
    }


def _mean(ids: Sequence[str], dice: np.ndarray) -> float:
    """Return the mean Dice, computed as in a validation during the training run."""
    return round(_scores(ids, dice).mean, 4)


def _scores(ids: Sequence[str], dice: np.ndarray) -> Scores:
    """Return a table of Dice as scores."""
    return Scores(
        tuple((case_id, tuple(row)) for case_id, row in zip(ids, dice.tolist(), strict=True))
    )
