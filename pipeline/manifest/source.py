"""What a source of cases gives, and how its JSON is read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtile.case import Case
from voxtile.errors import ManifestError

from .names import channel_name


@dataclass(frozen=True, slots=True)
class Identity:
    """Who stands behind a pseudonym: a row of the key file."""

    case_id: str
    group: str
    patient_id: str
    study_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class Found:
    """Cases as a source names them.

    Parameters
    ----------
    cases : tuple of Case
        In order.
    notices : tuple of str
        What was left out or assumed.
    labels : tuple of (value, name)
        Names of label values, where the source has some; without background.
    key : tuple of Identity
        Where pseudonyms were given and their key was asked for.
    """

    cases: tuple[Case, ...]
    notices: tuple[str, ...] = ()
    labels: tuple[tuple[int, str], ...] = ()
    key: tuple[Identity, ...] = ()


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises
    ------
    ManifestError
        If it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    except (ValueError, RecursionError) as error:
        raise ManifestError([f"{path} is not JSON ({error})"]) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the value of a JSON file that is an object.

    Raises
    ------
    ManifestError
        As `read_json`, or if it is something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ManifestError([f"{path} holds a {type(value).__name__}, but an object is needed"])
    return value


def channel_names(described: Any, path: Path) -> list[str]:
    """Return channel names of ``{"0": "T1", "1": "T2"}``, in order, fit for columns.

    Raises
    ------
    ManifestError
        If it is not such an object, numbered from 0.
    """
    count = len(described) if isinstance(described, dict) else 0
    numbers = [str(number) for number in range(count)]
    if not numbers or set(described) != set(numbers):
        raise ManifestError(
            [f'{path}: channel names {described!r:.80} must look like {{"0": "T1", "1": "T2"}}']
        )
    names = [channel_name(str(described[number])) for number in numbers]
    # Two channels may have one name there (such as "CT" twice), but no two columns here.
    return [
        name if names.count(name) == 1 else f"{name[:35]}_{number}"
        for number, name in enumerate(names)
    ]


def label_names(described: Any) -> tuple[tuple[int, str], ...]:
    """Return values with names, whichever way round they are written; background left out.

    nnU-Net v2 writes ``{"liver": 1}``, Decathlon ``{"1": "liver"}``. A region
    of nnU-Net, ``{"whole": [1, 2]}``, names no value: 1 and 2 are parts of it.
    One of a single value, ``{"core": [2]}``, is a name like others.

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


def listed(names: Sequence[str]) -> str:
    """Return names for a message, not too many."""
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
