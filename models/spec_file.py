"""Read ``spec.json``, which may come from anybody, and say what is wrong with it."""

import json
from pathlib import Path
from typing import Any, NoReturn, get_args

from pydantic import ValidationError

from voxtile.errors import ModelError

from .complaints import complaints
from .spec import Background, Cleaning, Concept, Division, Intensity, Label, ModelSpec, Network

# Bytes of a spec.json; the longest ones of voxtile have 20 kB.
_LARGEST = 16 * 2**20


def read_spec(path: Path) -> ModelSpec:
    """Read and check a ``spec.json``.

    ModelError if the file is missing, not JSON, or not a valid spec; it names every wrong key.
    """
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a file; a bundle is a folder with a spec.json")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); a bundle is a folder with a spec.json"
        ) from error
    return parse_spec(text, str(path))


def parse_spec(text: bytes | str, name: str) -> ModelSpec:
    """Check the content of a ``spec.json``.

    `name` is the file's name, for messages.
    """
    try:
        if len(text) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 2**20} MiB")
        json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_whole
        )
        spec = ModelSpec.model_validate_json(text)
        problems = "; ".join(f"{key} is missing" for key in _missing(spec))
        if not problems:
            return spec
    except ValidationError as error:
        problems = "; ".join(complaints(error, _KEYS))
    except RecursionError:
        problems = "it is nested too deeply"
    except json.JSONDecodeError as error:
        problems = f"it is not JSON (line {error.lineno}, column {error.colno})"
    except UnicodeDecodeError:
        problems = "it is not JSON in UTF-8"
    except ValueError as error:
        problems = str(error)
    raise ModelError(f"{name} is not a valid spec: {problems}")


def _missing(spec: ModelSpec) -> list[str]:
    """Return the keys that a file needs, although a function of the caller does not."""
    if "networks" not in spec.model_fields_set:
        return ["networks"]
    return [
        f"networks.{index}.{key}"
        for index, network in enumerate(spec.networks)
        for key in ("file", "sha256", "views")
        if key not in network.model_fields_set
    ]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; refuse one with a key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} appears twice")
    return found


def _whole(digits: str) -> int:
    """Return a whole number; refuse one with too many digits."""
    if len(digits) > 20:
        raise ValueError(f"a whole number of {len(digits)} digits is too large")
    return int(digits)


def _refuse_constant(text: str) -> NoReturn:
    """Refuse NaN and infinity, which JSON does not have."""
    raise ValueError(f"{text} is not a number in JSON; write a finite one")


# All keys of a spec, for "did you mean".
_KEYS = {
    key
    for part in (
        *(ModelSpec, Network, Label, Cleaning, Division, Background, Concept),
        *get_args(get_args(Intensity)[0]),
    )
    for key in part.model_fields
}
