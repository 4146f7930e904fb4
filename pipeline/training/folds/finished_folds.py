"""Find the folds that are trained and scored, and refuse those that do not belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from voxtile.errors import ModelError
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.training.differences import differences

from .held_out import read_held_out

# These depend on the machine, and folds may be fitted on different machines.
MACHINES_OWN = ("recipe's precision",)
_OWN = ("name", "description", "networks", "thresholds", "divisions", "postprocess", "training")


@dataclass(frozen=True, slots=True, eq=False)
class FinishedFold:
    """A fold that was trained and scored, with the table of its ``held_out.csv``."""

    number: int
    bundle: Bundle
    table: pd.DataFrame


def fold_folder(out: Path, number: int) -> Path:
    """Return the folder of a fold."""
    return out / f"fold{number}"


def finished_folds(out: Path, count: int) -> list[FinishedFold]:
    """Return the folds that are trained and scored, in order."""
    found = []
    for number in range(count):
        folder = fold_folder(out, number)
        if (table := read_held_out(folder)) is not None:
            found.append(FinishedFold(number, load_bundle(folder), table))
    return found


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Refuse folds that do not belong together."""
    first = _identity(bundles[0])
    problems = [
        f"{bundle.folder} does not belong to {bundles[0].folder}: {'; '.join(found)}"
        for bundle in bundles[1:]
        if (found := differences(_identity(bundle), first, ignored=MACHINES_OWN))
    ]
    numbers = [bundle.spec.training["fold"]["number"] for bundle in bundles]
    problems += [
        f"{bundle.folder} is fold {number}; name it fold{number}"
        for place, (bundle, number) in enumerate(zip(bundles, numbers, strict=True))
        if number != place
    ]
    if problems:
        raise ModelError(
            "\n".join([*problems, "train these folds again, or move them to another folder"])
        )


def _identity(bundle: Bundle) -> dict[str, Any]:
    """Return what all folds of one cross-validation share."""
    facts = bundle.spec.training
    if "fold" not in facts:
        raise ModelError(
            f"{bundle.folder} is not a fold of a cross-validation; voxtile train --folds makes "
            "folds"
        )
    return {
        "manifest's SHA-256": facts["manifest_sha256"],
        "number of folds": facts["fold"]["count"],
        "seed": facts["fold"]["seed"],
        "column of folds": facts["fold"].get("column"),
        "init": facts.get("init", {}).get("sha256"),
        "recipe": facts["recipe"],
        "choosing cases": facts["n_val"] > 0,
        "spec": bundle.spec.model_dump(mode="json", exclude=set(_OWN)),
    }
