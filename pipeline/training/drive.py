"""`train`: from a manifest with labels to a trained bundle; `plan_training`: what it would do."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from pydantic_core import to_jsonable_python

from voxtile.case import Case
from voxtile.machine.files import write_text
from voxtile.machine.progress import Progress, show_progress
from voxtile.manifest.dealing import unit_name
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import Bundle, bundle_name, load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.report.domain import describe_scan, training_domain
from voxtile.run_folder.fingerprint import content_hash
from voxtile.training.bundle.tensorboard import scalar_events
from voxtile.training.data.fingerprint import Fingerprint, take_fingerprint
from voxtile.training.data.plane_stacks import store_planes
from voxtile.training.data.splits import absent_labels, check_values, split_cases
from voxtile.training.data.stored_cases import describe_cases, notice_lines, store_cases
from voxtile.training.folds.folds import Fold
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe, read_recipe
from voxtile.training.recipe.rules import Reasons, settle
from voxtile.training.recipe.spec import make_spec
from voxtile.training.recipe.speed import fitting_rate
from voxtile.training.recipe.warm_start import check_output, continued, seen_words, warm_start_facts

from .workfolder import hold_same, publish, remembered, sweep, working_folder

# In the working folder: every choice, once made.
_RECIPE = "recipe.toml"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training will do, before it does it.

    Parameters
    ----------
    fingerprint : Fingerprint
    recipe : Recipe
        Settled; its precision is measured when the training begins.
    reasons : dict of str to str
        Why each choice was made that nobody asked for.
    spec : ModelSpec
        What the bundle will expect and emit.
    """

    fingerprint: Fingerprint
    recipe: Recipe
    reasons: Reasons
    spec: ModelSpec

    def lines(self) -> list[str]:
        """Return it for people: fingerprint, recipe with reasons, time."""
        return [
            "# fingerprint",
            *(f"{name}: {json.dumps(part)}" for name, part in self.fingerprint.dump().items()),
            "",
            "# recipe",
            dump_recipe(self.recipe, self.reasons),
            f"# time: {self._time()}",
        ]

    def _time(self) -> str:
        """Return how long it will take, as far as that is known."""
        count = len(self.recipe.networks)
        networks = "1 network" if count == 1 else f"{count} networks"
        if self.recipe.minutes is not None:
            return (
                f"{self.recipe.minutes:g} minutes for {networks}, beside reading the cases "
                "and what the validation cases choose at the end"
            )
        steps = self.recipe.steps or (self.recipe.epochs or 0) * (self.recipe.steps_per_epoch or 0)
        return f"{networks} of {steps} steps; how long a step takes shows when it begins"


