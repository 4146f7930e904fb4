"""Read a list of labels that a person wrote: values, names, merged values and regions.

    value,name
    1;3,kidney       two values become one label
    2,liver
    4,background     these voxels belong to no label
    255,ignore       these voxels take no part in training and scores

Labels that share values are regions, such as a whole tumour and its core. The
names `background` and `ignore` are those of nnU-Net's ``dataset.json``, whose
labels are read too.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxtile.errors import ManifestError
from voxtile.machine.files import regular
from voxtile.machine.spreadsheet import unescaped
from voxtile.models.complaints import complaints
from voxtile.models.spec import Concept, Label, stand_ins
from voxtile.scoring.overlap import plain_labels

_BACKGROUND, _IGNORE = "background", "ignore"


@dataclass(frozen=True, slots=True)
class LabelList:
    """Labels, and the values of references that are no label."""

    labels: tuple[Label, ...]
    ignore: int | None = None  # its voxels take no part in training and scores
    unlabelled: tuple[int, ...] = ()  # values other than 0 that count as background


@dataclass(frozen=True, slots=True)
class _Row:
    """Some values with their name, as written; the cells may be empty."""

    values: Any
    name: str
    color: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)  # columns concept and modifier
    own: Any = None  # the value in masks; None for the rule of `_own_value`


def read_labels(path: Path) -> LabelList:
    """Read labels from JSON such as ``{"1": "liver"}``, or from CSV with columns value and name.

    Rows with the same name are one label. A bundle's ``spec.json`` gives colours and coded concepts
    too, and so does a CSV with the columns `color`, `concept` and `modifier`; a code is written as
    ``SCT:5366008:Hippocampus``. ManifestError if the file cannot be used; it names row and label.
    """
    try:
        text = regular(path).read_text("utf-8-sig")
        if path.suffix.lower() != ".json":
            return _from_rows(_csv_rows(text), path)
        content = json.loads(text)
        if isinstance(content.get("labels"), list):
            return _from_spec(content, path)
        return _from_rows(_json_rows(content), path)
    except OSError as error:
        raise ManifestError([f"{path} cannot be read: {error.strerror}"]) from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        why = "; ".join(complaints(error)) if isinstance(error, ValidationError) else str(error)
        raise ManifestError(
            [
                f"{path} is not a list of labels ({why}); write JSON such as "
                '{"1": "liver"}, or CSV with columns value and name'
            ]
        ) from error


def _from_spec(content: Mapping[str, Any], path: Path) -> LabelList:
    """Return the labels of a spec, whose values and regions are explicit."""
    labels = tuple(Label.model_validate(label) for label in content["labels"])
    stand_ins(labels)
    unlabelled = content.get("unlabelled")
    ignore = content.get("ignore")
    found = LabelList(
        labels,
        None if ignore is None else _numbers(ignore, _IGNORE)[0],
        () if unlabelled is None else _numbers(unlabelled, _BACKGROUND),
    )
    return _checked(found, path)


def _csv_rows(text: str) -> Iterator[_Row]:
    """Yield the rows of a table."""
    for row in csv.DictReader(StringIO(text, newline="")):
        if missing := [name for name in ("value", "name") if name not in row]:
            raise ValueError(f"column {missing[0]} is missing")
        color = (row.get("color") or "").strip()
        codes = {name: row[name] for name in ("concept", "modifier") if row.get(name)}
        yield _Row(row["value"], unescaped(row["name"] or ""), color, codes)


def _json_rows(content: dict[str, Any]) -> Iterator[_Row]:
    """Yield a row for each entry: names by value, or values by name as nnU-Net writes them."""
    described = content.get("labels", content)
    order = iter(content.get("regions_class_order") or ())
    for key, said in described.items():
        if re.fullmatch(r"[\d;,\s]+", key) and isinstance(said, str):
            yield _Row(key, said)
        else:
            named = key.casefold() in (_BACKGROUND, _IGNORE)
            yield _Row(said, key, own=None if named else next(order, None))


def _from_rows(rows: Iterable[_Row], path: Path) -> LabelList:
    """Return the labels of rows; rows with the same name are one label."""
    values: dict[str, tuple[int, ...]] = {}
    colors: dict[str, str] = {}
    codes: dict[str, Mapping[str, str]] = {}
    own: dict[str, int | None] = {}
    for row in rows:
        name = row.name.strip()
        if not name:
            raise ValueError(f"value {row.values!r} has no name")
        low = name.casefold()
        name = low if low in (_BACKGROUND, _IGNORE) else name
        found = (*values.get(name, ()), *_numbers(row.values, name))
        values[name] = tuple(dict.fromkeys(found))
        colors[name] = colors.get(name) or row.color
        codes[name] = {**row.codes, **codes.get(name, {})}
        own[name] = own.get(name) or row.own
    unlabelled = tuple(value for value in values.pop(_BACKGROUND, ()) if value)
    ignored = values.pop(_IGNORE, ())
    if len(ignored) > 1:
        raise ValueError(f"only one value can be called {_IGNORE}, not {len(ignored)}")
    if not values:
        raise ValueError("it names no label")
    owned = {own[name] or _own_value(name, values): name for name in values}
    if twice := [name for name in values if name not in owned.values()]:
        raise ValueError(f"label {twice[0]} has the value of another label")
    plain = plain_labels({value: name for value, name in owned.items()})
    plain = tuple(
        label if len(values[label.name]) == 1 else _with_region(label, values[label.name])
        for label in plain
    )
    labels = tuple(
        _coded(_coloured(label, colors[label.name], path), codes[label.name], path)
        for label in plain
    )
    stand_ins(labels)
    return _checked(LabelList(labels, next(iter(ignored), None), unlabelled), path)


def _numbers(values: Any, name: str) -> tuple[int, ...]:
    """Return the values of a cell such as ``2;3``, a number or a list."""
    parts = values if isinstance(values, list) else re.split(r"[;,\s]+", str(values).strip())
    numbers = tuple(int(part) if re.fullmatch(r"\d{1,5}", str(part)) else -1 for part in parts)
    least = 0 if name == _BACKGROUND else 1
    if not numbers or not all(least <= number <= 65535 for number in numbers):
        raise ValueError(
            f"{name} has the value {str(values)[:60]!r}, but a value is a whole number from 1 to "
            "65535, and several are written 2;3"
        )
    return numbers


def _own_value(name: str, values: Mapping[str, tuple[int, ...]]) -> int:
    """Return the value in masks: the first one that no later label has, because it overwrites."""
    names = list(values)
    later = {value for other in names[names.index(name) + 1 :] for value in values[other]}
    for value in values[name]:
        if value not in later:
            return value
    raise ValueError(
        f"every value of {name} also belongs to a later label, which overwrites {name} in masks; "
        "write large regions before their parts"
    )


def _with_region(label: Label, values: tuple[int, ...]) -> Label:
    """Return a label of several values, its own value first."""
    region = (label.value, *(value for value in values if value != label.value))
    return Label.model_validate({**label.model_dump(), "region": region})


def _checked(found: LabelList, path: Path) -> LabelList:
    """Refuse a value that is a label, and also background or ignored."""
    taken = {value: label.name for label in found.labels for value in label.values}
    others = [(value, _BACKGROUND) for value in found.unlabelled]
    if found.ignore is not None:
        others.append((found.ignore, _IGNORE))
    for value, what in others:
        if taken.setdefault(value, what) != what:
            raise ManifestError(
                [f"{path}: value {value} is both {taken[value]} and {what}; leave one of them out"]
            )
    return found


def _coded(label: Label, row: Mapping[str, str], path: Path) -> Label:
    """Return a label with the codes in its row."""
    codes = {}
    for name in ("concept", "modifier"):
        if cell := unescaped((row.get(name) or "").strip()):
            parts = [part.strip() for part in cell.split(":", 2)]
            if len(parts) < 3 or not all(parts):
                raise ManifestError(
                    f"{path}: label {label.value} ({label.name}) has {name} {cell!r}, but "
                    "scheme:code:meaning is needed, such as SCT:5366008:Hippocampus"
                )
            codes[name] = Concept(scheme=parts[0], value=parts[1], meaning=parts[2])
    return label.model_copy(update=codes)


def _coloured(label: Label, color: str, path: Path) -> Label:
    """Return a label with the colour in its row, or unchanged if the cell is empty."""
    if not color:
        return label
    try:
        return Label.model_validate({**label.model_dump(), "color": color.lower()})
    except ValidationError as error:
        raise ManifestError(
            [
                f"{path}: label {label.value} ({label.name}) has color {color!r}, but #rrggbb is "
                f"needed; write one such as {label.color}, or leave it empty"
            ]
        ) from error
