"""`cross_validate`: a manifest -> folds, one by one -> tables and an ensemble.

    DIR/
      cross_validation.json   manifest, recipe and number of folds
      recipe.toml             the recipe of every fold
      fold0/ ... fold4/       a bundle each; with held_out.csv after it is scored
      cross_validation.csv, cross_validation.md, ensemble/    after all folds are finished

No fold needs another fold: folds may be trained on different days and machines,
and then be copied into the same folder.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from pydantic_core import to_jsonable_python

from voxtile.case import Case
from voxtile.errors import EnvironmentFault, ManifestError, ModelError, counted
from voxtile.machine.files import write_json, write_text
from voxtile.machine.json_objects import read_object
from voxtile.machine.progress import show_progress
from voxtile.manifest.rows import examine_manifest, read_manifest
from voxtile.models.bundle import bundle_name, load_bundle
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.fingerprint import content_hash
from voxtile.run_folder.protection import ANOTHER_FOLDER, Input, inputs_of, is_remainder, protect
from voxtile.training.differences import differences
from voxtile.training.drive import train_bundle
from voxtile.training.options import FoldOptions, TrainKeywords, TrainOptions
from voxtile.training.plan import fingerprint_cases
from voxtile.training.recipe.precision import fitting_rate
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe, read_settled, recipe_facts
from voxtile.training.recipe.rules import Reasons, settle
from voxtile.training.recipe.warm_start import continued
from voxtile.training.source import reading_facts
from voxtile.training.workfolder import remove_finished

from .finished_folds import MACHINES_OWN, finished_folds, fold_folder
from .folds import Fold, make_fold, taking_part
from .held_out import read_held_out, score_held_out
from .joining import ENSEMBLE, CrossValidation, join_folds

_IDENTITY, _RECIPE = "cross_validation.json", "recipe.toml"
_OWN = "the folds are those of the manifest's column fold"
_FOLD = re.compile(r"fold\d+(?:\.training)?")


def cross_validate(
    manifest: str | Path,
    out: str | Path,
    count: int = 5,
    *,
    only: int | None = None,
    join: bool = False,
    say: Callable[[str], None] = lambda words: None,
    **options: Unpack[TrainKeywords],
) -> CrossValidation | None:
    """Train and score the folds of a cross-validation, and join them when all are finished.

    Rows with split ``train`` or ``val`` are divided into `count` folds by column `fold`, or else by
    column `group`; other rows take no part. Folds that are finished in the folder `out` are not
    trained again. `only` trains this fold alone, and `join` trains nothing. `say` is called
    with a line after each step.

    The options are those of `voxtile.train`, for each fold. The rules settle the recipe once, on
    the fingerprint of all cases that take part, so that the folds can become one ensemble. The
    recipe's budget is for each fold, and its seed also decides the division into folds. `resume`
    continues an interrupted fold; `tensorboard` gets a folder for each fold.

    Return None while folds are missing. ManifestError if the cases cannot be divided or used;
    ModelError if a fold in `out` was made from another manifest, recipe or seed; EnvironmentFault
    if `out` holds a different cross-validation, a file cannot be written, or, with `join`, folds
    are missing.
    """
    chosen = FoldOptions(count, only, join)
    return train_folds(Path(manifest), Path(out), chosen, TrainOptions(**options), say)


def train_folds(
    manifest: Path, out: Path, chosen: FoldOptions, how: TrainOptions, say: Callable[[str], None]
) -> CrossValidation | None:
    """Do what `cross_validate` says."""
    recipe, join, count = how.recipe or Recipe(), chosen.join, chosen.count or 5
    bundle_name(out)  # refuse a wrong name now, not after all folds are trained
    # Joining needs no scans, so the folds may be on a machine without scans.
    cases, problems = examine_manifest(
        manifest, root=how.root, need_images=not join, need_labels=not join
    )
    if problems:
        raise ManifestError(problems)
    _protect_inputs(manifest, cases, how, out)
    _refuse_foreign(out)
    digest = content_hash(manifest)
    folds = [
        replace(make_fold(cases, count, number, recipe.seed, manifest), manifest_sha256=digest)
        for number in (range(count) if chosen.only is None else [chosen.only])
    ]
    _check_trained(
        out,
        count,
        {
            "manifest_sha256": digest,
            "count": count,
            "seed": recipe.seed,
            "column": folds[0].facts().get("column"),
        },
        words="is of a different cross-validation",
        advice="move these folds away, or name another folder",
    )
    if folds[0].own:
        say(_OWN)
    if not join:
        _train_missing(manifest, out, cases, folds, replace(how, recipe=recipe), say)
    finished = finished_folds(out, count)
    missing = sorted(set(range(count)) - {fold.number for fold in finished})
    if not missing:
        return join_folds(out, finished)
    words = f"{len(finished)} of {count} folds are finished; missing: " + ", ".join(
        f"fold {number}" for number in missing
    )
    if join:
        raise EnvironmentFault(
            f"{out}: {words}; train them with --fold, or copy their folders there"
        )
    say(words)
    return None


def _protect_inputs(manifest: Path, cases: Sequence[Case], how: TrainOptions, out: Path) -> None:
    """Refuse a folder in which an input could be lost."""
    inputs = [Input("the manifest", manifest), *inputs_of(cases)]
    if how.init is not None:
        inputs += [
            Input("the model of --init", one.folder) for one in load_bundle(how.init).members
        ]
    if how.licence is not None:
        inputs.append(Input("the licence", Path(how.licence)))
    protect(inputs, out)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder with files that no cross-validation wrote."""
    if not out.is_dir():
        return
    entries = sorted(out.iterdir())
    # Folds may be copied together without the record of the cross-validation.
    folds = [path for path in entries if _FOLD.fullmatch(path.name) and path.is_dir()]
    others = [path for path in entries if path not in folds and not is_remainder(path)]
    if folds or _is_record(out / _IDENTITY):
        others = [
            path for path in others if path.name == ENSEMBLE and not (path / "spec.json").is_file()
        ]
    if others:
        raise ManifestError(
            f"{out} holds {others[0].name}, but no cross-validation (no valid {_IDENTITY}); "
            f"{ANOTHER_FOLDER}"
        )


