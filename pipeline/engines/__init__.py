"""What runs the networks of a bundle, behind one plain callable.

engine.py           `Engine`: which program, precision and device; what a model is
choice.py           what was asked for, "auto" among it -> an Engine, once per run
loading.py          a bundle and an Engine -> one model for each network

keras_engine.py     the reference. The only importer of Keras at run time
openvino_engine.py  networks exported once and run by OpenVINO. Its only importer
onnx_engine.py      imported networks, run by ONNX Runtime. Its only importer
exported.py         the cache of exported networks, by the SHA-256 of their source
exporting.py        from Keras to OpenVINO, checked; in a process of its own
cache.py            the user's cache folder
fitting.py          shapes held against the spec; channels-first and logits made to fit
trial.py            tiles to try a network on
threads.py          how many processors an engine may use

evidence.py         what `voxtile models verify` measured, by model and kind of CPU
fallback.py         what happens where memory runs out
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .choice import choose_engine
    from .engine import CALLABLE, Engine, Model
    from .loading import load_models
    from .options import Wish

__all__ = ["CALLABLE", "Engine", "Model", "Wish", "choose_engine", "load_models"]

_HOMES = {"Wish": "options", "choose_engine": "choice", "load_models": "loading"}


def __getattr__(name: str) -> Any:
    """Return a public name, importing its module on first use: options alone are light."""
    if name not in __all__:
        raise AttributeError(f"module 'voxtile.engines' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'engine')}", __name__), name)