def train(
    manifest: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    fold: Fold | None = None,
    description: str = "",
    licence: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = True,
) -> Bundle:
    """Train U-Nets on a manifest's train split and write a bundle.

    Parameters
    ----------
    manifest : str or Path
        Rows with split ``train`` are learnt from, rows with split ``val``
        choose the checkpoint and give the scores; others are not read.
    out : str or Path
        Folder of the bundle; its name is the bundle's. It must not exist.
    root : str or Path, optional
        Where the manifest's relative paths begin.
    recipe : Recipe, optional
        What is left open in it follows the rules of
        `voxtile.training.recipe.rules.settle`.
    init : str or Path, optional
        A bundle whose weights the networks begin with; its channels and
        labels must be those of the training.
    resume : bool, default False
        Whether to go on with a training into `out` that was interrupted. It
        must be given what it was begun with. Without one, a new one begins.
    fold : Fold, optional
        Of a cross-validation: its cases and splits take the place of the
        manifest's.
    description : str
        One sentence for the model card.
    licence : str or Path, optional
        Text file with the licence of the weights, kept as LICENSE. Weights
        carry the licence of the data they were trained on.
    tensorboard : str or Path, optional
        Folder for TensorBoard events.
    progress : bool, default True
        Whether to show progress on standard error: a bar on a terminal, else
        a line per epoch.

    Returns
    -------
    Bundle
        Read back from `out` and verified.

    Notes
    -----
    While it runs, cases and checkpoints lie in ``OUT.training`` beside `out`
    (patient data), which survives an interruption of any kind and is removed
    when the bundle is in its place.

    With a budget of epochs or steps and a precision, the same recipe gives
    the same weights on the same machine, interrupted or not.

    Raises
    ------
    ManifestError
        With every case that cannot be trained on, and why.
    ModelError
        If `init` is refused.
    ValueError
        If the recipe contradicts itself or does not fit the cases or `init`.
    EnvironmentFault
        If `out` exists, the disk refuses, or there is another training in
        ``OUT.training``.
    """
    begin = monotonic()
    manifest, out = Path(manifest), Path(out)
    name = bundle_name(out)
    asked = recipe or Recipe()
    start = None if init is None else load_bundle(init)
    licence_text = None if licence is None else Path(licence).read_bytes()
    if fold is None:
        cases, digest = read_manifest(manifest, root=root), content_hash(manifest)
    else:
        cases, digest = fold.cases, fold.manifest_sha256
    training, validation = split_cases(cases, manifest)
    identity = {
        "voxtile-training": 1,
        "recipe": to_jsonable_python(asked),
        "training cases": [case.case_id for case in training],
        "validation cases": [case.case_id for case in validation],
        "init": None if start is None else start.sha256,
    }
    if resume and sweep(out, identity):
        return load_bundle(out)
    with (
        working_folder(out, identity, resume=resume) as work,
        show_progress(shown=progress) as shown,
        scalar_events(None if tensorboard is None else Path(tensorboard)) as write_row,
    ):
        channels = _channels(training)
        if start is not None:
            asked = continued(asked, start, channels)
        shown.begin("reading cases", len(training + validation))
        stored = store_cases(
            training + validation,
            work,
            labels=asked.labels,
            manifest=manifest,
            advance=shown.advance,
        )
        for words in notice_lines(stored):
            shown.line(f"warning: {words}")
        made_from = "".join(case.made_from for case in stored)
        hold_same(work, "files", hashlib.sha256(made_from.encode()).hexdigest())
        learnt, judged = stored[: len(training)], stored[len(training) :]
        plan = _plan(
            take_fingerprint([case.facts for case in learnt], channels, asked.labels),
            asked,
            name=name,
            description=description,
            channels=channels,
            manifest=manifest,
            work=work,
        )
        if start is None and fold is None:  # a start may know more; a fold is dealt by lot
            check_values(learnt, judged, validation, manifest)
        for words in absent_labels(learnt, judged, plan.spec.labels):
            shown.line(f"warning: {words}")
        if start is not None:
            check_output(plan.spec, start)
            scored = validation if fold is None else fold.held_out
            begun_with = warm_start_facts(start, [case.case_id for case in scored])
            if warning := seen_words(begun_with, len(scored)):
                shown.line(f"warning: {warning}")
        plan = _in_some_precision(plan, start, work, shown)
        shown.begin("cutting planes", len(learnt))
        stacks, scans = [], []
        for case in learnt:
            scans.append(describe_scan(case.volume, channels, plan.spec.intensity))
            stacks.append(store_planes(case, plan.recipe, work))
            shown.advance()

        from voxtile.training.bundle.packing import provenance, write_bundle
        from voxtile.training.choosing.choosing import choose
        from voxtile.training.fitting.networks import histories
        from voxtile.training.fitting.side_by_side import at_a_time, fit_networks

        count = len(plan.spec.networks)
        together = at_a_time(plan.recipe, count)
        # Another machine may do more or fewer at a time; each keeps the time that it was given.
        planned = remembered(work, "networks at a time", together)
        minutes = plan.recipe.minutes
        before = monotonic()
        fitted = fit_networks(
            plan.spec,
            plan.recipe,
            stacks,
            judged,
            work,
            start=start,
            seconds=None if minutes is None else 60 * minutes * planned / count,
            together=together,
            shown=shown,
            on_row=write_row,
        )
        beside = monotonic() - begin - (monotonic() - before)
        # Over all starts; networks that were fitted at the same time count once.
        fit_seconds = sum(one.standing.seconds for one in fitted) / planned
        facts = {
            "seconds": round(beside + fit_seconds, 1),
            "fit_seconds": round(fit_seconds, 1),
            "parameters": sum(one.parameters for one in fitted),
            "steps": sum(one.standing.step for one in fitted),
            **provenance(manifest, digest, training, validation, plan.recipe),
            "networks": [one.facts(plan.spec) for one in fitted],
            "domain": training_domain(scans),
        }
        if start is not None:
            facts["init"] = begun_with
        if fold is not None:
            facts["fold"] = fold.facts()
        write_bundle(
            work / "bundle",
            plan.spec,
            [one.file for one in fitted],
            facts,
            fingerprint=plan.fingerprint,
            recipe_text=(work / _RECIPE).read_text("utf-8"),
            histories=histories(fitted),
            licence=licence_text,
        )
        shown.begin("choosing how the networks are used", 1.0)
        groups = [unit_name(case.group, case.case_id) for case in validation]
        for line in choose(work / "bundle", judged, groups, work / "choosing"):
            shown.line(line)
        publish(work, out)
    return load_bundle(out)


