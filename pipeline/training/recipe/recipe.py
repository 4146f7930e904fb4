"""A recipe: every choice of a training run. `rules` makes the choices that are left open.

This module imports nothing heavy, because `voxtile --help` reads options from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from voxtile.errors import UsageError
from voxtile.scoring.measures import check_ignored

if TYPE_CHECKING:
    from voxtile.models.spec import Axis, Intensity, Label, Normalisation, View
    from voxtile.training.fitting.augmentation import Augmentation
    from voxtile.volume import Shape2D

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Choice = TypeVar("Choice")

_OPEN = "a choice of the recipe is still open; call settle first"

BUDGETS = ("minutes", "epochs", "steps")
# Fields that must be more than 0 if they are given.
_POSITIVE = (
    *BUDGETS, "patience", "members", "filters", "depth", "batch", "steps_per_epoch",
    "learning_rate",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How networks are trained. None leaves a choice to the rules (``docs/training.md``).

    Parameters
    ----------
    minutes : float, optional
        Time budget in minutes for fitting and validating all networks (default: 18); +60 trains a
        finished model further.

        Reading the cases does not count. Each network gets the same part.
    epochs : int, optional
        Budget of each network in epochs, instead of minutes; +20 trains a finished model further.

        On the same machine, the result is exactly the same.
    steps : int, optional
        Budget of each network in steps, instead of minutes; +2000 trains a finished model further.
    patience : int, optional
        Stop a network early after this many validations in a row without a better score (default:
        never).
    seed : int
        Seed of the first weights and of every random choice (default: 0).
    views : tuple of View, optional
        Views whose planes are segmented: axial, coronal, sagittal.
    network : {"per_view", "shared"}, optional
        Whether each view has its own network, or all views share one network.
    members : int, optional
        How many networks of each kind are trained; their predictions are averaged.

        They differ in their first weights and their batches (Lakshminarayanan et al. 2017, "Simple
        and Scalable Predictive Uncertainty Estimation using Deep Ensembles").
    context_slices : int, optional
        How many neighbouring planes a network sees at once; an odd number.
    position : bool, optional
        Whether channels say where in its scan a pixel is, see `voxtile.preparation.position`.
    spacing_mm : (R, A, S) or "native", optional
        Pixel spacing in mm that planes are resampled to; native leaves each scan's own.
    intensity : Intensity, optional
        How intensities are normalised.
    tile : (rows, columns) or mapping of View to (rows, columns), optional
        Size of the tiles in pixels, a multiple of 2 to the power of depth.

        One size for all views, or one for each.
    overlap : float
        Smallest overlap of neighbouring tiles when whole planes are segmented, as a fraction of
        the tile.
    labels : tuple of Label
        Values, names and colours. By default the values in the training references. Regions, or a
        single label, give sigmoid outputs; otherwise softmax.
    ignore : int, optional
        Value of references whose voxels take no part in the training and the scores, such as 255.
    unlabelled : tuple of int
        Values of references, other than 0, that count as background.
    filters : int, optional
        Filters of the first level of the U-Net.
    depth : int, optional
        How many times the U-Net halves the resolution.
    normalisation : {"none", "batch", "group", "instance"}
        Normalisation of the U-Net, see `voxtile.models.unet.build_unet`.
    dropout : float
        Dropout of the U-Net, at least 0 and below 1.
    precision : {"float32", "mixed_bfloat16", "mixed_float16"}, optional
        Arithmetic of the training run (default: the fastest, measured at the start).

        Weights are always stored in float32.
    batch : int, optional
        How many tiles a step takes.
    steps_per_epoch : int, optional
        Steps between two validations.
    optimizer : {"muon", "adamw"}, optional
        How a gradient becomes a step: Muon for the kernels of hidden layers and AdamW for all other
        weights, or AdamW for all, see `voxtile.training.fitting.muon`.
    learning_rate : float, optional
        Learning rate at the peak of its schedule.
    weight_decay : float
        Weight decay, in units of the learning rate.
    ema : float
        Momentum of the running mean of the weights, which is what is validated and saved; 0 saves
        the weights themselves.
    foreground : float, optional
        Fraction of the tiles that are centred on a label.
    class_weights : tuple of float, optional
        Weight of each output's pixels in the cross-entropy (softmax: background first). In the
        Dice part of the loss, all labels always have equal weights.
    flips : tuple of {"R", "A", "S"}
        Axes that may be mirrored in training (default: none).

        The left and the right of a body differ, and labels may depend on the side.
    channel_dropout : float, optional
        Probability that a tile is learned without one of the channels that some cases lack.
    augmentation : Augmentation, optional
        How tiles are varied.

    Raises
    ------
    UsageError
        If two choices contradict each other or a number is out of range.
    """

    minutes: float | None = None
    epochs: int | None = None
    steps: int | None = None
    patience: int | None = None
    seed: int = 0
    views: "tuple[View, ...] | None" = None
    network: Literal["per_view", "shared"] | None = None
    members: int | None = None
    context_slices: int | None = None
    position: bool | None = None
    spacing_mm: tuple[float, float, float] | Literal["native"] | None = None
    intensity: "Intensity | None" = None
    tile: "Shape2D | dict[View, Shape2D] | None" = None
    overlap: float = 0.5
    labels: "tuple[Label, ...]" = ()
    ignore: int | None = None
    unlabelled: tuple[int, ...] = ()
    filters: int | None = None
    depth: int | None = None
    normalisation: "Normalisation" = "batch"
    dropout: float = 0.0
    precision: Precision | None = None
    batch: int | None = None
    steps_per_epoch: int | None = None
    optimizer: Literal["muon", "adamw"] | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    ema: float = 0.99
    foreground: float | None = None
    class_weights: tuple[float, ...] | None = None
    flips: "tuple[Axis, ...]" = ()
    channel_dropout: float | None = None
    augmentation: "Augmentation | None" = None

    def __post_init__(self) -> None:
        budgets = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise UsageError(f"{' and '.join(budgets)} are all budgets; give one of them")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} is {value}, but must be more than 0")
        if self.context_slices is not None and self.context_slices % 2 != 1:
            raise UsageError(
                f"context_slices {self.context_slices} must be odd, so that the segmented plane is "
                "in the middle"
            )
        foreground = 0.0 if self.foreground is None else self.foreground
        if not 0 <= self.ema < 1 or not 0 <= foreground <= 1 or self.weight_decay < 0:
            raise UsageError(
                f"ema {self.ema} must be in [0, 1), foreground {self.foreground} in [0, 1] and "
                f"weight_decay {self.weight_decay} not negative"
            )
        if not 0 <= (self.channel_dropout or 0) < 1:
            raise UsageError(
                f"channel_dropout {self.channel_dropout} must be at least 0 and below 1"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout} must be at least 0 and below 1")
        if any(not 0 <= weight < float("inf") for weight in self.class_weights or ()):
            raise UsageError(f"class_weights {self.class_weights} must be numbers of at least 0")
        if isinstance(self.spacing_mm, tuple) and min(self.spacing_mm) <= 0:
            raise UsageError(f"spacing_mm {self.spacing_mm} must be more than 0")
        check_ignored(self.ignore)
        method = getattr(self.intensity, "method", "")
        if method in ("foreground", "clahe"):
            raise UsageError(
                f"intensity {method} is for imported networks; train with zscore or percentile"
            )
        self._check_axes()
        if self.tile is not None and self.depth is not None:
            for tile in self.tiles:
                check_tile(tile, self.depth)

    def _check_axes(self) -> None:
        """Refuse views and flips that are unknown, repeated or without a tile."""
        from voxtile.models.spec import Axis, View

        for name, chosen, known in (
            ("view", self.views or (), get_args(View)),
            ("flip", self.flips, get_args(Axis)),
        ):
            unknown = [value for value in chosen if value not in known]
            if unknown or len(set(chosen)) != len(chosen):
                raise UsageError(f"{name}s {chosen} must be some of {', '.join(known)}, each once")
        if self.views == ():
            raise UsageError("views is empty; name at least one view, or leave views out")
        if isinstance(self.tile, dict) and self.views is not None:
            missing = [view for view in self.views if view not in self.tile]
            if missing:
                raise UsageError(f"tile has no size for view {missing[0]}; give one for each view")

    @property
    def pixel_mm(self) -> tuple[float, float, float] | None:
        """The spacing that planes are resampled to; None for each scan's own."""
        return None if isinstance(self.spacing_mm, str) else self.spacing_mm

    @property
    def tiles(self) -> "tuple[Shape2D, ...]":
        """Every tile that is set."""
        if isinstance(self.tile, dict):
            return tuple(self.tile.values())
        return () if self.tile is None else (self.tile,)

    def tile_of(self, views: "Iterable[View]") -> "Shape2D":
        """Return the tile of a network of a settled recipe; it covers the tiles of its views."""
        if not isinstance(self.tile, dict):
            return settled(self.tile)
        sizes = [self.tile[view] for view in views]
        return max(rows for rows, _ in sizes), max(columns for _, columns in sizes)

    @property
    def scaling(self) -> "Intensity":
        """The intensity method of a settled recipe."""
        if self.intensity is None:
            raise ValueError(_OPEN)
        return self.intensity

    @property
    def kinds(self) -> "tuple[tuple[View, ...], ...]":
        """Views of each kind of network of a settled recipe."""
        views = settled(self.views)
        return (views,) if self.network == "shared" else tuple((view,) for view in views)

    @property
    def networks(self) -> "tuple[tuple[View, ...], ...]":
        """Views of each network of a settled recipe: all kinds, then all kinds again."""
        return self.kinds * (self.members or 1)


def settled(choice: Choice | None) -> Choice:
    """Return a choice of a settled recipe."""
    if choice is None:
        raise ValueError(_OPEN)
    return choice


def check_tile(tile: "Shape2D", depth: int) -> None:
    """Refuse a tile that the poolings cannot divide."""
    multiple = 2**depth
    if any(size < multiple or size % multiple for size in tile):
        raise UsageError(f"tile {tile} must be a multiple of {multiple} (2**depth, depth={depth})")
