"""A bundle and an engine -> one model for each network."""

from voxtile.models.bundle import Bundle

from .engine import ENGINES, Engine, Model


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
        Each takes any number of tiles, of any size that the network allows,
        and compiles itself once for each size.

    Raises
    ------
    ModelError
        If a network does not fit the spec, or the engine cannot build it.
    EnvironmentFault
        If the engine is not installed, or the device is missing.
    """
    if engine.name == "callable":
        raise ValueError("functions of the caller are not loaded from a bundle")
    module = ENGINES[engine.name].load_module()
    return tuple(module.load(bundle, network, engine) for network in bundle.spec.networks)
