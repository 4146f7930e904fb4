"""Prepared cases -> the fitted networks of a bundle, one after another, each able to go on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voxtile.models.backend import keras
from voxtile.models.bundle import Bundle
from voxtile.models.spec import ModelSpec, Network
from voxtile.models.unet import build_unet
from voxtile.progress import Progress

from .checkpoint import Row, Standing
from .dataset import Sampling, TileBatches
from .fit import fit
from .judging import Scores, judge, score_facts
from .learner import Learner, Predict, predictor
from .preparation import PlaneStack, StoredCase
from .recipe import Recipe, settled
from .warm_start import starting_network


@dataclass(frozen=True, slots=True, eq=False)
class FittedNetwork:
    """One network after its fit.

    Parameters
    ----------
    entry : Network
        Its place in the spec.
    network : keras.Model
        float32, with the weights that are kept.
    file : Path
    standing : Standing
        Of its fit.
    scores : Scores
        Of the kept weights, alone and in the precision of the fit.
    """

    entry: Network
    network: Any
    file: Path
    standing: Standing
    scores: Scores

    def facts(self, spec: ModelSpec) -> dict[str, Any]:
        """Return what the bundle tells of it."""
        return {
            "file": self.entry.file,
            "views": list(self.entry.views),
            "parameters": self.network.count_params(),
            "steps": self.standing.step,
            "fit_seconds": round(self.standing.seconds, 1),
            "best_epoch": self.standing.best_epoch,
            "validation_dice": {
                name: value
                for name, value in score_facts(self.scores, spec.labels).items()
                if name != "cases"
            },
        }


def build_network(spec: ModelSpec, recipe: Recipe, number: int, start: Bundle | None) -> Any:
    """Return network `number` before its first step; the same one every time.

    Parameters
    ----------
    spec : ModelSpec
    recipe : Recipe
        Settled.
    number : int
        Of the spec's networks.
    start : Bundle, optional
        To begin with its weights.
    """
    keras.utils.set_random_seed(recipe.seed + number)
    if start is not None:
        return starting_network(start, spec.networks[number].views)
    return build_unet(
        (None, None, spec.input_channels),
        spec.output_channels,
        filters=settled(recipe.filters),
        depth=settled(recipe.depth),
        normalisation=recipe.normalisation,
        dropout=recipe.dropout,
        activation=spec.activation,
    )


def fit_networks(
    spec: ModelSpec,
    recipe: Recipe,
    stacks: Sequence[Sequence[PlaneStack]],
    judged: Sequence[StoredCase],
    work: Path,
    *,
    start: Bundle | None = None,
    shown: Progress,
    on_row: Callable[[str, Row], None] = lambda network, row: None,
) -> list[FittedNetwork]:
    """Fit every network of a spec.

    Parameters
    ----------
    spec : ModelSpec
    recipe : Recipe
        Settled, with a precision.
    stacks : sequence of sequence of PlaneStack
        For each training case its views.
    judged : sequence of StoredCase
        To validate on.
    work : Path
        Gets a folder for each network; one that is done already is taken from
        there.
    start : Bundle, optional
        To begin with its weights.
    shown : Progress
    on_row : callable
        Called with the name of a network and each new row of its history.
    """
    fitted = []
    for number, entry in enumerate(spec.networks):
        name = Path(entry.file).stem
        if len(spec.networks) > 1:
            shown.line(f"network {number + 1} of {len(spec.networks)}: {', '.join(entry.views)}")
        shown.begin(f"training {', '.join(entry.views)}", 1.0)
        network = build_network(spec, recipe, number, start)
        alone = spec.model_copy(update={"networks": (entry,)})
        softmax = spec.activation == "softmax"
        batches = TileBatches(
            [[stack for stack in views if stack.view in entry.views] for views in stacks],
            Sampling(
                tile=recipe.tile_of(entry.views),
                context_slices=spec.context_slices,
                labels=spec.labels,
                softmax=softmax,
                batch=settled(recipe.batch),
                seed=recipe.seed + number,
                foreground=settled(recipe.foreground),
                flips=recipe.flips,
                augmentation=recipe.augmentation,
            ),
        )

        def judge_alone(predict: Predict, alone: ModelSpec = alone) -> Scores:
            return judge(judged, alone, [predict])

        done = fit(
            Learner(network, recipe, softmax=softmax, precision=settled(recipe.precision)),
            batches.__getitem__,
            judge_alone,
            recipe,
            spec.labels,
            work / name / "checkpoint.npz",
            seconds=None if recipe.minutes is None else 60 * recipe.minutes / len(spec.networks),
            shown=shown,
            on_row=partial(on_row, name),
        )
        network.set_weights(done.weights)
        file = work / name / "network.keras"
        network.save(file)
        fitted.append(FittedNetwork(entry, network, file, done.standing, done.scores))
    return fitted


def judge_together(
    fitted: Sequence[FittedNetwork], spec: ModelSpec, judged: Sequence[StoredCase], recipe: Recipe
) -> Scores:
    """Return the scores of all networks together, in float32 as a run computes.

    One network that was fitted in float32 has been judged so already.
    """
    if len(fitted) == 1 and recipe.precision == "float32":
        return fitted[0].scores
    return judge(judged, spec, [predictor(one.network) for one in fitted])


def histories(fitted: Sequence[FittedNetwork]) -> Mapping[str, Sequence[Row]]:
    """Return the history of each network, by its name."""
    return {
        "+".join(one.entry.views): [dict(row) for row in one.standing.history] for one in fitted
    }
