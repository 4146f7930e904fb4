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

from voxtile.files import write_text
from voxtile.metric_names import decimals, metrics_of, title
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelError
from voxtile.report import csv_text
from voxtile.summary import summary_table

from .ensemble import ensemble_spec, write_ensemble
from .held_out import FUSED, read_held_out
from .selection_card import chosen_words

ENSEMBLE = "ensemble"
TABLE, PAGE = "cross_validation.csv", "cross_validation.md"
_SHOWN = ("dice", "iou", "hd95_mm")
# What the machine decides, and nobody asked for: folds may be fitted on different ones.
_MACHINES_OWN = ("precision",)
_OWN = ("name", "description", "networks", "thresholds", "divisions", "postprocess", "training")


@dataclass(frozen=True, slots=True, eq=False)
class FinishedFold:
    """A fold that was trained and scored.

    Parameters
    ----------
    number : int
    bundle : Bundle
    table : DataFrame
        Of ``held_out.csv``.
    """

    number: int
    bundle: Bundle
    table: pd.DataFrame


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
                f"{row['view']}, {row['label_name']}: Dice {_cell(row)}, "
                f"n {row['n_used']} of {row['n']}, worst {row['worst_case']} "
                f"{_number('dice', row['worst'])}"
            )
        yield f"table: {self.ensemble.folder.parent / PAGE}"
        yield f"model: {self.ensemble.folder}"


def fold_folder(out: Path, number: int) -> Path:
    """Return where a fold lies."""
    return out / f"fold{number}"


def finished_folds(out: Path, count: int) -> list[FinishedFold]:
    """Return the folds that are trained and scored, in order.

    Raises
    ------
    ModelError
        If one of them is damaged.
    """
    found = []
    for number in range(count):
        folder = fold_folder(out, number)
        table = read_held_out(folder)
        if table is not None:
            found.append(FinishedFold(number, load_bundle(folder), table))
    return found


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
    # A folder given as . has its name all the same.
    spec = ensemble_spec([fold.bundle.spec for fold in folds], out.absolute().name, facts)
    page = cross_validation_page(summary, table, folds)
    card = _card(spec.name, spec.description, page, facts)
    csv = csv_text(summary)
    write_text(out / TABLE, csv)
    write_text(out / PAGE, page)
    bundle = write_ensemble(
        out / ENSEMBLE, [fold.bundle for fold in folds], spec, card, {TABLE: csv}
    )
    return CrossValidation(summary, page, bundle)


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Refuse folds that do not belong together.

    Raises
    ------
    ModelError
        With what differs, for every fold that does.
    """
    first = _identity(bundles[0])
    problems = []
    for bundle in bundles[1:]:
        other = _identity(bundle)
        differs = [
            f"{name} {_short(other.get(name))} and not {_short(first.get(name))}"
            for name in dict.fromkeys((*first, *other))
            if first.get(name) != other.get(name)
        ]
        if differs:
            problems.append(
                f"{bundle.folder} does not belong to {bundles[0].folder}: {'; '.join(differs)}"
            )
    numbers = [bundle.spec.training["fold"]["number"] for bundle in bundles]
    problems += [
        f"{bundle.folder} is fold {number}; name it fold{number}"
        for place, (bundle, number) in enumerate(zip(bundles, numbers, strict=True))
        if number != place
    ]
    if problems:
        raise ModelError(
            "\n".join([*problems, "train the folds that differ again, or keep them elsewhere"])
        )


def cross_validation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the held-out cases of all folds, each case once.

    Parameters
    ----------
    table : DataFrame
        Rows of every ``held_out.csv``.

    Returns
    -------
    DataFrame
        `view`, then the columns of ``summary.csv`` for the whole cohort: over
        cases, not over folds. Of several labels the mean of each case follows,
        as label 0, "mean of labels".
    """
    parts = []
    for view in dict.fromkeys(table["view"]):
        of_view = table[table["view"] == view].drop(columns=["view", "fold"])
        if of_view["label"].nunique() > 1:
            of_view = pd.concat([of_view, _means_of_labels(of_view)], ignore_index=True)
        summary = summary_table(of_view).drop(columns=["by", "by_value"])
        summary.insert(0, "view", view)
        parts.append(summary)
    return pd.concat(parts, ignore_index=True)


