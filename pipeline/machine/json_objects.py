"""Read JSON files that may be damaged: an object of the expected shape, or one clear error."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

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
    """Read a file that holds a JSON object.

    Parameters
    ----------
    path : Path
    shape : mapping
        What the value of each key must be: a type, a tuple of allowed types,
        a mapping (an object of this shape) or a list with one shape (a list
        of such values). Other keys may have any value.
    required : collection of str
        Keys that must be present.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such an object. The message names the key and never its
        value, which may identify a patient.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
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
    if kind is float:
        try:
            return type(value) in (int, float) and math.isfinite(value)
        except OverflowError:  # a whole number with hundreds of digits
            return False
    return type(value) is kind


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(f"{name} is not a JSON number")
