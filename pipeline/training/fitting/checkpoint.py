"""The state of a fit as one file, written completely or not at all; a kill costs only minutes.

A checkpoint has everything that the next step depends on: weights, moving
statistics, the optimiser's moments and mean weights, the best weights so far,
and the `Standing`. The stream of batches has no state: each batch depends only on
the seed and its number.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing

from .judging import Scores

Row = dict[str, float | int | str]

_STANDING = "standing"
_BEST = "best/"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the fit of one network has come."""

    step: int = 0  # finished steps, which is the number of the next batch
    epoch: int = 0  # finished epochs
    seconds: float = 0.0  # used part of the budget, in all starts together
    validation_s: float = 0.0  # seconds of all validations
    last_validation_s: float = 0.0  # seconds of the last validation
    losses: tuple[float, ...] = ()  # loss of each step of the current epoch
    wait_s: float = 0.0  # seconds of the current epoch spent waiting for batches
    work_s: float = 0.0  # seconds of the current epoch spent in steps
    best_epoch: int = 0  # epoch of the best weights; 0 before the first validation
    best: Scores | None = None
    stale: int = 0  # validations since the last improvement
    history: tuple[Row, ...] = ()
    done: bool = False
    # Whether the network concatenates skipped channels before upsampled ones, as
    # `voxtile.models.unet.build_unet` did in voxtile 0.1.0.
    skip_first: bool = False


def best_weights(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the weights of the best validated epoch, in Keras' order."""
    return [arrays[name] for name in sorted(arrays) if name.startswith(_BEST)]


def named_weights(weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return weights under the names that `best_weights` looks for."""
    return {f"{_BEST}{number:04d}": value for number, value in enumerate(weights)}


def write_checkpoint(path: Path, standing: Standing, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace a checkpoint."""
    text = json.dumps(asdict(standing))  # a score may be NaN
    words = np.frombuffer(text.encode(), np.uint8)
    with replacing(path) as file:
        np.savez(file, **{**arrays, _STANDING: words})  # type: ignore[arg-type]


def read_checkpoint(path: Path) -> tuple[Standing, dict[str, np.ndarray]] | None:
    """Read a checkpoint; None if there is no file."""
    try:
        with np.load(path, allow_pickle=False) as archive:  # each member's CRC is checked
            arrays = {name: archive[name] for name in archive.files}
        words: Any = json.loads(arrays.pop(_STANDING).tobytes())
        words.setdefault("skip_first", True)  # voxtile 0.1.0 had that order, and did not write it
        return TypeAdapter(Standing).validate_python(words), arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError) as error:
        raise EnvironmentFault(
            f"{path} is damaged ({type(error).__name__}); remove it to fit this network again with "
            "--resume, or remove its folder to train from the start"
        ) from error
