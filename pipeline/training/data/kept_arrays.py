"""Arrays that a training keeps as files, to be mapped into memory.

A ``.json`` beside them is written last and says what they were made from: a
training that goes on takes what is whole and still the same, and makes the
rest anew.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing


def kept_record(path: Path, made_from: str, arrays: Sequence[Path]) -> Mapping[str, Any] | None:
    """Return a record whose arrays are there and were made from the same things."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        same = record.get("made_from") == made_from
    except (OSError, ValueError, AttributeError):
        return None
    return record if same and all(array.exists() for array in arrays) else None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    try:
        with replacing(path) as file:
            np.save(file, array)
    except EnvironmentFault as error:
        raise EnvironmentFault(
            f"{error}; training keeps its cases beside the output until it ends"
        ) from error
