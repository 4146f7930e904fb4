"""The page of a training run: curves, scores, the recipe with its reasons.

history.csv, recipe.toml, spec.json -> training.html
"""

import csv
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from voxtile.errors import counted
from voxtile.machine.files import write_text
from voxtile.models.bundle import Bundle
from voxtile.models.spec import Label, ModelSpec
from voxtile.report.page.cohort import case_values, column_facts, label_facts
from voxtile.report.page.explanations import FLAGS
from voxtile.report.page.page import TRAINING, build_page
from voxtile.scoring.columns import Column, column_named
from voxtile.scoring.overlap import plain_labels
from voxtile.training.fitting.checkpoint import read_checkpoint

from .history import history_table
from .selection_card import chosen_words
from .too_short import warning_if_useless

PAGE = "training.html"
# A choice of a recipe in TOML, and the sign between its value and its reason.
_CHOICE, _WHY = re.compile(r"([\w.]+) = (.*)"), "  # "


def write_training_page(bundle: Bundle) -> Path:
    """Write ``training.html`` into the folder of a bundle, and return its path."""
    spec, facts = bundle.spec, bundle.spec.training
    scores = facts.get("validation_dice", {})
    rows = [
        {"case_id": case_id, "label": label.value, "status": "ok", "dice": dice}
        for case_id, values in scores.get("cases", {}).items()
        for label, dice in zip(spec.labels, values, strict=True)
    ]
    rows.sort(key=lambda row: math.inf if row["dice"] is None else row["dice"])  # the worst first
    lines = [warning] if (warning := warning_if_useless(facts)) else []
    data = {
        **training_data(spec.name, spec.labels, rows, [column_named("dice")], []),
        "summary": _summary(scores),
        "lines": [*lines, spec.description],
        "held": "validation cases, which also chose the checkpoint",
        "curves": [curves_of(bundle.folder, "", spec)],
        "tables": [
            *_choices_of_masks(facts),
            {"title": "Facts", "header": ["", ""], "rows": list(_facts(spec))},
            *recipe_table(bundle.folder / "recipe.toml"),
        ],
    }
    path = bundle.folder / PAGE
    write_text(path, build_page(TRAINING, data))
    return path


def training_data(
    name: str,
    labels: Sequence[Label],
    rows: Iterable[Mapping[str, Any]],
    of_label: Sequence[Column],
    of_case: Sequence[Column],
) -> dict[str, Any]:
    """Return what every page of a training run has; `rows` have one row per case and label."""
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(str(row["case_id"]), []).append(row)
    keys = [column.name for column in of_label]
    return {
        "run": {"name": name},
        "labels": label_facts(labels),
        "columns": {
            "case": list(map(column_facts, of_case)),
            "label": list(map(column_facts, of_label)),
        },
        "cases": [
            {"id": case_id, **case_values(of_one, labels, of_case, of_label)}
            for case_id, of_one in cases.items()
        ],
        "flags": FLAGS,
        "own": ["id", "lowest", "lowest-label"] if "dice" in keys else ["id"],
        "usual": [key for key in keys if key in ("dice", "hd95_mm")],
        "legend": [["dice", "Dice"]],
    }


def write_progress_page(work: Path) -> Path:
    """Write ``training.html`` into the folder of an unfinished training run; return its path."""
    found = {path.parent: read_checkpoint(path) for path in sorted(work.glob("*/checkpoint.npz"))}
    histories = {folder.name: one[0].history for folder, one in found.items() if one is not None}
    rows = {name: history for name, history in histories.items() if history}
    prefix = "val_dice_"
    keys = {key for history in rows.values() for row in history for key in row}
    values = sorted(int(key.removeprefix(prefix)) for key in keys if key.startswith(prefix))
    labels = plain_labels({value: f"label {value}" for value in values})
    data = {
        **training_data(work.stem, labels, [], [column_named("dice")], []),
        "summary": {"header": [], "rows": []},
        "lines": [f"In progress: {counted(len(rows), 'network')} with finished epochs."],
        "held": "",
        "curves": [{"name": "", "networks": _columns(history_table(rows, labels)), "best": {}}],
        "tables": list(recipe_table(work / "recipe.toml")),
    }
    write_text(work / PAGE, build_page(TRAINING, data))
    return work / PAGE


def curves_of(folder: Path, name: str, spec: ModelSpec) -> dict[str, Any]:
    """Return the history of the networks of a bundle, as lists of numbers by column."""
    path = folder / "history.csv"
    text = path.read_text("utf-8") if path.is_file() else ""
    return {"name": name, "networks": _columns(text), "best": _best(spec)}