def _is_record(path: Path) -> bool:
    """Whether a file is the record of a cross-validation."""
    try:
        return "voxtile-cross-validation" in read_object(path, {})
    except (OSError, ValueError):
        return False


def plan_folds(
    manifest: str | Path,
    count: int = 5,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    policy: ReadPolicy | None = None,
    validation: bool = True,
    progress: bool = True,
    device: str = "auto",
) -> list[str]:
    """Return what `cross_validate` would do, for people; read the cases, but write nothing.

    Parameters and errors are those of `cross_validate`.
    """
    manifest, recipe = Path(manifest), recipe or Recipe()
    cases = read_manifest(manifest, root=root)
    folds = [make_fold(cases, count, number, recipe.seed, manifest) for number in range(count)]
    if init is not None:
        recipe = continued(recipe, load_bundle(init))
    common, reasons = _settle(cases, recipe, manifest, policy, progress=progress, device=device)
    own = [_OWN] if folds[0].own else []
    return [
        "# recipe of every fold",
        dump_recipe(common, reasons),
        *own,
        *(_words(fold, validation) for fold in folds),
    ]


def _train_missing(
    manifest: Path,
    out: Path,
    cases: Sequence[Case],
    folds: Sequence[Fold],
    how: TrainOptions,
    say: Callable[[str], None],
) -> None:
    """Train and score the folds that are not finished."""
    recipe = how.recipe or Recipe()
    start = None if how.init is None else load_bundle(how.init)
    identity = {
        "voxtile-cross-validation": 1,
        "manifest_sha256": folds[0].manifest_sha256,
        "folds": folds[0].count,
        "recipe": to_jsonable_python(recipe),
        "init": None if start is None else start.sha256,
        **reading_facts(how.policy),
        "validation": how.validation,
    }
    _check_same(out, identity)
    open_folds = [fold for fold in folds if read_held_out(fold_folder(out, fold.number)) is None]
    for fold in folds:
        if fold not in open_folds:
            say(f"fold {fold.number}: finished before")
    if not open_folds:
        return
    if start is not None:
        recipe = continued(recipe, start)
    how = replace(how, recipe=recipe)
    common = _common_recipe(out, cases, how, manifest, identity)
    _check_trained(
        out,
        folds[0].count,
        {"recipe": recipe_facts(common), "init": start.sha256 if start else None},
        words="cannot be joined with other folds here",
        advice="move these folds away, or copy recipe.toml and cross_validation.json from the "
        "folder in which they were trained",
    )
    for fold in open_folds:
        folder = fold_folder(out, fold.number)
        remove_finished(folder)
        if not (folder / "spec.json").exists():
            say(_words(fold, how.validation))
            events = None if how.tensorboard is None else Path(how.tensorboard, folder.name)
            options = replace(how, recipe=common, tensorboard=events)
            train_bundle(manifest, folder, options, fold)
        with show_progress(shown=how.progress) as shown:
            shown.begin(f"scoring fold {fold.number}", len(fold.held_out))
            score_held_out(load_bundle(folder), fold, how.policy, advance=shown.advance)
        say(f"fold {fold.number}: {folder}")


