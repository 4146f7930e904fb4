"""Fitted networks -> a bundle: spec, weights, history, licence, and where it all came from."""

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.case import Case
from voxtile.machine.files import replacing, write_json, write_text
from voxtile.models.backend import keras
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.training.data.fingerprint import Fingerprint
from voxtile.training.fitting.checkpoint import Row
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import recipe_facts
from voxtile.version import __version__

from .history import history_table, write_curves


def provenance(
    manifest: Path,
    manifest_sha256: str,
    training: Sequence[Case],
    validation: Sequence[Case],
    recipe: Recipe,
) -> dict[str, Any]:
    """Return what a network was trained from, and with.

    The manifest may have changed since it was read; its hash is that of what
    was read.
    """
    return {
        "manifest": manifest.name,
        "manifest_sha256": manifest_sha256,
        "n_train": len(training),
        "n_val": len(validation),
        "train": [case.case_id for case in training],
        "val": [case.case_id for case in validation],
        "recipe": recipe_facts(recipe),
        "versions": {
            "voxtile": __version__,
            "keras": keras.__version__,
            "backend": f"{keras.config.backend()} {_backend_version()}",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _backend_version() -> str:
    """Return the version of the library that Keras runs on."""
    try:
        return version(keras.config.backend())
    except PackageNotFoundError:
        return "unknown"


def write_bundle(
    folder: Path,
    spec: ModelSpec,
    networks: Sequence[Path],
    facts: dict[str, Any],
    *,
    fingerprint: Fingerprint,
    recipe_text: str,
    histories: Mapping[str, Sequence[Row]],
    licence: bytes | None,
) -> None:
    """Assemble a bundle, whole but for its card and scores, and check that it loads.

    Parameters
    ----------
    folder : Path
        What an interrupted start has left there is replaced.
    spec : ModelSpec
        Without checksums.
    networks : sequence of Path
        The file of each network of the spec.
    facts : dict
        How it was trained.
    fingerprint : Fingerprint
    recipe_text : str
        TOML.
    histories : mapping of str to sequence of dict
        By the name of the network.
    licence : bytes, optional
        Of the weights.
    """
    shutil.rmtree(folder, ignore_errors=True)
    entries = []
    for entry, path in zip(spec.networks, networks, strict=True):
        content = path.read_bytes()
        entries.append(entry.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()}))
        with replacing(folder / entry.file) as file:
            file.write(content)
    spec = spec.model_copy(update={"networks": tuple(entries), "training": facts})
    write_text(folder / "spec.json", spec.dump())
    write_json(folder / "fingerprint.json", fingerprint.dump())
    write_text(folder / "recipe.toml", recipe_text)
    write_text(folder / "history.csv", history_table(histories, spec.labels))
    write_curves(folder / "training.png", histories)
    if licence is not None:
        with replacing(folder / "LICENSE") as file:
            file.write(licence)
    load_bundle(folder)  # before it gets its name: what cannot be loaded is no bundle
