"""Recipes as TOML: a given recipe replaces the rules; a written one has reasons as comments."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from voxtile.errors import ManifestError, UsageError
from voxtile.machine.files import regular
from voxtile.models import spec
from voxtile.models.complaints import complaints
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.volume import Shape2D

from .recipe import BUDGETS, Recipe


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; the rules make the choices that it leaves out.

    ManifestError if the file is not TOML, or has an unknown key or a wrong value.
    """
    try:
        content = tomllib.loads(regular(path).read_text("utf-8"))
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    problems = [
        *_unknown(content, Recipe, ""),
        *_unknown(content.get("augmentation"), Augmentation, "augmentation."),
    ]
    if not problems:
        try:
            return _adapter().validate_python(content)
        except ValidationError as error:
            problems = complaints(error)
    raise ManifestError([f"{path}: {problem}" for problem in problems])


def read_settled(path: Path) -> Recipe:
    """Read a recipe that was settled when it was written.

    Earlier versions wrote no `position`, because their networks do not see any, and no
    `optimizer`, because all learned with AdamW.
    """
    recipe = read_recipe(path)
    return replace(recipe, position=bool(recipe.position), optimizer=recipe.optimizer or "adamw")


def asked_recipe(path: Path | None, given: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a file, if there is one, with some choices replaced.

    A choice that is None stays; a budget replaces any other budget.
    """
    recipe = Recipe() if path is None else read_recipe(path)
    changes = {name: value for name, value in given.items() if value is not None}
    if any(name in changes for name in BUDGETS):
        changes = dict.fromkeys(BUDGETS) | changes
    values = {choice.name: getattr(recipe, choice.name) for choice in fields(Recipe)}
    try:
        return _adapter().validate_python(values | changes)
    except ValidationError as error:
        raise UsageError("; ".join(complaints(error))) from error


def _adapter() -> TypeAdapter[Recipe]:
    """Return the checker of a recipe's values; the recipe's module does not import their types."""
    adapter = TypeAdapter(Recipe)
    names = {"Augmentation": Augmentation, "Shape2D": Shape2D}
    adapter.rebuild(_types_namespace=vars(spec) | names)
    return adapter


def dump_recipe(recipe: Recipe, reasons: Mapping[str, str] | None = None) -> str:
    """Return a recipe as TOML, each choice with its reason as a comment."""
    reasons = reasons or {}
    lines, tables = [], []
    for name, value in _without_empty(to_jsonable_python(recipe)).items():
        why = f"  # {reasons[name]}" if name in reasons else ""
        rows = value if isinstance(value, list) else [value]
        if not isinstance(rows[0], dict):
            lines.append(f"{name} = {_toml(value)}{why}")
            continue
        head = f"[{name}]" if rows is not value else f"[[{name}]]"
        for row in rows:
            inner = [f"{key} = {_toml(part)}" for key, part in row.items()]
            tables.append("\n".join([head + why, *inner]))
    return "\n\n".join(["\n".join(lines), *tables]) + "\n"


def _toml(value: Any) -> str:
    """Return a value as TOML; strings are written as in JSON, which is valid TOML."""
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    return repr(value)


def _without_empty(value: Any) -> Any:
    """Return JSON values without null, which TOML does not have, and without empty lists."""
    if isinstance(value, dict):
        return {
            key: _without_empty(part)
            for key, part in value.items()
            if part is not None and part != []
        }
    return [_without_empty(part) for part in value] if isinstance(value, list) else value


def _unknown(content: Any, kind: type, prefix: str) -> list[str]:
    """Return a sentence for each key that is not a field."""
    if not isinstance(content, dict):
        return []
    known = [choice.name for choice in fields(kind)]
    return [
        f"unknown key {prefix}{name!s}{_nearest(name, known)}"
        for name in content
        if name not in known
    ]


def _nearest(name: str, known: list[str]) -> str:
    """Return the most similar name, or all names, in words."""
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; known keys are {', '.join(known)}"


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe for the spec, without unused choices and without the spec's labels."""
    facts: dict[str, Any] = to_jsonable_python(recipe)
    return {name: fact for name, fact in facts.items() if fact is not None and name != "labels"}
