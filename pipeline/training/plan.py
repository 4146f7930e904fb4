"""What a training run will do: its recipe, with the reason for each choice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voxtile.case import Case
from voxtile.errors import counted
from voxtile.machine.progress import show_progress
from voxtile.manifest.rows import read_manifest
from voxtile.models.bundle import load_bundle
from voxtile.models.spec import ModelSpec
from voxtile.reading.scan import ReadPolicy
from voxtile.training.data.fingerprint import Fingerprint, take_fingerprint
from voxtile.training.data.splits import gaps, split_cases
from voxtile.training.data.stored_cases import channel_names, describe_cases
from voxtile.training.recipe.precision import fitting_rate
from voxtile.training.recipe.recipe import Recipe
from voxtile.training.recipe.recipe_file import dump_recipe
from voxtile.training.recipe.rules import Reasons, settle
from voxtile.training.recipe.spec import make_spec
from voxtile.training.recipe.warm_start import continued


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training run will do, with the reason for each choice that the user left open.

    The recipe is settled; its precision is measured at the start of the training run.
    """

    fingerprint: Fingerprint
    recipe: Recipe
    reasons: Reasons
    spec: ModelSpec

    def lines(self) -> list[str]:
        """Return the plan for people: fingerprint, recipe with reasons, time."""
        return [
            "# fingerprint",
            *(f"{name}: {json.dumps(part)}" for name, part in self.fingerprint.dump().items()),
            "",
            "# recipe",
            dump_recipe(self.recipe, self.reasons),
            f"# time: {self._time()}",
        ]

    def _time(self) -> str:
        """Return how long the training run will take, as far as that is known."""
        networks = counted(len(self.recipe.networks), "network")
        if self.recipe.minutes is not None:
            return (
                f"{self.recipe.minutes:g} minutes to fit {networks}; reading the cases and the "
                "choices on the validation cases take extra time"
            )
        steps = self.recipe.steps or (self.recipe.epochs or 0) * (self.recipe.steps_per_epoch or 0)
        return f"{networks} of {steps} steps; the time of a step is not known yet"


def plan_training(
    manifest: str | Path,
    *,
    root: str | Path | None = None,
    recipe: Recipe | None = None,
    init: str | Path | None = None,
    validation: bool = True,
    policy: ReadPolicy | None = None,
    name: str = "model",
    progress: bool = True,
    device: str = "auto",
) -> TrainingPlan:
    """Return what `train` would do; read the training cases, but write nothing.

    Parameters and errors are those of `train`.
    """
    manifest, recipe = Path(manifest), recipe or Recipe()
    cases = read_manifest(manifest, root=root)
    training, others = split_cases(cases, manifest, held_out=validation)
    channels = channel_names(training, policy)
    optional = gaps(training, others, channels, manifest)
    if init is not None:
        recipe = continued(recipe, load_bundle(init))
    fingerprint = fingerprint_cases(training, recipe, manifest, policy, progress=progress)
    recipe, reasons = settle(recipe, fingerprint, rate=fitting_rate(device))
    spec = make_spec(name, "", channels, recipe, manifest, optional)
    return TrainingPlan(fingerprint, recipe, reasons, spec)


def fingerprint_cases(
    cases: Sequence[Case],
    recipe: Recipe,
    manifest: Path,
    policy: ReadPolicy | None,
    *,
    progress: bool,
) -> Fingerprint:
    """Read cases and return their fingerprint."""
    with show_progress(shown=progress) as shown:
        shown.begin("reading cases", len(cases))
        facts = describe_cases(
            cases,
            labels=recipe.labels,
            ignore=recipe.ignore,
            unlabelled=recipe.unlabelled,
            policy=policy,
            manifest=manifest,
            advance=shown.advance,
        )
    return take_fingerprint(facts, channel_names(cases, policy), recipe.labels)
