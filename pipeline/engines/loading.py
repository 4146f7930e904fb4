"""A bundle and an engine -> one model for each of its networks."""

import importlib

from voxtile.models.bundle import Bundle

from .engine import Engine, Model

_MODULES = {"keras": "keras_engine", "openvino": "openvino_engine", "onnx": "onnx_engine"}


def load_models(bundle: Bundle, engine: Engine) -> tuple[Model, ...]:
    """Return one model for each network of a bundle, in the spec's order.

    Parameters
    ----------
    bundle : Bundle
    engine : Engine
        From `choose_engine`.

    Returns
    -------
    tuple of Model
        Each takes batches of any size and tiles of any size that the network
        allows; what it compiles for a size, it keeps.

    Raises
    ------
    ModelError
        If a network does not fit the spec, or the engine cannot build it.
    EnvironmentFault
        If the engine or the device is not there.
    """
    # Each is heavy, and only one is wanted.
    module = importlib.import_module(f".{_MODULES[engine.name]}", __package__)
    return tuple(module.load(bundle, network, engine) for network in bundle.spec.networks)
