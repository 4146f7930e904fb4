"""The cases that are found in a data set, and its descriptions in JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import ManifestError
from voxtile.machine.files import regular

from .names import channel_name


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity behind a pseudonym: a row of the key file."""

    case_id: str
    group: str
    patient_id: str
    study_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class Found:
    """Cases found in a source.

    Parameters
    ----------
    cases : tuple of Case
        In the order of the manifest.
    notices : tuple of str
        Sentences about what was left out or assumed.
    labels : tuple of (value, name)
        Names of label values without the background, if the source has names.
    key : tuple of Identity
        The key of the pseudonyms, if requested.
    """

    cases: tuple[Case, ...]
    notices: tuple[str, ...] = ()
    labels: tuple[tuple[int, str], ...] = ()
    key: tuple[Identity, ...] = ()


def read_json(path: Path) -> Any:
    """Return the value of a JSON file."""
    try:
        return json.loads(regular(path).read_text("utf-8-sig"))
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise ManifestError([f"{path} is not valid JSON ({error})"]) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the value of a JSON file that is an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ManifestError([f"{path} must hold a JSON object, but holds a {type(value).__name__}"])
    return value


def channel_names(described: Any, path: Path) -> list[str]:
    """Return the channel names of ``{"0": "T1", "1": "T2"}`` in order, as valid column names."""
    count = len(described) if isinstance(described, dict) else 0
    numbers = [str(number) for number in range(count)]
    if not numbers or set(described) != set(numbers):
        raise ManifestError(
            [f'{path}: channel names {described!r:.80} must look like {{"0": "T1", "1": "T2"}}']
        )
    names = [channel_name(str(described[number])) for number in numbers]
    # Two channels may have the same name in such a file, such as "CT"; two columns may not.
    return [
        name if names.count(name) == 1 else f"{name[:35]}_{number}"
        for number, name in enumerate(names)
    ]


def label_names(described: Any) -> tuple[tuple[int, str], ...]:
    """Return label values with their names, without the background.

    nnU-Net v2 writes ``{"liver": 1}``, Decathlon ``{"1": "liver"}``. A region
    of nnU-Net such as ``{"whole": [1, 2]}`` names no single value and is left
    out; a region with a single value, ``{"core": [2]}``, names that value.

    Examples
    --------
    >>> label_names({"background": 0, "whole": [1, 2], "core": [2]})
    ((2, 'core'),)
    """
    if not isinstance(described, dict):
        return ()
    names: dict[int, str] = {}
    for key, said in described.items():
        value = said[0] if isinstance(said, list) and len(said) == 1 else said
        if isinstance(value, int) and not isinstance(value, bool):
            names[value] = str(key)
        elif isinstance(value, str) and str(key).isdecimal():
            names[int(key)] = value
    return tuple(sorted((value, name) for value, name in names.items() if value > 0))
