"""Folds that were trained and scored: find them, and refuse those that do not belong together."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.errors import ModelError
from voxtile.models.bundle import Bundle, load_bundle

from .held_out import read_held_out

# What the machine decides, and nobody asked for: folds may be fitted on different ones.
MACHINES_OWN = ("precision",)
_OWN = ("name", "description", "networks", "thresholds", "divisions", "postprocess", "training")


@dataclass(frozen=True, slots=True, eq=False)
class FinishedFold:
    """A fold that was trained and scored.

    Parameters
    ----------
    number : int
    bundle : Bundle
    table : DataFrame
        Of ``held_out.csv``.
    """

    number: int
    bundle: Bundle
    table: pd.DataFrame


def fold_folder(out: Path, number: int) -> Path:
    """Return where a fold lies."""
    return out / f"fold{number}"


def finished_folds(out: Path, count: int) -> list[FinishedFold]:
    """Return the folds that are trained and scored, in order.

    Raises
    ------
    ModelError
        If one of them is damaged.
    """
    found = []
    for number in range(count):
        folder = fold_folder(out, number)
        table = read_held_out(folder)
        if table is not None:
            found.append(FinishedFold(number, load_bundle(folder), table))
    return found


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Refuse folds that do not belong together.

    Raises
    ------
    ModelError
        With what differs, for every fold that does.
    """
    first = _identity(bundles[0])
    problems = []
    for bundle in bundles[1:]:
        other = _identity(bundle)
        differs = [
            f"{name} {_short(other.get(name))} and not {_short(first.get(name))}"
            for name in dict.fromkeys((*first, *other))
            if first.get(name) != other.get(name)
        ]
        if differs:
            problems.append(
                f"{bundle.folder} does not belong to {bundles[0].folder}: {'; '.join(differs)}"
            )
    numbers = [bundle.spec.training["fold"]["number"] for bundle in bundles]
    problems += [
        f"{bundle.folder} is fold {number}; name it fold{number}"
        for place, (bundle, number) in enumerate(zip(bundles, numbers, strict=True))
        if number != place
    ]
    if problems:
        raise ModelError(
            "\n".join([*problems, "train the folds that differ again, or keep them elsewhere"])
        )


def _identity(bundle: Bundle) -> dict[str, Any]:
    """Return what all folds of one cross-validation share."""
    facts = bundle.spec.training
    if "fold" not in facts:
        raise ModelError(
            f"{bundle.folder} is no fold of a cross-validation; folds come from voxtile train "
            "--folds"
        )
    recipe = {
        f"recipe's {name}": value
        for name, value in facts["recipe"].items()
        if name not in MACHINES_OWN
    }
    spec = bundle.spec.model_dump(mode="json", exclude=set(_OWN))
    return {
        "manifest's SHA-256": facts["manifest_sha256"],
        "number of folds": facts["fold"]["count"],
        "seed": facts["fold"]["seed"],
        "init": facts.get("init", {}).get("sha256"),
        **recipe,
        **{f"spec's {name}": value for name, value in spec.items()},
    }


def _short(value: Any) -> str:
    """Return a value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