def _words(fold: Fold, validation: bool) -> str:
    """Return the size of a fold in words."""
    choosing = sum(case.split == "val" for case in fold.cases) if validation else 0
    return (
        f"fold {fold.number} of {fold.count}: {counted(len(fold.cases) - choosing, 'case')} to "
        f"train with, {choosing} to choose with, {len(fold.held_out)} held out"
    )


def _settle(
    cases: Sequence[Case],
    recipe: Recipe,
    manifest: Path,
    policy: ReadPolicy | None,
    *,
    progress: bool,
    device: str,
) -> tuple[Recipe, Reasons]:
    """Return one recipe for all cases that take part, with reasons."""
    chosen = taking_part(cases, manifest)
    fingerprint = fingerprint_cases(chosen, recipe, manifest, policy, progress=progress)
    return settle(recipe, fingerprint, rate=fitting_rate(device))


def _common_recipe(
    out: Path,
    cases: Sequence[Case],
    how: TrainOptions,
    manifest: Path,
    identity: dict[str, Any],
) -> Recipe:
    """Return the recipe of all folds, as it was settled before or now."""
    path = out / _RECIPE
    if (out / _IDENTITY).exists() and path.exists():
        return read_settled(path)
    recipe = how.recipe or Recipe()
    device = how.fitting_devices[0]
    common, reasons = _settle(
        cases, recipe, manifest, how.policy, progress=how.progress, device=device
    )
    write_text(path, dump_recipe(common, reasons))
    # This file is written last, so that it marks a complete pair of files.
    write_json(out / _IDENTITY, identity)
    return common


def _check_same(out: Path, identity: dict[str, Any]) -> None:
    """Refuse a folder that holds a different cross-validation."""
    path = out / _IDENTITY
    if not path.exists():
        return
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"{path} cannot be read; remove it, or name another folder"
        ) from error
    # Folders of earlier versions do not say whether cases choose; they always do.
    if found := differences({"validation": True, **known}, identity):
        raise EnvironmentFault(
            f"{out} holds a different cross-validation ({'; '.join(found)}); use the same options "
            "as at the start, or name another folder"
        )


def _check_trained(
    out: Path, count: int, expected: dict[str, Any], *, words: str, advice: str
) -> None:
    """Refuse trained folds with unexpected facts, before further folds are trained."""
    problems = []
    for number in range(count):
        folder = fold_folder(out, number)
        if not (folder / "spec.json").exists():
            continue
        training = load_bundle(folder).spec.training
        known = {
            "manifest_sha256": training.get("manifest_sha256"),
            **training.get("fold", {}),
            "recipe": training.get("recipe", {}),
            "init": training.get("init", {}).get("sha256"),
        }
        if found := differences(known, {**expected, "number": number}, ignored=MACHINES_OWN):
            problems.append(f"{folder} {words}: {'; '.join(found)}")
    if problems:
        raise ModelError("\n".join([*problems, advice]))
