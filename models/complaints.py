"""Say what is wrong with values that people wrote: the key, the value, and what is allowed."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from voxtile.errors import counted

# By the type of pydantic's error; the braces are filled from its context.
_ALLOWED = {
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must have one of the methods {expected_tags}",
    "union_tag_not_found": "must name its method",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must match the pattern {pattern}",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "decimal": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "tuple": "must be a list",
    "list": "must be a list",
    "set": "must be a list",
    "dict": "must be an object",
    "model": "must be an object",
    "dataclass": "must be an object",
    "mapping": "must be an object",
}


def complaints(error: ValidationError, known: Collection[str] = ()) -> list[str]:
    """Return a sentence for each wrong value; pydantic's own text is for programmers.

    `known` has the valid keys, one of which is suggested for a misspelt key.
    """
    problems = error.errors()
    places = [problem["loc"] for problem in problems]
    return list(
        dict.fromkeys(
            _sentence(problem, known)
            for problem in problems
            # Pydantic counts only the entries that are valid themselves.
            if problem["type"] != "too_short"
            or all(
                place == problem["loc"] or place[: len(problem["loc"])] != problem["loc"]
                for place in places
            )
        )
    )


def _sentence(problem: Any, known: Collection[str]) -> str:
    """Return the sentence for one of pydantic's errors."""
    kind, context = problem["type"], problem.get("ctx") or {}
    key = ".".join(map(str, problem["loc"]))[:200]
    if kind == "missing":
        return f"{key} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        last = str(problem["loc"][-1])
        near = get_close_matches(last, sorted(known), n=1, cutoff=0.5)
        return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
    if kind in ("value_error", "assertion_error"):
        words = str(context.get("error", "is not valid"))
        return f"{key}: {words}" if key else words
    allowed = _ALLOWED.get(kind)
    if kind.endswith(("too_short", "too_long")):
        most = kind.endswith("long")
        length = context["max_length" if most else "min_length"]
        one, several = ("character", "") if kind.startswith("string") else ("entry", "entries")
        allowed = f"must have at {'most' if most else 'least'} {counted(length, one, several)}"
    elif allowed is not None:
        allowed = allowed.format(**context)
    else:
        allowed = _KINDS.get(kind.partition("_")[0], "has a wrong value")
    came = "" if kind.startswith("union_tag") else _shown(problem.get("input"))
    return f"{key or 'it'} {allowed}{f', not {came}' if came else ''}"


def _shown(value: Any) -> str:
    """Return a value for a message; empty if the value is long."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
