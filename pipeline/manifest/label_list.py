"""Read a list of labels that a person wrote: the values and their names."""

import csv
import json
from io import StringIO
from pathlib import Path

from pydantic import ValidationError

from voxtile.errors import ManifestError
from voxtile.machine.files import regular
from voxtile.machine.spreadsheet import unescaped
from voxtile.models.complaints import complaints
from voxtile.models.spec import Concept, Label
from voxtile.scoring.overlap import plain_labels


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read labels from JSON such as ``{"1": "liver"}``, or from CSV with columns value and name.

    A bundle's ``spec.json`` gives colours and coded concepts too, and so does a CSV with the
    columns `color`, `concept` and `modifier`; a code is written as ``SCT:5366008:Hippocampus``.
    """
    try:
        text = regular(path).read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            content = json.loads(text)
            if "labels" in content:
                return tuple(Label.model_validate(label) for label in content["labels"])
            return plain_labels({int(value): str(name) for value, name in content.items()})
        rows = list(csv.DictReader(StringIO(text, newline="")))
        plain = plain_labels({int(row["value"]): unescaped(row["name"]) for row in rows})
        return tuple(
            _coded(_coloured(label, (row.get("color") or "").strip(), path), row, path)
            for label, row in zip(plain, rows, strict=True)
        )
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


def _coded(label: Label, row: dict[str, str], path: Path) -> Label:
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
