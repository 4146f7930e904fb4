"""Compare a training run with the run that a folder holds."""

import json
from collections.abc import Collection, Mapping
from typing import Any

_LONGEST = 60


def differences(
    known: Mapping[str, Any], now: Mapping[str, Any], *, ignored: Collection[str] = ()
) -> list[str]:
    """Return a phrase for each value of `now` that is different in `known`.

    Inner mappings are compared entry by entry. Values named in `ignored`, such as ``recipe's
    precision``, may differ.

    Examples
    --------
    >>> differences({"seed": 0, "recipe": {"batch": 8}}, {"seed": 0, "recipe": {"batch": 5}})
    ["recipe's batch 8 instead of 5"]
    """
    pairs: list[tuple[str, Any, Any]] = []
    for name, value in json.loads(json.dumps(now)).items():  # tuples become lists, as in a file
        before = known.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            keys = value | before
            pairs += [(f"{name}'s {key}", before.get(key), value.get(key)) for key in keys]
        else:
            pairs.append((name, before, value))
    return [_phrase(*pair) for pair in pairs if pair[1] != pair[2] and pair[0] not in ignored]


def _phrase(name: str, before: Any, value: Any) -> str:
    """Return one difference in words."""
    shown = []
    for part in (before, value):
        text = json.dumps(part)
        shown.append(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
    return f"{name} {shown[0]} instead of {shown[1]}" if shown[0] != shown[1] else f"other {name}"
