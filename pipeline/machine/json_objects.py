"""Read JSON files that may be damaged: an object of the expected shape, or one clear error."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

from .files import regular

# In a shape, the value of every key that has no shape of its own.
ANY_KEY = "*"
_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    NoneType: "null",
}


def read_object(
    path: Path, shape: Mapping[str, Any], *, required: Collection[str] = ()
) -> dict[str, Any]:
    """Read a file that holds a JSON object; OSError if it cannot be read, and as `parse_object`."""
    return parse_object(regular(path).read_bytes(), shape, required=required)


def parse_object(
    text: bytes, shape: Mapping[str, Any], *, required: Collection[str] = ()
) -> dict[str, Any]:
    """Parse a JSON object.

    Parameters
    ----------
    shape : mapping
        What the value of each key must be: a type, a tuple of allowed types,
        a mapping (an object of this shape) or a list with one shape (a list
        of such values). Other keys may have any value.
    required : collection of str
        Keys that must be present.

    Raises
    ------
    ValueError
        If it is not such an object. The message names the key and never its
        value, which may identify a patient.
    """
    try:
        content = json.loads(text, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("it must be a JSON object")
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    _check(content, shape, "")
    return content


def _check(value: Any, shape: Any, name: str) -> None:
    """Refuse a value of another shape."""
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object")
        for key, inner in value.items():
            expected = shape.get(key, shape.get(ANY_KEY))
            if expected is not None:
                # A key that is not in the shape may be a case id or worse.
                shown = key if key in shape else ANY_KEY
                _check(inner, expected, f"{name}.{shown}" if name else shown)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{name} must be a list")
        for number, inner in enumerate(value):
            _check(inner, shape[0], f"{name}[{number}]")
    else:
        allowed = shape if isinstance(shape, tuple) else (shape,)
        if not any(_is(value, kind) for kind in allowed):
            raise ValueError(f"{name} must be {' or '.join(_NAMES[kind] for kind in allowed)}")


def _is(value: Any, kind: type) -> bool:
    """Whether a JSON value has a type; a whole number is also a number, true and false are not."""
    return type(value) is kind or (kind is float and type(value) is int)


def _whole(digits: str) -> int:
    """Return a whole number that a table can hold."""
    number = int(digits)
    return number if abs(number) < 2**63 else _refuse("a number that is too large")


def _finite(digits: str) -> float:
    """Return a number that is not infinite."""
    number = float(digits)
    return number if math.isfinite(number) else _refuse("a number that is too large")


def _refuse(what: str) -> NoReturn:
    """Refuse NaN and infinity, which JSON does not have, and absurd numbers."""
    raise ValueError(f"{what} is not allowed")