def _columns(text: str) -> dict[str, dict[str, list[float | None]]]:
    """Return the columns of each network of a history in CSV."""
    networks: dict[str, dict[str, list[float | None]]] = {}
    for row in csv.DictReader(StringIO(text, newline="")):
        columns = networks.setdefault(str(row.pop("network")), {column: [] for column in row})
        for column, cell in row.items():
            columns[column].append(float(cell) if cell else None)
    return networks


def _best(spec: ModelSpec) -> dict[str, int]:
    """Return the epoch whose weights were saved, by network; only of networks of distinct views."""
    networks = spec.training.get("networks", ())
    found = [("+".join(one["views"]), one["best_epoch"]) for one in networks]
    names = [name for name, _ in found]
    return {name: epoch for name, epoch in found if names.count(name) == 1 and epoch}


def recipe_table(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the choices of a recipe with their reasons, if there is a recipe."""
    if path.is_file():
        rows = list(_choices(path.read_text("utf-8")))
        yield {"title": "Recipe", "header": ["Choice", "Value", "Reason"], "rows": rows}


def _choices(text: str) -> Iterator[list[str]]:
    """Yield name, value and reason of each choice of a recipe in TOML."""
    table = ""
    for line in text.splitlines():
        head, why = _with_reason(line)
        if head.startswith("["):
            table = f"{head.strip('[]')}."
            if why:
                yield [table[:-1], "", why]
        elif found := _CHOICE.fullmatch(head):
            yield [f"{table}{found[1]}", found[2], why]


def _with_reason(line: str) -> tuple[str, str]:
    """Divide a line of TOML into what it says and its comment; a string may have the sign too."""
    places = [place.start() for place in re.finditer(re.escape(_WHY), line)]
    for place in places:
        try:
            tomllib.loads(line[:place])
        except tomllib.TOMLDecodeError:
            continue
        return line[:place], line[place + len(_WHY) :]
    return line, ""


def _summary(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of the validation cases like a ``summary.csv``."""
    header = ["label", "label_name", "metric", "n", "mean", "ci_low", "ci_high", "sd", "worst"]
    rows = [
        [
            *(label["value"], label["name"], "dice", label["n"], label["mean"]),
            *(label.get("ci") or (None, None)),
            *(label["sd"], label["min"]),
        ]
        for label in scores.get("labels", ())
    ]
    return {"header": header, "rows": rows}


def _choices_of_masks(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the table of what the validation cases chose, if they chose."""
    if (selection := facts.get("selection")) is None:
        return
    dice = selection["dice"]
    weights = selection["weights"].items()
    rows = [[f"{view} alone", dice[view], round(weight, 3)] for view, weight in weights]
    rows = rows if len(rows) > 1 else []
    rows += [["before the choices", dice["before"], None], ["as chosen", dice["chosen"], None]]
    yield {
        "title": "How probabilities become masks",
        "about": f"{counted(selection['cases'], 'validation case')} chose: "
        f"{chosen_words(selection)}.",
        "header": ["Networks", "Mean Dice", "Weight"],
        "rows": rows,
    }


def _facts(spec: ModelSpec) -> Iterator[list[str]]:
    """Yield the facts about a training run as pairs of words; an imported model has few."""
    facts = spec.training
    init = facts.get("init", {})
    said: dict[str, Any] = {
        "Manifest": facts.get("manifest"),
        "SHA-256 of the manifest": facts.get("manifest_sha256"),
        "Training cases": facts.get("n_train"),
        "Validation cases": facts.get("n_val"),
        "Networks": f"{len(spec.networks)}, for {', '.join(spec.views)} planes",
        "Parameters": facts.get("parameters"),
        "Steps": facts.get("steps"),
        "Time of the fit": _minutes(facts.get("fit_seconds")),
        "Time of everything": _minutes(facts.get("seconds")),
        "First weights": f"{init['name']} ({init['sha256']})" if init else None,
        "Machine": facts.get("machine"),
        "Versions": ", ".join(f"{one} {what}" for one, what in facts.get("versions", {}).items()),
    }
    for name, value in said.items():
        if value not in (None, ""):
            yield [name, f"{value:,}" if isinstance(value, int) else str(value)]


def _minutes(seconds: float | None) -> str | None:
    """Return seconds as minutes in words."""
    return None if seconds is None else f"{seconds / 60:.1f} min"
