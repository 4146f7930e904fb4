"""`train`: from a manifest with labels to a trained bundle."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Unpack

from voxtile.errors import ManifestError, UsageError
from voxtile.machine.files import regular, write_text
from voxtile.machine.memory_errors import KERAS_MB, require_memory
from voxtile.machine.progress import Progress, show_progress
from voxtile.manifest.dealing import unit_name
from voxtile.models.bundle import Bundle, bundle_name, load_bundle
from voxtile.report.domain import describe_scan, training_domain
from voxtile.report.faces import KEY, count_faces
from voxtile.training.bundle.tensorboard import scalar_events
from voxtile.training.data.fingerprint import take_fingerprint
from voxtile.training.data.plane_stacks import PlaneStack, store_planes
from voxtile.training.data.splits import absent_labels, check_values
from voxtile.training.data.stored_cases import StoredCase, notice_lines, store_cases
from voxtile.training.folds.folds import Fold
from voxtile.training.recipe.precision import fitting_rate
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe, read_settled
from voxtile.training.recipe.rules import Reasons, settle
from voxtile.training.recipe.spec import make_spec
from voxtile.training.recipe.warm_start import adapted_words, continued, seen_words

from .longer import (
    check_cases,
    check_fingerprint,
    earlier_rows,
    finished_model,
    further,
    longer_facts,
)
from .options import TrainKeywords, TrainOptions
from .plan import TrainingPlan
from .source import Source, protect_inputs, read_source, reading_facts
from .workfolder import hold_same, publish, remembered, remove_finished, working_folder

if TYPE_CHECKING:  # these imports load Keras, which takes seconds
    from voxtile.training.fitting.networks import FittedNetwork, NetworkFit

# File in the working folder with every choice, written after all choices were made.
_RECIPE = "recipe.toml"
# Name under which a training run stores how many networks it fits at a time.
_TOGETHER = "networks at a time"


def train(manifest: str | Path, out: str | Path, **options: Unpack[TrainKeywords]) -> Bundle:
    """Train U-Nets on a manifest's training cases and write a bundle.

    Parameters
    ----------
    manifest : str or Path
        Rows with split ``train`` train the networks. Rows with split ``val``
        choose the checkpoint and give the scores. Other rows are not read.
    out : str or Path
        Folder of the bundle, which gets the folder's name. It must not exist.
    options
        `root`, `recipe`, `init`, `resume`, `longer`, `validation`, `policy`, `description`,
        `licence`, `tensorboard` and `progress`; see `voxtile.training.options.TrainOptions`.

    Returns
    -------
    Bundle
        Read back from `out` and verified.

    Notes
    -----
    During the training run, cases and checkpoints are in ``OUT.training`` beside
    `out` (patient data). That folder survives any interruption, and is removed
    after the bundle is finished.

    With a budget of epochs or steps and a fixed precision, the same recipe
    gives the same weights on the same machine, interrupted or not.

    Raises
    ------
    ManifestError
        If cases cannot be used (all of them are named, with the reasons); or if
        an input is inside `out` or ``OUT.training``, or contains them.
    ModelError
        If `init` is refused.
    ValueError
        If choices of the recipe contradict each other, or the cases, or `init`.
    EnvironmentFault
        If `out` exists, a file cannot be written, or ``OUT.training`` holds a
        different training run.
    """
    return train_bundle(Path(manifest), Path(out), TrainOptions(**options))


def train_bundle(
    manifest: Path, out: Path, options: TrainOptions, fold: Fold | None = None
) -> Bundle:
    """Train as `train` does; if `fold` is given, its cases replace the manifest's."""
    begin = monotonic()
    require_memory(KERAS_MB, "training needs")
    finished = finished_model(out) if options.longer else None
    source = read_source(manifest, bundle_name(out), options, fold, finished)
    protect_inputs(source, out, options)
    licence = _licence(options, finished)
    recipe = options.recipe or Recipe()
    reasons: Reasons = {}
    if finished is not None:
        check_cases(finished, source.training, source.validation, source.channels, source.policy)
        recipe, reasons = further(recipe, finished)
    if recipe.patience is not None and not source.validation:
        raise UsageError("--patience counts validations, but no case is held out; leave it out")
    identity = source.identity(recipe)
    if options.resume and remove_finished(out, identity):
        return load_bundle(out)
    tensorboard = None if options.tensorboard is None else Path(options.tensorboard)
    _check_devices(options)
    with (
        working_folder(out, identity, resume=options.resume, replaces=options.longer) as work,
        show_progress(shown=options.progress) as shown,
        scalar_events(tensorboard) as on_row,
    ):
        if source.start is not None and not source.longer:
            recipe = continued(recipe, source.start)
        training, validation = _store(source, recipe, work, shown)
        devices = options.fitting_devices
        plan = _work_plan(source, training, recipe, reasons, work, devices[0])
        training, validation = (_filled(cases, plan.recipe) for cases in (training, validation))
        _check(source, training, validation, plan, shown)
        plan = _with_precision(plan, source.start, work, shown, devices[0])
        stacks, domain = _cut_planes(source, training, plan, work, shown)
        fits, together = _fits(source, validation, plan, stacks, work, devices)
        beside_s = monotonic() - begin

        from voxtile.training.bundle.packing import write_bundle
        from voxtile.training.bundle.training_page import write_training_page
        from voxtile.training.fitting.side_by_side import fit_networks

        fitted = fit_networks(fits, together=together, devices=devices, shown=shown, on_row=on_row)
        planned = remembered(work, _TOGETHER, together)
        write_bundle(
            work / "bundle",
            plan.spec,
            fitted,
            _facts(source, plan, fitted, beside_s, planned, domain),
            fingerprint=plan.fingerprint,
            recipe_text=(work / _RECIPE).read_text("utf-8"),
            licence=licence,
        )
        shown.begin("choosing how the networks are used", 1.0)
        for line in _choose(source, training, validation, work, devices[0]):
            shown.line(line)
        write_training_page(load_bundle(work / "bundle"))
        publish(work, out, replaces=options.longer)
    return load_bundle(out)


