"""Finished folds -> the cross-validation's tables, and the ensemble bundle.

DIR/fold0 ... fold4     a whole bundle each, with held_out.csv
    |
    +-> cross_validation.csv   every number, one row per view, label and metric
    +-> cross_validation.md    the same for people
    +-> ensemble/              a bundle with every fold's networks
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
from voxtile.report.tables import csv_text
from voxtile.training.recipe.warm_start import seen_words

from .cross_validation_page import (
    SHOWN,
    cross_validation_page,
    cross_validation_table,
    number_cell,
    summary_cell,
)
from .ensemble import ensemble_spec, write_ensemble
from .finished_folds import FinishedFold, check_alike
from .held_out import FUSED

ENSEMBLE = "ensemble"
TABLE, PAGE = "cross_validation.csv", "cross_validation.md"


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """What a cross-validation came to.

    Parameters
    ----------
    summary : DataFrame
        As in ``cross_validation.csv``.
    page : str
        As in ``cross_validation.md``.
    ensemble : Bundle
    """

    summary: pd.DataFrame
    page: str
    ensemble: Bundle

    def lines(self) -> Iterator[str]:
        """Yield the mean Dice of each view and label, and where the rest is."""
        dice = self.summary[self.summary["metric"] == "dice"]
        for row in dice.to_dict(orient="records"):
            yield (
                f"{row['view']}, {row['label_name']}: Dice {summary_cell(row)}, "
                f"n {row['n_used']} of {row['n']}, worst {row['worst_case']} "
                f"{number_cell('dice', row['worst'])}"
            )
        yield f"table: {self.ensemble.folder.parent / PAGE}"
        yield f"model: {self.ensemble.folder}"


def join_folds(out: Path, folds: Sequence[FinishedFold]) -> CrossValidation:
    """Write the tables and the ensemble.

    Parameters
    ----------
    out : Path
        Of the cross-validation; the name of its folder is the ensemble's.
    folds : sequence of FinishedFold
        All of them.

    Raises
    ------
    ModelError
        If one was made from another manifest, recipe or seed, with what
        differs.
    """
    check_alike([fold.bundle for fold in folds])
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    summary = cross_validation_table(table)
    facts = _facts(folds, summary)
    spec = ensemble_spec([fold.bundle.spec for fold in folds], bundle_name(out), facts)
    page = cross_validation_page(summary, table, folds)
    card = _card(spec.name, spec.description, page, facts)
    csv = csv_text(summary)
    write_text(out / TABLE, csv)
    write_text(out / PAGE, page)
    bundle = write_ensemble(
        out / ENSEMBLE, [fold.bundle for fold in folds], spec, card, {TABLE: csv}
    )
    return CrossValidation(summary, page, bundle)


def _facts(folds: Sequence[FinishedFold], summary: pd.DataFrame) -> dict[str, Any]:
    """Return how the ensemble was trained."""
    every = [fold.bundle.spec.training for fold in folds]
    first = every[0]
    learnt = sorted({case for facts in every for case in (*facts["train"], *facts["val"])})
    begun = [facts["init"] for facts in every if "init" in facts]
    fused = summary[(summary["view"] == FUSED) & summary["metric"].isin(SHOWN)]
    kept = ("label", "label_name", "metric", "n", "n_used", "mean", "sd", "ci_low", "ci_high")
    return {
        "manifest": first["manifest"],
        "manifest_sha256": first["manifest_sha256"],
        "n_train": len(learnt),
        "train": learnt,
        "recipe": first["recipe"],
        "parameters": sum(facts["parameters"] for facts in every),
        "seconds": round(sum(facts["seconds"] for facts in every), 1),
        "folds": [
            {**facts["fold"], "seconds": facts["seconds"], "machine": facts["machine"]}
            for facts in every
        ],
        "cross_validation": [
            {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in row.items()
            }
            for row in json.loads(fused[list(kept)].to_json(orient="records"))
        ],
        "domain": _domain([facts.get("domain") for facts in every], len(learnt)),
        "versions": first["versions"],
        "machine": first["machine"],
        **({"init": _begun(begun)} if begun else {}),
    }


def _begun(inits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the bundle that all folds began with, and which cases it, and they, have seen."""
    both = ("cases", "seen")
    return {
        **{name: value for name, value in inits[0].items() if name not in both},
        **{name: sorted({case for init in inits for case in init[name]}) for name in both},
    }


def _domain(domains: Sequence[Mapping[str, Any] | None], cases: int) -> dict[str, Any]:
    """Return what the training scans of all folds were like.

    Extremes are those of all; quartiles are the mean of the folds', which
    share most of their cases.
    """
    known = [domain for domain in domains if domain]
    if not known:
        return {}
    spacing = [domain["spacing_mm"] for domain in known]
    intensity = {}
    for channel in known[0]["intensity"]:
        rows = np.array([domain["intensity"][channel] for domain in known])
        mean = rows.mean(axis=0)
        mean[:, 0], mean[:, -1] = rows[..., 0].min(axis=0), rows[..., -1].max(axis=0)
        intensity[channel] = [[float(f"{value:.6g}") for value in row] for row in mean.tolist()]
    return {
        "cases": cases,
        "spacing_mm": {
            "min": np.min([part["min"] for part in spacing], axis=0).tolist(),
            "max": np.max([part["max"] for part in spacing], axis=0).tolist(),
        },
        "percentiles": known[0]["percentiles"],
        "intensity": intensity,
    }


def _card(name: str, description: str, page: str, facts: Mapping[str, Any]) -> str:
    """Return the README.md of the ensemble."""
    scores = page.split("\n", 2)[2]
    return f"""# {name}

{description or "2D U-Nets trained with voxtile, an ensemble of the folds of a cross-validation."}

    voxtile run MANIFEST {name} --out DIR

(a shipped bundle goes by its name, any other by the path of its folder)

The mean of {len(facts["folds"])} bundles, each trained on other cases of \
`{facts["manifest"]}` (SHA-256 `{facts["manifest_sha256"]}`); {facts["n_train"]} cases in all, \
{facts["parameters"]:,} parameters.{_init_words(facts)}

## Scores of the cross-validation

They are those of single folds on the cases that each held out. The ensemble has seen every case, \
so it cannot be scored on them; on other cases it is usually a little better than one fold.

{scores}
## Limits

- It knows scans like those it was trained on: another field of view, contrast or pathology may \
fail without a warning. Look at the masks.
- Research use only. Not a medical device; not for diagnosis or treatment.
"""


def _init_words(facts: Mapping[str, Any]) -> str:
    """Return a sentence on what the folds began with."""
    if "init" not in facts:
        return ""
    init = facts["init"]
    words = f" Each began with the weights of {init['name']} ({init['sha256']})."
    warning = seen_words(init, facts["n_train"])
    return words + (f" {warning}." if warning else "")