def cross_validation_page(
    summary: pd.DataFrame, table: pd.DataFrame, folds: Sequence[FinishedFold]
) -> str:
    """Return the tables for people, in Markdown."""
    facts = folds[0].bundle.spec.training
    cases = table["case_id"].nunique()
    failed = table[table["status"] == "failed"]["case_id"].nunique()
    lines = [
        "# Cross-validation",
        "",
        f"{len(folds)} folds of {cases} cases of `{facts['manifest']}`, by patient group, seed "
        f"{facts['fold']['seed']}. Every case was segmented once, by the fold that had held it "
        "out: it was not learnt from and chose nothing."
        + (f" {failed} cases failed." if failed else ""),
        "",
        "Mean ± SD over cases; in brackets the 95 % interval of the mean (percentile bootstrap "
        "over patient groups).",
        "",
        "| view | label | n | " + " | ".join(map(title, _SHOWN)) + " | worst Dice |",
        "|---" * (len(_SHOWN) + 4) + "|",
    ]
    for (view, _, name), rows in summary.groupby(["view", "label", "label_name"], sort=False):
        by_metric = {row["metric"]: row for row in rows.to_dict(orient="records")}
        dice = by_metric["dice"]
        cells = [
            view,
            name,
            f"{dice['n_used']} of {dice['n']}",
            *(_cell(by_metric[metric]) for metric in _SHOWN),
            f"{_number('dice', dice['worst'])} ({dice['worst_case']})" if dice["n_used"] else "-",
        ]
        lines.append("| " + " | ".join(map(_escaped, cells)) + " |")
    lines += ["", *_fold_lines(table, folds)]
    return "\n".join(lines) + "\n"


def _fold_lines(table: pd.DataFrame, folds: Sequence[FinishedFold]) -> Iterator[str]:
    """Yield the table of the folds."""
    fused = table[table["view"] == FUSED]
    names = dict(zip(fused["label"], fused["label_name"], strict=True))
    yield (
        "| fold | cases | "
        + " | ".join(f"Dice {_escaped(name)}" for name in names.values())
        + (" | fitted | chosen on an inner tenth |")
    )
    yield "|---" * (len(names) + 4) + "|"
    for fold in folds:
        of_fold = fused[fused["fold"] == fold.number]
        means = [of_fold[of_fold["label"] == label]["dice"].mean() for label in names]
        facts = fold.bundle.spec.training
        cells = [
            str(fold.number),
            str(of_fold["case_id"].nunique()),
            *(_number("dice", mean) for mean in means),
            f"{facts['fit_seconds'] / 60:.1f} min",
            chosen_words(facts["selection"]),
        ]
        yield "| " + " | ".join(map(_escaped, cells)) + " |"


def _means_of_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each case with the mean of its labels, where they have a value."""
    metrics = metrics_of(table)
    grouped = table.groupby("case_id", sort=False)
    means = grouped[metrics].mean()
    means["group"] = grouped["group"].first()
    means["status"] = grouped["status"].agg(
        lambda found: "failed" if (found == "failed").any() else "ok"
    )
    means["label"], means["label_name"] = 0, "mean of labels"
    return means.reset_index()


def _identity(bundle: Bundle) -> dict[str, Any]:
    """Return what all folds of one cross-validation share."""
    facts = bundle.spec.training
    if "fold" not in facts:
        raise ModelError(
            f"{bundle.folder} is no fold of a cross-validation; folds come from voxtile train "
            "--folds"
        )
    recipe = {
        f"recipe's {name}": value
        for name, value in facts["recipe"].items()
        if name not in _MACHINES_OWN
    }
    spec = bundle.spec.model_dump(mode="json", exclude=set(_OWN))
    return {
        "manifest's SHA-256": facts["manifest_sha256"],
        "number of folds": facts["fold"]["count"],
        "seed": facts["fold"]["seed"],
        "init": facts.get("init", {}).get("sha256"),
        **recipe,
        **{f"spec's {name}": value for name, value in spec.items()},
    }


def _facts(folds: Sequence[FinishedFold], summary: pd.DataFrame) -> dict[str, Any]:
    """Return how the ensemble was trained."""
    every = [fold.bundle.spec.training for fold in folds]
    first = every[0]
    learnt = sorted({case for facts in every for case in (*facts["train"], *facts["val"])})
    fused = summary[(summary["view"] == FUSED) & summary["metric"].isin(_SHOWN)]
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
{facts["parameters"]:,} parameters.

## Scores of the cross-validation

They are those of single folds on the cases that each held out. The ensemble has seen every case, \
so it cannot be scored on them; on other cases it is usually a little better than one fold.

{scores}
## Limits

- It knows scans like those it was trained on: another field of view, contrast or pathology may \
fail without a warning. Look at the masks.
- Research use only. Not a medical device; not for diagnosis or treatment.
"""


def _cell(row: Mapping[str, Any]) -> str:
    """Return mean, SD and interval of a metric."""
    metric = row["metric"]
    if not row["n_used"]:
        return "-"
    mean, sd, low, high = (
        _number(metric, row[name]) for name in ("mean", "sd", "ci_low", "ci_high")
    )
    return f"{mean} ± {sd} [{low}, {high}]"


def _number(metric: str, value: float) -> str:
    """Return a number for people."""
    return "-" if np.isnan(value) else f"{value:.{decimals(metric)}f}"


def _short(value: Any) -> str:
    """Return a value for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _escaped(cell: Any) -> str:
    """Return a cell of a Markdown table."""
    return str(cell).replace("|", "\\|").replace("\n", " ")
