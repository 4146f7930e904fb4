"""Train a finished model further: what must be as it was, and where its networks go on.

    voxtile train cases.csv --out MODEL --resume --minutes +60

The networks start with the weights of the model, and the schedule of the learning rate begins
again at the recipe's peak: a warm restart (Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient
Descent with Warm Restarts", section 3). A model does not keep the state of its optimiser, so that
starts anew.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import UsageError, counted
from voxtile.library.archive import other_files
from voxtile.machine.files import json_text
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.lock import locked

from .data.fingerprint import Fingerprint
from .recipe.recipe import BUDGETS, Recipe
from .recipe.recipe_file import read_settled
from .recipe.rules import Reasons
from .recipe.warm_start import same_outputs
from .source import reading_facts
from .workfolder import BEFORE, work_path

# Choices that may differ from those of the model.
_FREE = (*BUDGETS, "patience", "precision", "optimizer", "learning_rate")
_REASON = re.compile(r"^(?:\[\[?)?(\w+)(?:\]\]?| = .*?)  # (.+)$", re.MULTILINE)
_WHOLE = ("epoch", "steps")
_TRAIN_NEW = "train a new model, with --init to start from this one"


def finished_model(out: Path) -> Bundle:
    """Return the model that is trained further, each network once as it was trained.

    It is `out`, until this training run has replaced it. UsageError if it cannot be trained
    further.
    """
    work, folder = work_path(out), out
    if (work / BEFORE).is_dir():
        folder = work / BEFORE
        if not out.exists():  # killed between moving the old model away and the new one there
            with locked(work):
                (work / "bundle").rename(out)
    if not (folder / "spec.json").is_file():
        raise UsageError(
            f"{out} is not a finished model, so it cannot be trained further; leave out the + of "
            "the budget"
        )
    bundle = load_bundle(folder)
    training = bundle.spec.training
    if not bundle.spec.trainable or not {"train", "val", "recipe"} <= training.keys():
        raise UsageError(
            f"{out} was imported or joined, so its training cannot go on; train a new model"
        )
    for name in ("recipe.toml", "fingerprint.json"):
        if not (folder / name).is_file():
            raise UsageError(
                f"{out} has no {name}, which says how it was trained; restore the file, or "
                f"{_TRAIN_NEW}"
            )
    if others := other_files(bundle):
        raise UsageError(
            f"{out} has files that are no part of a model ({', '.join(others)}) and would be lost "
            "when the longer trained model replaces it; move them away first"
        )
    return replace(bundle, spec=_as_trained(bundle.spec))


def further(asked: Recipe, start: Bundle) -> tuple[Recipe, Reasons]:
    """Return the recipe of the model with a new budget, and its reasons.

    UsageError if `asked` has no budget, or a choice that the model did not have.
    """
    known = read_settled(start.folder / "recipe.toml")
    usual = Recipe()
    budget = {name: getattr(asked, name) for name in BUDGETS}
    if not any(budget.values()):
        raise UsageError("how much longer? give a budget, such as --minutes +60")
    labels = start.spec.labels
    for choice in fields(Recipe):
        name = choice.name
        wanted, had = getattr(asked, name), getattr(known, name)
        if name in _FREE or wanted in (getattr(usual, name), had):
            continue
        if name == "labels" and same_outputs(
            start.spec, start.spec.model_copy(update={"labels": wanted})
        ):
            labels = wanted
            continue
        shown = "" if name == "labels" else f" {wanted} instead of {had}"
        raise UsageError(
            f"{name} is another one than in the training of {start.name}{shown}; leave {name} "
            f"out, or {_TRAIN_NEW}"
        )
    changed = {name: getattr(asked, name) or getattr(known, name) for name in _FREE[3:]}
    earlier = " and ".join(f"{value:g} {name}" for name, value in _budgets(start))
    reasons = dict(_REASON.findall((start.folder / "recipe.toml").read_text("utf-8")))
    why = f"a warm restart of the schedule, after {earlier}"
    reasons |= {name: why for name, value in budget.items() if value is not None}
    recipe = replace(known, **budget, **changed, labels=labels, views=start.spec.views)
    return recipe, reasons


def check_cases(
    start: Bundle,
    training: Sequence[Case],
    validation: Sequence[Case],
    channels: Sequence[str],
    policy: ReadPolicy,
) -> None:
    """Refuse other cases, channels or ways of reading than those of the model."""
    facts = start.spec.training
    for what, cases in (("train", training), ("val", validation)):
        now, before = {case.case_id for case in cases}, set(facts[what])
        if now != before:
            raise UsageError(
                f"{start.name} was trained with {counted(len(before), 'case')} of split {what}, "
                f"but the manifest has {len(now - before)} others and lacks "
                f"{len(before - now)}; use the manifest of its training, or {_TRAIN_NEW}"
            )
    if tuple(channels) != start.spec.channels:
        raise UsageError(
            f"{start.name} has the channels {', '.join(start.spec.channels)}, but the manifest has "
            f"{', '.join(channels)}; use the manifest of its training, or {_TRAIN_NEW}"
        )
    if reading_facts(policy).get("reading") != facts.get("reading"):
        raise UsageError(
            f"the scans of {start.name} were read with {facts.get('reading') or 'no options'}; "
            "give the same options"
        )


def check_fingerprint(start: Bundle, fingerprint: Fingerprint) -> None:
    """Refuse training cases with other content than those of the model."""
    now = json.loads(json_text(fingerprint.dump()))
    before = json.loads((start.folder / "fingerprint.json").read_bytes())
    for new, old in zip(now["labels"], before.get("labels", ()), strict=False):
        if "place_sd" not in old:  # earlier versions did not measure it
            del new["place_sd"]
    if different := [key for key in now if now[key] != before.get(key)]:
        raise UsageError(
            f"the training cases are not those of {start.name}: the fingerprint has other "
            f"{', '.join(different)}; restore the scans and references, or {_TRAIN_NEW}"
        )


def earlier_rows(start: Bundle, names: Sequence[str]) -> list[tuple[dict[str, Any], ...]]:
    """Return the history of each network of the model; empty without a ``history.csv``."""
    path = start.folder / "history.csv"
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = row.pop("network", "")
                if name in rows:
                    rows[name].append({key: _number(key, cell) for key, cell in row.items()})
    return [tuple(rows[name]) for name in names]


def longer_facts(start: Bundle, recipe: Recipe) -> dict[str, Any]:
    """Return facts about this and all earlier parts of the training."""
    before = start.spec.training
    part = {
        "model": start.sha256,
        "steps": before["steps"],
        "budget": _budget(before["recipe"]),
        "learning_rate": recipe.learning_rate,
        "optimiser": "new",
    }
    return {"longer": [*before.get("longer", ()), part]}


def longer_words(facts: Mapping[str, Any]) -> str:
    """Return sentences for the card of a model that was trained further; empty for others."""
    parts = facts.get("longer", ())
    return "".join(
        f" After {part['steps']} steps (budget {_phrase(part['budget'])}, model "
        f"{part['model'][:12]}) the training went on: the schedule began again at a learning rate "
        f"of {part['learning_rate']:g}, with a new optimiser."
        for part in parts
    )


def _as_trained(spec: ModelSpec) -> ModelSpec:
    """Return a spec that names each network once, with all of its views and the weight 1."""
    networks: dict[str, Network] = {}
    for one in spec.networks:
        views = (*networks[one.file].views, *one.views) if one.file in networks else one.views
        networks[one.file] = one.model_copy(update={"views": views, "weight": 1.0})
    return spec.model_copy(update={"networks": tuple(networks.values())})


def _budget(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the budget of a recipe as JSON values."""
    return {name: recipe[name] for name in BUDGETS if recipe.get(name) is not None}


def _budgets(start: Bundle) -> list[tuple[str, float]]:
    """Return the budgets of all parts of a model's training."""
    training = start.spec.training
    each = [part["budget"] for part in training.get("longer", ())]
    return [pair for one in (*each, _budget(training["recipe"])) for pair in one.items()]


def _phrase(budget: Mapping[str, Any]) -> str:
    """Return a budget in words."""
    return " ".join(f"{value:g} {name}" for name, value in budget.items())


def _number(name: str, cell: str | None) -> float | int | str:
    """Return a cell of a history."""
    return "" if not cell else int(cell) if name in _WHOLE else float(cell)
