"""What runs the networks of a bundle, behind one plain callable.

engine.py            the table of engines; the `Engine` of a run; bundle, `Engine` -> models
choice.py            options, "auto" among them -> an Engine, once for each run

keras_engine.py      the reference for .keras networks; imports Keras
openvino_engine.py   networks that were translated once, run by OpenVINO; imports it
onnx_engine.py       .onnx networks, run by ONNX Runtime; imports it
fitting.py           input and output shapes checked; other layouts and logits adapted
function.py          a function of the caller as a network; imports nothing

translated.py        the cache of translated networks, by the SHA-256 of their source
translating.py       from Keras to other formats, checked; runs in a separate process
quantised.py         networks in 8-bit integers, made and cached
layer_groups.py      the layers of a network by their place, such as encoder levels
sensitivity.py       which groups of layers make the error of integers
cached_networks.py   networks in folders of the cache, verified when read
exchange.py          models exported for other programs, and imported from them

short_numbers.py     how much faster than float32 shorter numbers are here
trial_tiles.py       tiles to try a network on
measurements.py      what `voxtile models verify` measured, by model and kind of processor
fallback.py          what happens when memory runs out
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .choice import choose_engine
    from .engine import CALLABLE, Engine, Model, load_models
    from .options import Wish

__all__ = ["CALLABLE", "Engine", "Model", "Wish", "choose_engine", "load_models"]

_HOMES = {"Wish": "options", "choose_engine": "choice", "load_models": "engine"}


def __getattr__(name: str) -> Any:
    """Return a public name. Its module is imported on first use, since engines are heavy."""
    if name not in __all__:
        raise AttributeError(f"module 'voxtile.engines' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'engine')}", __name__), name)
