"""Prepared cases -> a fitted network; a fit can stop and continue."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxtile.engines.device import Device
from voxtile.models.backend import keras
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.models.unet import build_unet
from voxtile.training.data.plane_stacks import PlaneStack
from voxtile.training.data.stored_cases import StoredCase
from voxtile.training.recipe.recipe import Recipe, settled
from voxtile.training.recipe.warm_start import same_outputs, starting_network

from .adapted import adapted
from .checkpoint import Row, Standing, best_weights, read_checkpoint
from .dataset import Sampling, TileBatches
from .device_batches import on_device
from .device_learner import DeviceLearner
from .fit import FitTask, Shown, fit
from .judging import Scores, cost_in_steps, judge, score_facts, validator
from .learner import Learner, fitting_device
from .network_file import rounded, save_network


@dataclass(frozen=True, slots=True, eq=False)
class FittedNetwork:
    """One network after its fit."""

    entry: Network
    parameters: int
    file: Path  # ``.keras``, float32, with the best weights, rounded
    standing: Standing
    # Scores of this network's best weights, in the precision of the fit and before rounding.
    scores: Scores

    def facts(self, spec: ModelSpec) -> dict[str, Any]:
        """Return facts about the network for the spec."""
        facts = score_facts(self.scores, spec.labels) if self.scores.dice else {}
        known = {name: value for name, value in facts.items() if name != "cases"}
        return {
            "file": self.entry.file,
            "views": list(self.entry.views),
            "parameters": self.parameters,
            "steps": self.standing.step,
            "fit_seconds": round(self.standing.seconds, 1),
            "best_epoch": self.standing.best_epoch,
            **({"validation_dice": known} if known else {}),
        }


def build_network(
    spec: ModelSpec, recipe: Recipe, number: int, start: Bundle | None, *, skip_first: bool = False
) -> Any:
    """Return a network before its first step; every call gives the same weights.

    If training starts from a bundle, its layers and the weights that fit are used. Otherwise the
    network is new, with `skip_first` as in `Standing`. `number` is its index in the spec.
    """
    keras.utils.set_random_seed(recipe.seed + number)
    if start is not None:
        views = spec.networks[number].views
        member = sum(entry.views == views for entry in spec.networks[:number])
        network = starting_network(start, views, member)
        same = same_outputs(start.spec, spec)
        if same and start.spec.channels == spec.channels:
            return network
        channels, outputs = (start.spec.channels, spec.channels), spec.output_channels
        return adapted(
            network,
            channels,
            outputs,
            spec.activation,
            new_last=not same,
            context_slices=spec.context_slices,
        )
    return build_unet(
        (None, None, spec.input_channels),
        spec.output_channels,
        filters=settled(recipe.filters),
        depth=settled(recipe.depth),
        normalisation=recipe.normalisation,
        dropout=recipe.dropout,
        activation=spec.activation,
        skip_first=skip_first,
    )


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """Everything that is needed to fit one network; it can be sent to another process."""

    spec: ModelSpec
    number: int  # index in the spec's networks
    recipe: Recipe  # settled, with a precision
    # For each training case, the planes of the views that this network learns from.
    stacks: tuple[tuple[PlaneStack, ...], ...]
    validation: tuple[StoredCase, ...]
    work: Path  # gets a folder for the network
    start: Bundle | None  # gives the first weights
    seconds: float | None  # its part of a time budget
    device: str = "auto"  # "auto", "cpu", "gpu" or "gpu:N"
    earlier: tuple[Row, ...] = ()  # history of the network, if a finished model is trained further

    @property
    def entry(self) -> Network:
        """The network's entry in the spec."""
        return self.spec.networks[self.number]

    @property
    def name(self) -> str:
        """The name of the network's file, without the suffix."""
        return Path(self.entry.file).stem

    @property
    def checkpoint(self) -> Path:
        """The path of the network's checkpoint."""
        return self.work / self.name / "checkpoint.npz"


def prefers_device(device: Device) -> bool:
    """Whether a device cuts its own tiles; on a processor that has no benefit."""
    return device.is_gpu


def fit_network(
    this: NetworkFit, until_s: float, shown: Shown, on_row: Callable[[Row], None]
) -> None:
    """Fit a network until its budget is used, or until `until_s` seconds of its fit."""
    spec, recipe, entry = this.spec, this.recipe, this.entry
    alone = spec.model_copy(update={"networks": (entry,)})
    softmax = spec.activation == "softmax"
    batches = TileBatches(
        this.stacks,
        Sampling(
            tile=recipe.tile_of(entry.views),
            context_slices=spec.context_slices,
            labels=spec.labels,
            softmax=softmax,
            batch=settled(recipe.batch),
            seed=recipe.seed + this.number,
            foreground=settled(recipe.foreground),
            flips=recipe.flips,
            augmentation=settled(recipe.augmentation),
            ignore=spec.ignore,
            optional=tuple(map(spec.channels.index, spec.optional_channels)),
            channel_dropout=recipe.channel_dropout or 0.0,
            position=spec.position,
        ),
    )
    found = read_checkpoint(this.checkpoint)
    skip_first = found is not None and found[0].skip_first
    network = build_network(spec, recipe, this.number, this.start, skip_first=skip_first)
    device = fitting_device(this.device)
    options: dict[str, Any] = {
        "softmax": softmax,
        "precision": settled(recipe.precision),
        "device": device,
    }
    stored = on_device(batches, device) if prefers_device(device) else None
    learner: Learner
    if stored is None:
        learner = Learner(network, recipe, **options)
        make_batch: Callable[[int], Any] = batches.__getitem__
        if prefers_device(device):
            shown.line(
                "a case does not fit into the memory of the GPU, so the processor prepares the "
                "batches; fewer views at once, or a larger --spacing, would fit"
            )
    else:
        learner = DeviceLearner(stored, network, recipe, **options)
        make_batch = stored.__getitem__
        if (share := len(stored.rotation.at(0)[1])) < len(batches.cases):
            shown.line(
                f"about {share} of {len(batches.cases)} cases fit into the memory of the GPU at a "
                "time; they are replaced during the training run, so that each teaches as much"
            )
    segmenter = validator(alone, learner, this.validation, on_device=prefers_device(device))
    task = FitTask(
        make_batch=make_batch,
        judge=lambda predict: judge(this.validation, alone, segmenter),
        recipe=recipe,
        labels=spec.labels,
        checkpoint=this.checkpoint,
        seconds=this.seconds,
        validates=bool(this.validation),
        validation_steps=cost_in_steps(this.validation, alone, entry.views, settled(recipe.batch)),
        earlier=this.earlier,
    )
    fit(task, learner, until_s=until_s, shown=shown, on_row=on_row)


def fitted_network(this: NetworkFit) -> FittedNetwork:
    """Save a network whose fit is finished."""
    standing, arrays = read_checkpoint(this.checkpoint) or (Standing(), {})
    if standing.best is None:
        raise RuntimeError(f"{this.name} has no checkpoint with a validation")
    network = build_network(
        this.spec, this.recipe, this.number, this.start, skip_first=standing.skip_first
    )
    network.set_weights(rounded(best_weights(arrays)))
    file = this.checkpoint.with_name("network.keras")
    save_network(network, file)
    earlier_s = float(this.earlier[-1]["seconds"]) if this.earlier else 0.0
    scores, standing = standing.best, replace(standing, seconds=earlier_s + standing.seconds)
    return FittedNetwork(this.entry, network.count_params(), file, standing, scores)
