"""The bundles of the folds -> one bundle that holds all their networks.

Every network keeps its weight within its fold, and every fold weighs the same:
the ensemble's probabilities are the mean of those of the folds.
"""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxtile.errors import EnvironmentFault
from voxtile.machine.files import replacing, write_text
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import Cleaning, Division, ModelSpec, Network


def ensemble_spec(specs: Sequence[ModelSpec], name: str, training: dict[str, Any]) -> ModelSpec:
    """Return the spec of all folds together.

    Parameters
    ----------
    specs : sequence of ModelSpec
        Of the folds, in order; alike but for networks, thresholds,
        divisions and post-processing.
    name : str
    training : dict
        How it was trained.

    Returns
    -------
    ModelSpec
        Files are ``fold<n>_<file>``. A threshold is the mean of the folds'. A
        division or a step of post-processing is there if more than half of the folds chose
        it; how many parts stay and their least volume are the median of
        those.
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
    values = specs[0].model_dump()
    values |= {
        "name": name,
        "networks": [network.model_dump() for network in networks],
        "thresholds": _mean_thresholds(specs),
        "divisions": [division.model_dump() for division in _common_divisions(specs)],
        "postprocess": [step.model_dump() for step in _common_steps(specs)],
        "training": training,
    }
    return ModelSpec.model_validate(values)


def fold_file(number: int, file: str) -> str:
    """Return the name of a fold's network in the ensemble."""
    return f"fold{number}_{file}"


def write_ensemble(
    out: Path, bundles: Sequence[Bundle], spec: ModelSpec, card: str, tables: Mapping[str, str]
) -> Bundle:
    """Write the ensemble in place of an earlier one.

    Parameters
    ----------
    out : Path
    bundles : sequence of Bundle
        The folds, in order; a LICENSE of the first is taken over.
    spec : ModelSpec
        From `ensemble_spec`.
    card : str
        README.md.
    tables : mapping of str to str
        Further files.

    Raises
    ------
    ModelError
        If a network of a fold was altered.
    EnvironmentFault
        If the disk refuses.
    """
    fresh = out.with_name(f".{out.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    for number, bundle in enumerate(bundles):
        for network in bundle.spec.networks:
            with replacing(fresh / fold_file(number, network.file)) as file:
                file.write(bundle.read_network(network))
    write_text(fresh / "spec.json", spec.dump())
    write_text(fresh / "README.md", card)
    for name, text in tables.items():
        write_text(fresh / name, text)
    licence = bundles[0].folder / "LICENSE"
    if licence.exists():
        with replacing(fresh / "LICENSE") as file:
            file.write(licence.read_bytes())
    load_bundle(fresh)  # before it gets its name: what cannot be loaded is no bundle
    old = out.with_name(f".{out.name}.old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise EnvironmentFault(f"{out} cannot be written ({error.strerror})") from error
    return load_bundle(out)


def _mean_thresholds(specs: Sequence[ModelSpec]) -> tuple[float, ...]:
    """Return the mean threshold of each label; none where no fold has any."""
    if not any(spec.thresholds for spec in specs):
        return ()
    rows = [spec.thresholds or (0.5,) * len(spec.labels) for spec in specs]
    return tuple(round(statistics.fmean(column), 4) for column in zip(*rows, strict=True))


def _common_divisions(specs: Sequence[ModelSpec]) -> list[Division]:
    """Return the divisions that more than half of the folds chose."""
    chosen = [division for spec in specs for division in spec.divisions]
    return [
        division for division in dict.fromkeys(chosen) if 2 * chosen.count(division) > len(specs)
    ]


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
