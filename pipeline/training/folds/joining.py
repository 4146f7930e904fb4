"""Finished folds -> the tables of the cross-validation, and the ensemble.

``cross_validation.csv`` has every number, one row per view, label and metric;
``cross_validation.md`` has the main numbers, for the card; ``cross_validation.html`` is the page.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from voxtile.machine.files import write_text
from voxtile.models.bundle import Bundle, bundle_name
from voxtile.models.quality import FILE, Quality
from voxtile.report.domain import size_range
from voxtile.report.faces import KEY, add_counts
from voxtile.report.quality import learn_quality
from voxtile.report.tables import csv_text
from voxtile.training.bundle.card import LIMITS, card_head, init_words

from .cross_validation_page import (
    SHOWN,
    cross_validation_page,
    cross_validation_table,
    number_cell,
    summary_cell,
)
from .ensemble import ensemble_spec, write_ensemble
from .finished_folds import FinishedFold, check_alike
from .folds_page import PAGE as HTML
from .folds_page import write_folds_page
from .held_out import FUSED, read_observed

ENSEMBLE = "ensemble"
TABLE, PAGE = "cross_validation.csv", "cross_validation.md"


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """The result of a cross-validation: table and page as in its files, and the ensemble."""

    summary: pd.DataFrame
    page: str
    ensemble: Bundle

    def lines(self) -> Iterator[str]:
        """Yield the mean Dice of each view and label, and the paths of table and model."""
        dice = self.summary[self.summary["metric"] == "dice"]
        for row in dice.to_dict(orient="records"):
            yield (
                f"{row['view']}, {row['label_name']}: Dice {summary_cell(row)}, "
                f"n {row['n_used']} of {row['n']}, worst {row['worst_case']} "
                f"{number_cell('dice', row['worst'])}"
            )
        yield f"table: {self.ensemble.folder.parent / PAGE}"
        yield f"page: {self.ensemble.folder.parent / HTML}"
        yield f"model: {self.ensemble.folder}"


def join_folds(out: Path, folds: Sequence[FinishedFold]) -> CrossValidation:
    """Write the tables and the ensemble, which gets the name of the folder."""
    check_alike([fold.bundle for fold in folds])
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    summary = cross_validation_table(table)
    facts = _facts(folds, summary)
    spec = ensemble_spec([fold.bundle.spec for fold in folds], bundle_name(out), facts)
    page = cross_validation_page(summary, table, folds)
    texts = {"README.md": _card(spec.name, spec.description, page, facts), TABLE: csv_text(summary)}
    if (quality := _quality(Bundle(out / ENSEMBLE, spec), folds)) is not None:
        texts[FILE] = quality.dump()
    write_text(out / TABLE, texts[TABLE])
    write_text(out / PAGE, page)
    write_folds_page(out, folds, summary)
    bundle = write_ensemble(out / ENSEMBLE, [fold.bundle for fold in folds], spec, texts)
    return CrossValidation(summary, page, bundle)


def _quality(ensemble: Bundle, folds: Sequence[FinishedFold]) -> Quality | None:
    """Return how the Dice is predicted, learned from the cases that each fold held out."""
    observed = [read_observed(fold.bundle.folder) for fold in folds]
    known = [one for of_fold in observed if of_fold is not None for one in of_fold]
    if None in observed:
        return None
    source = f"{len(known)} cases of the cross-validation, each segmented by the fold without it"
    return learn_quality(ensemble, known, source)


def _facts(folds: Sequence[FinishedFold], summary: pd.DataFrame) -> dict[str, Any]:
    """Return how the ensemble was trained."""
    every = [fold.bundle.spec.training for fold in folds]
    first = every[0]
    cases = sorted({case for facts in every for case in (*facts["train"], *facts["val"])})
    inits = [facts["init"] for facts in every if "init" in facts]
    fused = summary[(summary["view"] == FUSED) & summary["metric"].isin(SHOWN)]
    columns = ("label", "label_name", "metric", "n", "n_used", "mean", "sd", "ci_low", "ci_high")
    return {
        "manifest": first["manifest"],
        "manifest_sha256": first["manifest_sha256"],
        "n_train": len(cases),
        "train": cases,
        "recipe": first["recipe"],
        "parameters": sum(facts["parameters"] for facts in every),
        "seconds": round(sum(facts["seconds"] for facts in every), 1),
        "folds": [
            {**facts["fold"], "seconds": facts["seconds"], "machine": facts["machine"]}
            for facts in every
        ],
        "cross_validation": json.loads(
            fused[list(columns)].to_json(orient="records"),
            parse_float=lambda text: round(float(text), 4),
        ),
        "domain": _domain([facts.get("domain") for facts in every], len(cases)),
        "versions": first["versions"],
        "machine": first["machine"],
        **({"init": _common_init(inits)} if inits else {}),
    }


def _common_init(inits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return facts about the bundle that all folds started with; their seen cases are joined."""
    lists = ("cases", "seen")
    together = {name: sorted({case for init in inits for case in init[name]}) for name in lists}
    return {**inits[0], **together}


def _domain(domains: Sequence[Mapping[str, Any] | None], cases: int) -> dict[str, Any]:
    """Return the facts about the training scans of all folds."""
    known = [domain for domain in domains if domain]
    if not known:
        return {}
    sizes = {}
    for name in ("spacing_mm", "extent_mm"):
        ranges = [domain[name] for domain in known if name in domain]
        if ranges:
            sizes[name] = size_range([part[end] for part in ranges for end in ("min", "max")])
    intensity = {}
    for channel in known[0]["intensity"]:
        rows = np.array([domain["intensity"][channel] for domain in known])
        # Quartiles are means over the folds, which share most cases; extremes are over all folds.
        mean = rows.mean(axis=0)
        mean[:, 0], mean[:, -1] = rows[..., 0].min(axis=0), rows[..., -1].max(axis=0)
        intensity[channel] = [[float(f"{value:.6g}") for value in row] for row in mean.tolist()]
    return {
        "cases": cases,
        **sizes,
        "percentiles": known[0]["percentiles"],
        "intensity": intensity,
        KEY: add_counts(domain.get(KEY, {}) for domain in known),
    }


def _card(name: str, description: str, page: str, facts: Mapping[str, Any]) -> str:
    """Return the README.md of the ensemble."""
    scores = page.split("\n", 2)[2]
    default = "2D U-Nets trained with voxtile: the ensemble of the folds of a cross-validation."
    return f"""{card_head(name, description or default)}
The mean of {len(facts["folds"])} models, each trained on different cases of \
`{facts["manifest"]}` (SHA-256 `{facts["manifest_sha256"]}`): {facts["n_train"]} cases in all, \
{facts["parameters"]:,} parameters.{init_words(facts.get("init"), facts["n_train"])}

## Scores of the cross-validation

Each score is that of a single fold on a case that it held out. The ensemble was trained on every \
case, so it cannot be scored on them; on new cases it is usually a little better than one fold.

{scores}
{LIMITS}"""
