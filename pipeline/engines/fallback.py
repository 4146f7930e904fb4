"""When memory runs out: fewer tiles at once, and finally the processor instead of the GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxtile.errors import CaseError, Notice
from voxtile.machine.memory_errors import is_out_of_memory
from voxtile.models.bundle import Bundle

from .engine import Engine, Model, load_models

# The last notice of what was done when memory ran out, by its code.
Fallbacks = dict[str, Notice]


def resilient(
    models: Sequence[Model],
    bundle: Bundle,
    engine: Engine,
    fallbacks: Fallbacks,
    load: Callable[[Bundle, Engine], tuple[Model, ...]] = load_models,
) -> tuple[Model, ...]:
    """Return models that go on when memory runs out.

    If the tiles of one call do not fit, half as many are tried from then on.
    If a single tile does not fit a GPU, the processor takes over for the rest
    of the process. Both are recorded; the first changes probabilities by at
    most 1e-5 in float32.

    `bundle` is loaded again for the processor. `fallbacks` gets a notice of what was done, by its
    code.
    """
    return tuple(
        _Resilient(model, index, bundle, engine, fallbacks, load)
        for index, model in enumerate(models)
    )


@dataclass(slots=True)
class _Resilient:
    """One model that goes on when memory runs out."""

    _model: Model
    _index: int
    _bundle: Bundle
    _engine: Engine
    _fallbacks: Fallbacks
    _load: Callable[[Bundle, Engine], tuple[Model, ...]]
    _pixels: int | None = None  # fewest pixels at once that are known to be too many

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Return the predictions for a batch of tiles."""
        count, rows, columns, _ = tiles.shape
        if self._pixels is not None and count > 1 and count * rows * columns >= self._pixels:
            return self._halves(tiles)
        try:
            return self._model(tiles)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # This is outside the handler, because the error keeps earlier results in memory.
        if count > 1:
            self._pixels = count * rows * columns
            self._fallbacks["batch_halved"] = Notice(
                "batch_halved",
                f"memory ran out with {count} tiles of {rows}x{columns} at once, so half as many "
                "were tried; give a smaller --batch, or --max-memory",
            )
            return self._halves(tiles)
        if self._engine.device == "cpu":
            raise CaseError(
                "out_of_memory",
                f"memory ran out for a single tile of {rows}x{columns}; give a smaller --tile, "
                "or more memory",
            )
        self._fallbacks["moved_to_cpu"] = Notice(
            "moved_to_cpu",
            f"a tile of {rows}x{columns} does not fit into the GPU's memory, so the processor "
            "took over; give a smaller --tile",
        )
        self._engine = replace(self._engine, device="cpu")
        self._model = self._load(self._bundle, self._engine)[self._index]
        self._pixels = None
        return self._model(tiles)

    def _halves(self, tiles: np.ndarray) -> np.ndarray:
        """Return the predictions for two halves of a batch, one after the other."""
        middle = (len(tiles) + 1) // 2
        return np.concatenate([self(tiles[:middle]), self(tiles[middle:])])
