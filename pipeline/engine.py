"""Turn a bundle's networks into plain callables. The only importer of keras at run time.

A *model* is any callable from a batch of tiles, float32 of shape (n, rows,
columns, channels), to predictions, float32 of shape (n, rows, columns,
classes); the rest of the pipeline knows no more of a network than that.
"""

import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelError, ModelSpec, Network

from .plan import Plan

Model = Callable[[np.ndarray], np.ndarray]


def load_models(bundle: Bundle, plan: Plan) -> tuple[Model, ...]:
    """Return one model for each network of a bundle, in the spec's order.

    Parameters
    ----------
    bundle : Bundle
    plan : Plan
        Tile and batch; the networks are compiled for this one shape.

    Raises
    ------
    ModelError
        If a network does not fit the spec, or Keras cannot build it.
    """
    return tuple(_load(bundle, network, plan) for network in bundle.spec.networks)


def engine_facts() -> dict[str, str]:
    """Return what runs the networks, for `run.json` and fingerprints.

    Keras itself is not imported: the process that drives a batch runs no
    network and stays small.
    """
    return {
        "engine": "keras",
        "keras": version("keras"),
        "backend": _backend(),
        "precision": "float32",
    }


def _backend() -> str:
    """Return the backend that Keras will choose: the environment's, its settings file's, its own.

    As in keras/src/backend/config.py of Keras 3.
    """
    named = os.environ.get("KERAS_BACKEND")
    if named:
        return named
    home = os.environ.get("KERAS_HOME")
    folder = Path(home) if home else Path(os.path.expanduser("~"), ".keras")  # noqa: PTH111, raises not
    try:
        return str(json.loads((folder / "keras.json").read_bytes()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def _load(bundle: Bundle, network: Network, plan: Plan) -> Model:
    """Return one network as a callable."""
    if not network.file.endswith(".keras"):
        raise ModelError(f"{network.file} cannot be run: only .keras networks can be at present")
    content = bundle.read_network(network)
    from voxtile.models.backend import keras

    # Keras wants a path. The bytes that were checked go into a private file, so that what is
    # loaded is what was checked.
    with tempfile.TemporaryDirectory(prefix="voxtile-") as folder:
        path = Path(folder, "network.keras")
        path.write_bytes(content)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise ModelError(
                f"{bundle.folder / network.file} cannot be built by Keras {keras.__version__} "
                f"({type(error).__name__}); was it made by a newer one?"
            ) from error
    _check_shapes(model, bundle.spec, plan, str(bundle.folder / network.file))
    # XLA compiles for seconds and gains nothing over oneDNN on a CPU (docs/performance.md).
    model.jit_compile = False
    shape = (plan.batch, *plan.tile, bundle.spec.input_channels)

    def predict(tiles: np.ndarray) -> np.ndarray:
        if tiles.shape != shape:
            raise ValueError(
                f"tiles have shape {tiles.shape}, but the model is compiled for {shape}"
            )
        # One compiled function of one shape; `model.predict` builds a data pipeline each time.
        return np.asarray(model.predict_on_batch(tiles))

    return predict


def _check_shapes(model: Any, spec: ModelSpec, plan: Plan, name: str) -> None:
    """Refuse a network that does not take the spec's tiles or give its labels."""
    shapes = model.input_shape, model.output_shape
    if any(not isinstance(shape, tuple) or len(shape) != 4 for shape in shapes):
        raise ModelError(f"{name} has inputs {shapes[0]} and outputs {shapes[1]}; one of each, 4D")
    (_, rows, columns, channels), (*_, classes) = shapes
    if channels != spec.input_channels:
        raise ModelError(
            f"{name} takes {channels} channels, but the spec says {len(spec.channels)} x "
            f"{spec.context_slices} context slices = {spec.input_channels}"
        )
    if classes != spec.output_channels:
        raise ModelError(
            f"{name} gives {classes} classes, but the spec has {len(spec.labels)} labels and "
            f"{spec.activation}, which makes {spec.output_channels}"
        )
    fixed = [size for size in (rows, columns) if size is not None]
    if fixed and (rows, columns) != plan.tile:
        raise ModelError(f"{name} takes tiles of {(rows, columns)} only, not {plan.tile}")
