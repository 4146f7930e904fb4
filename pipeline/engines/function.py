"""A network that is a function of the caller, such as a PyTorch module: tried once, then run."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxtile.errors import ModelError, raised_by
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec

from .engine import CALLABLE, Engine, Model
from .fitting import adapted, check_answer
from .trial_tiles import trial_tiles


@dataclass(frozen=True, slots=True)
class _Copied:
    """A function whose answers are copied, because they are changed in place; of any array type."""

    function: Model

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the answers for some tiles, float32."""
        return np.array(self.function(tiles), np.float32)


def function_models(function: Model, spec: ModelSpec) -> tuple[tuple[Model, ...], Engine]:
    """Return a caller's function as the models of a spec, and the engine that a run records.

    The function takes and gives what the spec says, also its layout and logits. It is tried on a
    tile, and the hash of its answer is part of the engine: with other weights a run is another run.
    ModelError if the function raises an error, or its answer is not what the spec says.
    """
    models = tuple(adapted(_Copied(function), network, spec) for network in spec.networks)
    tiles, digest = trial_tiles(spec), hashlib.sha256()
    for model in models:
        try:
            answer = model(tiles)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"the network {raised_by(error)} for a trial tile of shape {tiles.shape}; this is "
                "an error of the function that was given as network, or its spec has another "
                "tile, layout or number of channels"
            ) from error
        check_answer(answer, tiles, spec, "the network")
        digest.update(np.ascontiguousarray(answer).tobytes())
    versions = (("answer to a trial tile", digest.hexdigest()[:16]),)
    return models, replace(CALLABLE, versions=versions)


def function_bundle(like: ModelSpec | Bundle) -> Bundle:
    """Return what a run needs to know of a function: a bundle without files."""
    return like if isinstance(like, Bundle) else Bundle(Path(like.name), like)
