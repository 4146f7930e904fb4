"""Fitted networks -> a bundle: spec, weights, history, licence, and how it was made."""

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxtile.case import Case
from voxtile.machine.files import json_text, replacing
from voxtile.machine.versions import installed_version
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.training.data.fingerprint import Fingerprint
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import recipe_facts
from voxtile.version import __version__

from .history import histories, history_table

if TYPE_CHECKING:  # this import loads Keras, which takes seconds
    from voxtile.training.fitting.networks import FittedNetwork


def provenance(
    training: Sequence[Case], validation: Sequence[Case], recipe: Recipe
) -> dict[str, Any]:
    """Return the cases, choices and versions that a network was trained with."""
    from voxtile.models.backend import keras

    backend = keras.config.backend()
    backend += f" {installed_version(backend) or 'unknown'}"
    return {
        "n_train": len(training),
        "n_val": len(validation),
        "train": [case.case_id for case in training],
        "val": [case.case_id for case in validation],
        "recipe": recipe_facts(recipe),
        "versions": {
            "voxtile": __version__,
            "keras": keras.__version__,
            "backend": backend,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_bundle(
    folder: Path,
    spec: ModelSpec,
    fitted: "Sequence[FittedNetwork]",
    facts: dict[str, Any],
    *,
    fingerprint: Fingerprint,
    recipe_text: str,
    licence: bytes | None,
) -> None:
    """Write a bundle of fitted networks, complete except for its card and scores.

    A folder that an interrupted training run left is replaced. The spec gets the
    checksums, and `facts` say how the networks were trained.
    """
    shutil.rmtree(folder, ignore_errors=True)
    networks, files, rows = [], {}, histories(fitted)
    for entry, one in zip(spec.networks, fitted, strict=True):
        files[entry.file] = one.file.read_bytes()
        digest = hashlib.sha256(files[entry.file]).hexdigest()
        networks.append(entry.model_copy(update={"sha256": digest}))
    spec = spec.model_copy(update={"networks": tuple(networks), "training": facts})
    files |= {
        "fingerprint.json": json_text(fingerprint.dump()).encode(),
        "recipe.toml": recipe_text.encode(),
        "history.csv": history_table(rows, spec.labels).encode(),
    }
    if licence is not None:
        files["LICENSE"] = licence
    fill_bundle(folder, spec, files)


def fill_bundle(folder: Path, spec: ModelSpec, files: Mapping[str, bytes]) -> Bundle:
    """Write the files of a bundle and its spec, and return the loaded bundle."""
    for name, content in (*files.items(), ("spec.json", spec.dump().encode())):
        with replacing(folder / name) as file:
            file.write(content)
    return load_bundle(folder)