def _licence(options: TrainOptions, finished: Bundle | None) -> bytes | None:
    """Return the licence of the weights; a model that is trained further keeps its own."""
    if options.licence is not None:
        return regular(Path(options.licence)).read_bytes()
    kept = None if finished is None else finished.folder / "LICENSE"
    return kept.read_bytes() if kept is not None and kept.is_file() else None


def _check_devices(options: TrainOptions) -> None:
    """Refuse devices that are missing before any case is read."""
    for name in options.fitting_devices:
        if name != "auto":
            from voxtile.engines.device import Device  # takes seconds

            Device(name)


def _store(
    source: Source, recipe: Recipe, work: Path, shown: Progress
) -> tuple[list[StoredCase], list[StoredCase]]:
    """Store all cases in the working folder; return training and validation cases."""
    rows = (*source.training, *source.validation)
    shown.begin("reading cases", len(rows))
    stored = store_cases(
        rows,
        work,
        labels=recipe.labels,
        ignore=recipe.ignore,
        unlabelled=recipe.unlabelled,
        policy=source.policy,
        manifest=source.manifest,
        advance=shown.advance,
    )
    for words in notice_lines(stored):
        shown.line(f"warning: {words}")
    made_from = "".join(case.made_from for case in stored)
    hold_same(work, "files", hashlib.sha256(made_from.encode()).hexdigest())
    return stored[: len(source.training)], stored[len(source.training) :]


def _work_plan(
    source: Source,
    training: Sequence[StoredCase],
    recipe: Recipe,
    reasons: Reasons,
    work: Path,
    device: str,
) -> TrainingPlan:
    """Return the plan that this training run chose before it was interrupted, or a new plan."""
    facts = [case.facts for case in training]
    fingerprint = take_fingerprint(facts, source.channels, recipe.labels)
    if source.start is not None and source.longer:
        check_fingerprint(source.start, fingerprint)
    if (work / _RECIPE).exists():
        # On another machine the rules might make other choices, which do not fit the checkpoints.
        recipe = read_settled(work / _RECIPE)
    else:
        recipe, settled_reasons = settle(recipe, fingerprint, rate=fitting_rate(device))
        reasons = reasons | settled_reasons
    for channel in fingerprint.channels:
        if channel.name in source.optional and not (channel.missing or recipe.channel_dropout):
            raise ManifestError(
                f"{source.manifest}: only validation cases lack channel {channel.name}, so the "
                "networks would not learn to work without it; train with such cases too, or set "
                "channel_dropout in a recipe"
            )
    spec = make_spec(
        source.name, source.description, source.channels, recipe, source.manifest, source.optional
    )
    return TrainingPlan(fingerprint, recipe, reasons, spec)


def _filled(cases: Sequence[StoredCase], recipe: Recipe) -> list[StoredCase]:
    """Return cases whose missing channels are scaled to 0."""
    return [replace(case, fill=recipe.scaling.zero) for case in cases]


def _check(
    source: Source,
    training: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    plan: TrainingPlan,
    shown: Progress,
) -> None:
    """Refuse labels that no training case has, and warn of scores that may mislead."""
    # A bundle to start with may have more labels, and the cases of a fold are drawn at random.
    if source.start is None and source.fold is None:
        check_values(training, validation, source.validation, source.manifest)
    if not validation:
        shown.line(
            f"warning: no case is held out: all {len(training)} cases train the networks, the "
            "weights of the end are saved, and the model has no scores"
        )
    for words in absent_labels(training, validation, plan.spec):
        shown.line(f"warning: {words}")
    if source.start is not None:
        if taken := adapted_words(source.start.spec, plan.spec):
            shown.line(f"fine-tuning: {taken}")
        if warning := seen_words(*source.init_facts()):
            shown.line(f"warning: {warning}")


