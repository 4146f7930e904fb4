"""`cross_validate`: a manifest -> folds, one by one -> tables and an ensemble.

    DIR/
      cross_validation.json   what this cross-validation is
      recipe.toml             the recipe of every fold
      fold0/ ... fold4/       a whole bundle each; held_out.csv when it is scored
      cross_validation.csv, cross_validation.md, ensemble/    when all folds are there

A fold needs none of the others: they may be trained on different days and
machines, and copied together.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError, ModelError
from voxtile.machine.files import write_json, write_text
from voxtile.machine.progress import show_progress
from voxtile.manifest.rows import examine_manifest, read_manifest
from voxtile.models.bundle import Bundle, bundle_name, load_bundle
from voxtile.run_folder.fingerprint import content_hash
from voxtile.training.data.fingerprint import take_fingerprint
from voxtile.training.data.stored_cases import describe_cases
from voxtile.training.drive import train
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe, read_recipe, recipe_facts
from voxtile.training.recipe.rules import Reasons, settle
from voxtile.training.recipe.speed import fitting_rate
from voxtile.training.recipe.warm_start import continued
from voxtile.training.workfolder import sweep

from .finished_folds import MACHINES_OWN, finished_folds, fold_folder
from .folds import Fold, make_fold, taking_part
from .held_out import read_held_out, score_held_out
from .joining import CrossValidation, join_folds

_IDENTITY, _RECIPE = "cross_validation.json", "recipe.toml"


def cross_validate(
    manifest: str | Path,
    out: str | Path,
    count: int = 5,
    *,
    only: int | None = None,
    join: bool = False,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    description: str = "",
    licence: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = True,
    say: Callable[[str], None] = lambda words: None,
) -> CrossValidation | None:
    """Train and score the folds of a cross-validation, and join them when all are there.

    Parameters
    ----------
    manifest : str or Path
        Rows with split ``train`` or ``val`` are divided into folds by column
        `group`; others take no part.
    out : str or Path
        Folder; folds that are finished there are not trained again.
    count : int, default 5
        Of folds.
    only : int, optional
        Train this fold alone; every one that is missing unless given.
    join : bool, default False
        Train nothing, and join the folds that are there.
    root, recipe, init, description, licence, progress
        As in `voxtile.train`, for each fold. What the recipe leaves open is
        settled once, on the fingerprint of all cases that take part, so that
        the folds can be one ensemble; its budget is that of each fold, and its
        seed is the division's, too.
    resume : bool, default False
        Whether to go on with a fold that was interrupted.
    tensorboard : str or Path, optional
        Gets a folder for each fold.
    say : callable
        Takes a line for each step.

    Returns
    -------
    CrossValidation or None
        None while folds are missing.

    Raises
    ------
    ManifestError
        If the cases cannot be divided or trained on.
    ModelError
        If a fold in `out` was made from another manifest, recipe or seed.
    EnvironmentFault
        If `out` holds another cross-validation, the disk refuses, or, with
        `join`, folds are missing.
    """
    manifest, out = Path(manifest), Path(out)
    bundle_name(out)  # refused now, and not when every fold is trained
    asked = recipe or Recipe()
    # To join needs no scans: folds may be brought to where there are none.
    cases, problems = examine_manifest(
        manifest, root=root, need_images=not join, need_labels=not join
    )
    if problems:
        raise ManifestError(problems)
    digest = content_hash(manifest)
    numbers = range(count) if only is None else [only]
    folds = [
        replace(make_fold(cases, count, number, asked.seed, manifest), manifest_sha256=digest)
        for number in numbers
    ]
    _check_folds(out, count, {"manifest_sha256": digest, "count": count, "seed": asked.seed})
    if not join:
        start = None if init is None else load_bundle(init)
        identity = {
            "voxtile-cross-validation": 1,
            "manifest_sha256": digest,
            "folds": count,
            "recipe": to_jsonable_python(asked),
            "init": None if start is None else start.sha256,
        }
        _check_same(out, identity)
        open_folds = [
            fold for fold in folds if read_held_out(fold_folder(out, fold.number)) is None
        ]
        for fold in folds:
            if fold not in open_folds:
                say(f"fold {fold.number}: finished before")
        if open_folds:
            if start is not None:
                asked = continued(asked, start, _channels(cases))
            common = _common_recipe(out, cases, asked, manifest, identity, progress=progress)
            _check_recipes(out, count, common, start)
        for fold in open_folds:
            folder = fold_folder(out, fold.number)
            sweep(folder)
            if not (folder / "spec.json").exists():
                say(_words(fold))
                train(
                    manifest,
                    folder,
                    recipe=common,
                    init=init,
                    resume=resume,
                    fold=fold,
                    description=description,
                    licence=licence,
                    tensorboard=None if tensorboard is None else Path(tensorboard, folder.name),
                    progress=progress,
                )
            with show_progress(shown=progress) as shown:
                shown.begin(f"scoring fold {fold.number}", len(fold.held_out))
                score_held_out(load_bundle(folder), fold, advance=shown.advance)
            say(f"fold {fold.number}: {folder}")
    finished = finished_folds(out, count)
    missing = sorted(set(range(count)) - {fold.number for fold in finished})
    if missing:
        words = f"{len(finished)} of {count} folds are finished; missing: " + ", ".join(
            f"fold {number}" for number in missing
        )
        if join:
            raise EnvironmentFault(
                f"{out}: {words}; train them with --fold, or copy their folders there"
            )
        say(words)
        return None
    return join_folds(out, finished)


def plan_folds(
    manifest: str | Path,
    count: int = 5,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    progress: bool = True,
) -> list[str]:
    """Return what `cross_validate` would do, for people: it reads the cases and writes nothing.

    Parameters and errors are those of `cross_validate`.
    """
    manifest = Path(manifest)
    asked = recipe or Recipe()
    cases = read_manifest(manifest, root=root)
    folds = [make_fold(cases, count, number, asked.seed, manifest) for number in range(count)]
    if init is not None:
        asked = continued(asked, load_bundle(init), _channels(cases))
    common, reasons = _settle(cases, asked, manifest, progress=progress)
    return ["# recipe of every fold", dump_recipe(common, reasons), *map(_words, folds)]


def _words(fold: Fold) -> str:
    """Return how large a fold is, in words."""
    choosing = sum(case.split == "val" for case in fold.cases)
    return (
        f"fold {fold.number} of {fold.count}: {len(fold.cases) - choosing} cases to learn from, "
        f"{choosing} to choose with, {len(fold.held_out)} held out"
    )


def _settle(
    cases: Sequence[Case], asked: Recipe, manifest: Path, *, progress: bool
) -> tuple[Recipe, Reasons]:
    """Return the recipe that follows from all cases that take part, and why."""
    chosen = taking_part(cases, manifest)
    with show_progress(shown=progress) as shown:
        shown.begin("reading cases", len(chosen))
        facts = describe_cases(
            chosen, labels=asked.labels, manifest=manifest, advance=shown.advance
        )
    fingerprint = take_fingerprint(facts, _channels(chosen), asked.labels)
    return settle(asked, fingerprint, rate=fitting_rate())


def _common_recipe(
    out: Path,
    cases: Sequence[Case],
    asked: Recipe,
    manifest: Path,
    identity: dict[str, Any],
    *,
    progress: bool,
) -> Recipe:
    """Return the recipe of all folds: as it was settled before, or settled now on all cases."""
    place = out / _RECIPE
    if (out / _IDENTITY).exists() and place.exists():
        return read_recipe(place)
    common, reasons = _settle(cases, asked, manifest, progress=progress)
    write_text(place, dump_recipe(common, reasons))
    # Last: what is there now belongs together.
    write_json(out / _IDENTITY, identity)
    return common


def _channels(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the input channels."""
    return tuple(channel for channel, _ in cases[0].images)


