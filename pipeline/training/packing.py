"""A fitted network -> a whole bundle: spec, weights, history, card, and where it all came from."""

import csv
import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_jsonable_python

import voxtile
from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError
from voxtile.files import replacing, write_text
from voxtile.models.backend import keras
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import ModelSpec, Network

from .card import model_card
from .coach import NETWORK
from .recipe import Recipe, settled


def make_spec(
    name: str, description: str, channels: tuple[str, ...], recipe: Recipe, manifest: Path
) -> ModelSpec:
    """Return the spec of the network to be; its checksum is not known yet."""
    if not recipe.labels:
        raise ManifestError(
            [f"{manifest}: no training label has a value other than 0, so nothing can be learnt"]
        )
    softmax = len(recipe.labels) > 1 and not any(label.region for label in recipe.labels)
    return ModelSpec(
        name=name,
        description=description,
        channels=channels,
        context_slices=recipe.context_slices,
        spacing_mm=recipe.spacing_mm,
        intensity=recipe.intensity,
        tile=settled(recipe.tile),
        multiple=2 ** settled(recipe.depth),
        overlap=recipe.overlap,
        labels=recipe.labels,
        activation="softmax" if softmax else "sigmoid",
        networks=(Network(file=NETWORK, sha256="0" * 64, views=settled(recipe.views)),),
    )


def provenance(
    manifest: Path, training: Sequence[Case], validation: Sequence[Case], recipe: Recipe
) -> dict[str, Any]:
    """Return what a network was trained from, and with."""
    return {
        "manifest": manifest.name,
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "n_train": len(training),
        "n_val": len(validation),
        "train": [case.case_id for case in training],
        "val": [case.case_id for case in validation],
        "recipe": _recipe_facts(recipe),
        "versions": {
            "voxtile": voxtile.__version__,
            "keras": keras.__version__,
            "backend": f"{keras.config.backend()} {_backend_version()}",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe for the spec, without what was not used or stands there already."""
    facts: dict[str, Any] = to_jsonable_python(recipe)
    return {name: fact for name, fact in facts.items() if fact is not None and name != "labels"}


def _backend_version() -> str:
    """Return the version of the library that Keras runs on."""
    try:
        return version(keras.config.backend())
    except PackageNotFoundError:
        return "unknown"


def write_bundle(
    work: Path,
    spec: ModelSpec,
    facts: dict[str, Any],
    history: Sequence[dict[str, float | int | str]],
    licence: bytes | None,
) -> None:
    """Assemble the whole bundle in the working folder, and check that it loads."""
    bundle = work / "bundle"
    content = (work / NETWORK).read_bytes()
    network = spec.networks[0].model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    spec = spec.model_copy(update={"networks": (network,), "training": facts})
    with replacing(bundle / NETWORK) as file:
        file.write(content)
    write_text(bundle / "spec.json", spec.dump())
    write_text(bundle / "history.csv", _table(history, spec))
    write_text(bundle / "README.md", model_card(spec, has_licence=licence is not None))
    if licence is not None:
        with replacing(bundle / "LICENSE") as file:
            file.write(licence)
    load_bundle(bundle)  # before it gets its name: what cannot be loaded is no bundle


def publish(bundle: Path, out: Path) -> None:
    """Give the finished bundle its name, in one step."""
    try:
        bundle.rename(out)
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be made ({error.strerror}); did it appear while the training ran?"
        ) from error


def _table(history: Sequence[dict[str, float | int | str]], spec: ModelSpec) -> str:
    """Return the history as CSV; an epoch that was not validated has empty cells."""
    columns = ["epoch", "steps", "seconds", "learning_rate", "loss", "val_dice"]
    columns += [f"val_dice_{label.value}" for label in spec.labels]
    text = StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