def plan_training(
    manifest: str | Path,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    name: str = "model",
    progress: bool = True,
) -> TrainingPlan:
    """Return what `train` would do: it reads the training cases and writes nothing.

    Parameters and errors are those of `train`.
    """
    manifest = Path(manifest)
    asked = recipe or Recipe()
    training, _ = split_cases(read_manifest(manifest, root=root), manifest)
    channels = _channels(training)
    if init is not None:
        asked = continued(asked, load_bundle(init), channels)
    with show_progress(shown=progress) as shown:
        shown.begin("reading cases", len(training))
        facts = describe_cases(
            training, labels=asked.labels, manifest=manifest, advance=shown.advance
        )
    fingerprint = take_fingerprint(facts, channels, asked.labels)
    return _plan(
        fingerprint, asked, name=name, description="", channels=channels, manifest=manifest
    )


def _plan(
    fingerprint: Fingerprint,
    asked: Recipe,
    *,
    name: str,
    description: str,
    channels: tuple[str, ...],
    manifest: Path,
    work: Path | None = None,
) -> TrainingPlan:
    """Return what an earlier start has chosen, or what follows from the fingerprint and the wish.

    Rules look at the machine, too: at another place they might choose
    otherwise, and what was learnt would not fit.
    """
    place = None if work is None else work / _RECIPE
    reasons: Reasons = {}
    if place is not None and place.exists():
        recipe = read_recipe(place)
    else:
        recipe, reasons = settle(asked, fingerprint, rate=fitting_rate())
    spec = make_spec(name, description, channels, recipe, manifest)
    return TrainingPlan(fingerprint, recipe, reasons, spec)


def _in_some_precision(
    plan: TrainingPlan, start: Bundle | None, work: Path, shown: Progress
) -> TrainingPlan:
    """Return the plan with a precision, measured unless it was asked for, and write its recipe."""
    place = work / _RECIPE
    if place.exists():
        return plan
    if plan.recipe.precision is None:
        from voxtile.training.fitting.networks import build_network
        from voxtile.training.recipe.precision import choose_precision

        shown.begin("measuring precisions", 1)
        network = build_network(plan.spec, plan.recipe, 0, start)
        precision, why = choose_precision(
            network, plan.recipe, softmax=plan.spec.activation == "softmax"
        )
        plan = replace(
            plan,
            recipe=replace(plan.recipe, precision=precision),
            reasons={**plan.reasons, "precision": why},
        )
    write_text(place, dump_recipe(plan.recipe, plan.reasons))
    return plan


def _channels(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the channels, in order."""
    return tuple(channel for channel, _ in cases[0].images)