def _with_precision(
    plan: TrainingPlan, start: Bundle | None, work: Path, shown: Progress, device: str
) -> TrainingPlan:
    """Return the plan with a precision, which is measured if left open, and write its recipe."""
    if (work / _RECIPE).exists():
        return plan
    if plan.recipe.precision is None:
        from voxtile.training.fitting.networks import build_network
        from voxtile.training.recipe.precision import choose_precision

        shown.begin("measuring precisions", 1)
        network = build_network(plan.spec, plan.recipe, 0, start)
        precision, why = choose_precision(
            network, plan.recipe, softmax=plan.spec.activation == "softmax", device=device
        )
        plan = replace(
            plan,
            recipe=replace(plan.recipe, precision=precision),
            reasons={**plan.reasons, "precision": why},
        )
    write_text(work / _RECIPE, dump_recipe(plan.recipe, plan.reasons))
    return plan


def _cut_planes(
    source: Source, training: Sequence[StoredCase], plan: TrainingPlan, work: Path, shown: Progress
) -> tuple[list[list[PlaneStack]], dict[str, Any]]:
    """Cut the training cases into planes; return the planes, and facts about the scans."""
    shown.begin("cutting planes", len(training))
    stacks, scans = [], []
    for case in training:
        missing = [source.channels[index] for index in case.missing]
        scans.append(describe_scan(case.volume, source.channels, plan.spec.intensity, missing))
        stacks.append(store_planes(case, plan.recipe, work))
        shown.advance()
    domain = training_domain(scans, position=plan.spec.position)
    references = (case.reference for case in training)
    return stacks, domain | {KEY: count_faces(references, plan.spec.labels)}


def _fits(
    source: Source,
    validation: Sequence[StoredCase],
    plan: TrainingPlan,
    stacks: Sequence[Sequence[PlaneStack]],
    work: Path,
    devices: Sequence[str],
) -> "tuple[list[NetworkFit], int]":
    """Return what each network is fitted with, and how many are fitted at a time."""
    from voxtile.training.bundle.history import network_names
    from voxtile.training.fitting.networks import NetworkFit
    from voxtile.training.fitting.side_by_side import at_a_time

    networks, minutes = plan.spec.networks, plan.recipe.minutes
    together = min(len(devices), len(networks))
    if together == 1:
        together = at_a_time(plan.recipe, len(networks))
    # Another machine may fit more or fewer networks at a time; each network keeps its time.
    planned = remembered(work, _TOGETHER, together)
    seconds = None if minutes is None else 60 * minutes * planned / len(networks)
    names = network_names(networks)
    start = source.start
    rows = earlier_rows(start, names) if start and source.longer else [()] * len(names)
    fits = [
        NetworkFit(
            plan.spec,
            number,
            plan.recipe,
            tuple(tuple(stack for stack in views if stack.view in entry.views) for views in stacks),
            tuple(validation),
            work,
            source.start,
            seconds,
            devices[0],
            rows[number],
        )
        for number, entry in enumerate(networks)
    ]
    return fits, together


def _choose(
    source: Source,
    training: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    work: Path,
    device: str,
) -> Iterator[str]:
    """Choose how the networks of the bundle are used; yield the choices in words."""
    from voxtile.training.bundle.calibration import calibrate
    from voxtile.training.choosing.by_references import choose_by_references
    from voxtile.training.choosing.choosing import choose

    bundle = work / "bundle"
    groups = [unit_name(case.group, case.case_id) for case in source.validation]
    if validation:
        yield from choose(bundle, validation, groups, work / "choosing", device)
    else:
        yield choose_by_references(bundle, training)
    yield calibrate(bundle, validation, groups)


def _missing_facts(plan: TrainingPlan) -> dict[str, Any]:
    """Return how many training cases lack each channel that may be missing."""
    optional = plan.spec.optional_channels
    lacking = {one.name: one.missing for one in plan.fingerprint.channels if one.name in optional}
    return {"missing_channels": lacking} if lacking else {}


def _facts(
    source: Source,
    plan: TrainingPlan,
    fitted: "Sequence[FittedNetwork]",
    beside_s: float,
    planned: int,
    domain: dict[str, Any],
) -> dict[str, Any]:
    """Return training facts for the spec; the time of networks fitted in parallel counts once."""
    from voxtile.training.bundle.packing import provenance

    fit_seconds = sum(one.standing.seconds for one in fitted) / planned
    facts = {
        "seconds": round(beside_s + fit_seconds, 1),
        "fit_seconds": round(fit_seconds, 1),
        "parameters": sum(one.parameters for one in fitted),
        "steps": sum(one.standing.step for one in fitted),
        "manifest": source.manifest.name,
        "manifest_sha256": source.manifest_sha256,
        **provenance(source.training, source.validation, plan.recipe),
        **reading_facts(source.policy),
        "networks": [one.facts(plan.spec) for one in fitted],
        **_missing_facts(plan),
        "domain": domain,
    }
    if source.start is not None and source.longer:
        before = source.start.spec.training
        # The fits have the seconds of the earlier parts too.
        facts["seconds"] = round(facts["seconds"] + before["seconds"] - before["fit_seconds"], 1)
        facts |= longer_facts(source.start, plan.recipe)
        facts |= {"init": before["init"]} if "init" in before else {}
    elif source.start is not None:
        facts["init"], _ = source.init_facts()
        if taken := adapted_words(source.start.spec, plan.spec):
            facts["init"]["adapted"] = taken
    if source.fold is not None:
        facts["fold"] = source.fold.facts()
    return facts
