"""The bundles of the folds -> one bundle with all their networks.

All folds have the same weight, and the networks of a fold keep their relative
weights: the probabilities of the ensemble are the mean over the folds.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxtile.machine.files import replacing_folder
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import Cleaning, ModelSpec, Network
from voxtile.training.bundle.packing import fill_bundle


def ensemble_spec(specs: Sequence[ModelSpec], name: str, training: dict[str, Any]) -> ModelSpec:
    """Return the spec of all folds together.

    The folds differ only in networks, thresholds, divisions and post-processing.
    Files are named ``fold<n>_<file>``. Thresholds are means over the folds. A
    division or a step of post-processing is used if more than half of the folds
    chose it; its numbers are the medians of those folds.
    """
    networks: list[Network] = []
    for number, spec in enumerate(specs):
        whole = sum(network.weight * len(network.views) for network in spec.networks)
        networks += [
            network.model_copy(
                update={
                    "file": fold_file(number, network.file),
                    "weight": round(network.weight / whole / len(specs), 9),
                }
            )
            for network in spec.networks
        ]
    divisions = [division for spec in specs for division in spec.divisions]
    values = specs[0].model_dump()
    values |= {
        "name": name,
        "networks": [network.model_dump() for network in networks],
        "thresholds": _mean_thresholds(specs),
        "divisions": [
            division.model_dump()
            for division in dict.fromkeys(divisions)
            if 2 * divisions.count(division) > len(specs)
        ],
        "postprocess": [step.model_dump() for step in _common_steps(specs)],
        "training": training,
    }
    return ModelSpec.model_validate(values)


def fold_file(number: int, file: str) -> str:
    """Return the name of a fold's network in the ensemble."""
    return f"fold{number}_{file}"


def write_ensemble(
    out: Path, bundles: Sequence[Bundle], spec: ModelSpec, texts: Mapping[str, str]
) -> Bundle:
    """Write the ensemble with further files by name; an earlier ensemble is replaced.

    The LICENSE of the first fold is copied.
    """
    files = {
        fold_file(number, network.file): bundle.read_network(network)
        for number, bundle in enumerate(bundles)
        for network in bundle.spec.networks
    }
    files |= {name: text.encode() for name, text in texts.items()}
    licence = bundles[0].folder / "LICENSE"
    if licence.exists():
        files["LICENSE"] = licence.read_bytes()
    with replacing_folder(out) as folder:
        fill_bundle(folder, spec, files)
    return load_bundle(out)


def _mean_thresholds(specs: Sequence[ModelSpec]) -> tuple[float, ...]:
    """Return the mean threshold of each label; empty if no fold has thresholds."""
    if not any(spec.thresholds for spec in specs):
        return ()
    rows = [spec.thresholds or (0.5,) * len(spec.labels) for spec in specs]
    return tuple(round(statistics.fmean(column), 4) for column in zip(*rows, strict=True))


def _common_steps(specs: Sequence[ModelSpec]) -> list[Cleaning]:
    """Return the post-processing that more than half of the folds chose."""
    steps = []
    for label in specs[0].labels:
        chosen = [step for spec in specs for step in spec.postprocess if step.label == label.value]
        largest = [step.largest for step in chosen if step.largest is not None]
        smallest = [step.smallest_mm3 for step in chosen if step.smallest_mm3]
        step = Cleaning(
            label=label.value,
            largest=statistics.median_high(largest) if 2 * len(largest) > len(specs) else None,
            smallest_mm3=statistics.median(smallest) if 2 * len(smallest) > len(specs) else 0.0,
            fill_holes=2 * sum(step.fill_holes for step in chosen) > len(specs),
        )
        if step != Cleaning(label=label.value):
            steps.append(step)
    return steps