def _check_same(out: Path, identity: dict[str, Any]) -> None:
    """Refuse a folder that holds another cross-validation."""
    place = out / _IDENTITY
    if not place.exists():
        return
    try:
        known: dict[str, Any] = json.loads(place.read_bytes())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{place} cannot be read; remove it, or name another folder") from (
            error
        )
    # Through JSON, as what was written: tuples became lists.
    now: dict[str, Any] = json.loads(json.dumps(identity))
    changed = [name for name in now if name != "recipe" and now[name] != known.get(name)]
    before = known.get("recipe") or {}
    changed += [
        f"recipe's {name}" for name in now["recipe"] if now["recipe"][name] != before.get(name)
    ]
    if changed:
        raise EnvironmentFault(
            f"{out} holds a cross-validation with other {', '.join(changed)}; give it what it was "
            "begun with, or name another folder"
        )


def _trained(out: Path, count: int) -> Iterator[tuple[int, Path, dict[str, Any]]]:
    """Yield number and folder of each fold that is trained, and what its bundle says of that."""
    for number in range(count):
        folder = fold_folder(out, number)
        if (folder / "spec.json").exists():
            yield number, folder, load_bundle(folder).spec.training


def _check_folds(out: Path, count: int, expected: dict[str, Any]) -> None:
    """Refuse folds of another manifest or division, before anything is trained."""
    problems = []
    for number, folder, training in _trained(out, count):
        found = {"manifest_sha256": training.get("manifest_sha256"), **training.get("fold", {})}
        differs = [
            f"{name} {found.get(name)} and not {value}"
            for name, value in {**expected, "number": number}.items()
            if found.get(name) != value
        ]
        if differs:
            problems.append(f"{folder} is of another cross-validation: {'; '.join(differs)}")
    if problems:
        raise ModelError("\n".join([*problems, "move it away, or name another folder"]))


def _check_recipes(out: Path, count: int, common: Recipe, start: Bundle | None) -> None:
    """Refuse folds that could not be joined with those to come, before these are trained."""
    expected = recipe_facts(common)
    problems = []
    for _, folder, training in _trained(out, count):
        found = training.get("recipe", {})
        differs = [
            f"recipe's {name} {found.get(name)} and not {expected.get(name)}"
            for name in dict.fromkeys((*expected, *found))
            if name not in MACHINES_OWN and found.get(name) != expected.get(name)
        ]
        if training.get("init", {}).get("sha256") != (start.sha256 if start else None):
            differs.append("another start (--init)")
        if differs:
            problems.append(
                f"{folder} cannot be joined with other folds here: {'; '.join(differs)}"
            )
    if problems:
        raise ModelError(
            "\n".join(
                [
                    *problems,
                    "move it away, or copy recipe.toml and cross_validation.json from beside where "
                    "it was trained",
                ]
            )
        )
