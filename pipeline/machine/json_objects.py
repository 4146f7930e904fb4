"""Read JSON files that may be damaged: an object of the expected shape, or one clear error.

A sealed object holds the SHA-256 of its own content, so that a changed digit
is found. A sealed text also holds the SHA-256 of its own bytes: this is checked
several times faster, because nothing has to be written as JSON again.
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

from .files import json_text

# In a sealed object, the key of the SHA-256 of all other keys and values.
SEAL = "digest"
_SEAL_KEY = b'"digest"'
# In a sealed text, the last key: the SHA-256 of all bytes before it.
TEXT_SEAL = "text_digest"
_TEXT_END = re.compile(rb'"text_digest": "([0-9a-f]{64})"\s*\}\s*')
# No file of voxtile reaches these limits: a list of a million cases has 100 MB and few levels.
_MOST_BYTES = 1 << 28
_MOST_LEVELS = 100
# In a shape, the value of every key that has no shape of its own.
ANY_KEY = "*"
_BRACKET = re.compile(rb"[\[\]{}]")
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
    """Read a file that holds a JSON object, as `parse_object`; OSError if it cannot be read."""
    return parse_object(read_small(path), shape, required=required)


def read_sealed(
    path: Path, shape: Mapping[str, Any], *, required: Collection[str] = ()
) -> tuple[dict[str, Any], bool]:
    """Read a file as `read_object`, and return whether its content is sealed.

    ValueError also if the content was changed after it was written.
    """
    text = read_small(path)
    whole = _is_whole(text)
    content = parse_object(text, shape, required=required, whole=whole)
    return content, whole or check_seal(content)


def read_small(path: Path) -> bytes:
    """Read a file, unless it is larger than any JSON file of voxtile.

    OSError if it cannot be read; ValueError if it is a device or pipe, or too large.
    """
    # Opening a pipe would wait for its writer, so it is opened without waiting.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a pipe, socket or device, and a file is needed")
        if found.st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        content = os.read(handle, found.st_size + 1)
        while len(content) < found.st_size and (more := os.read(handle, found.st_size)):
            content += more
        return content
    finally:
        os.close(handle)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the SHA-256 of its canonical JSON as its last value."""
    rest = unsealed(content)
    return {**rest, SEAL: _digest(rest)}


def sealed_text(content: Mapping[str, Any]) -> str:
    """Return a sealed object as the text of a file, which holds the SHA-256 of its own bytes."""
    text = json_text({**sealed(content), TEXT_SEAL: ""})
    head, key, _ = text.rpartition(f'"{TEXT_SEAL}"')
    return f'{head}{key}: "{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without its seals."""
    return {key: value for key, value in content.items() if key not in (SEAL, TEXT_SEAL)}


def _is_whole(text: bytes) -> bool:
    """Return whether a text holds the SHA-256 of its own bytes, and these did not change."""
    start = text.rfind(b'"text_digest"')
    end = _TEXT_END.fullmatch(text, max(start, 0))
    return end is not None and end[1].decode() == hashlib.sha256(text[:start]).hexdigest()


def check_seal(content: Mapping[str, Any]) -> bool:
    """Return whether an object is sealed; ValueError if its content was changed afterwards."""
    if SEAL not in content:
        return False
    if content[SEAL] != _digest(unsealed(content)):
        raise ValueError(f"its content was changed after it was written ({SEAL} does not match)")
    return True


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON without spaces and with sorted keys."""
    return hashlib.sha256(_CANONICAL.encode(content).encode("utf-8", "surrogatepass")).hexdigest()


def parse_object(
    text: bytes, shape: Mapping[str, Any], *, required: Collection[str] = (), whole: bool = False
) -> dict[str, Any]:
    """Parse a JSON object.

    In `shape` the value of each key is a type, a tuple of allowed types, a mapping (an object of
    this shape) or a list with one shape (a list of such values). Other keys may have any value.
    The keys of `required` must be present. With `whole` the text is as voxtile wrote it, so no
    number can be too large for a table. ValueError if the text is not such an object. The message
    names the key and never its value, which may identify a patient.
    """
    if not whole and _levels(text) > _MOST_LEVELS:
        raise ValueError(f"it is not valid JSON (more than {_MOST_LEVELS} levels)")
    try:
        # `check_seal` refuses infinite numbers, and needs less time for each number.
        decoder = _WHOLE if whole else _SEALED if _SEAL_KEY in text else _DECODER
        content = decoder.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("it must be a JSON object")
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    _check(content, shape, "")
    return content


def check_shape(content: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    """Raise ValueError, which names the key, if an object has another shape; see `parse_object`."""
    _check(content, shape, "")


def _levels(text: bytes) -> int:
    """Return how deep the brackets of a text are nested; brackets in strings are counted, too."""
    if text.count(b"[") + text.count(b"{") <= _MOST_LEVELS:
        return 0
    levels = deepest = 0
    for bracket in _BRACKET.findall(text):
        levels += 1 if bracket in b"[{" else -1
        deepest = max(deepest, levels)
    return deepest


def _check(value: Any, shape: Any, name: str) -> None:
    """Refuse a value of another shape."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{name} must be an object")
        for key in value if ANY_KEY in shape else shape.keys() & value.keys():
            # A key that is not in the shape may be a case id, or identify a patient.
            shown = key if key in shape else ANY_KEY
            _check(value[key], shape[shown], f"{name}.{shown}" if name else shown)
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
    """Return a whole number; refuse one that a table cannot hold."""
    number = int(digits)
    return number if abs(number) < 2**63 else _refuse("a number that is too large")


def _finite(digits: str) -> float:
    """Return a number; refuse an infinite one."""
    number = float(digits)
    return number if math.isfinite(number) else _refuse("a number that is too large")


def _refuse(what: str) -> NoReturn:
    """Refuse NaN and infinity, which JSON does not have, and numbers that are too large."""
    raise ValueError(f"{what} is not allowed")


# These are created once, because `voxtile status` reads thousands of files.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
_WHOLE = json.JSONDecoder(parse_constant=_refuse)
_SEALED = json.JSONDecoder(parse_constant=_refuse, parse_int=_whole)
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)
