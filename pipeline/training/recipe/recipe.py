"""A recipe: every choice of a training. `rules` fills in what is left open."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from voxtile.models.spec import Axis, Intensity, Label, Normalisation, View
from voxtile.training.fitting.augmentation import Augmentation
from voxtile.volume import Shape2D

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Choice = TypeVar("Choice")

_OPEN = "the recipe leaves a choice open; pass it through settle first"

BUDGETS = ("minutes", "epochs", "steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How networks are trained. None leaves a choice to the rules (``docs/training.md``).

    Parameters
    ----------
    minutes : float, optional
        Budget for fitting and validating all networks, without reading the
        cases; each network gets the same part. 18 unless another is given.
    epochs : int, optional
        Budget of each network in epochs instead, which repeats exactly on the
        same machine.
    steps : int, optional
        Budget of each network in steps instead.
    patience : int, optional
        Validations in a row without a better score after which a network is
        done before its budget is. None never stops early.
    seed : int
        Of the first weights and of every random choice.
    views : tuple of View, optional
    network : {"per_view", "shared"}, optional
        Whether each view has a network of its own, or one serves all.
    members : int, optional
        Networks of each kind, alike but for their first weights and their
        batches; what they say is averaged (Lakshminarayanan et al. 2017,
        "Simple and Scalable Predictive Uncertainty Estimation using Deep
        Ensembles").
    context_slices : int, optional
        Planes that a network sees at once; odd.
    spacing_mm : (R, A, S) or "native", optional
        Pixel spacing to bring planes to; "native" keeps each scan's own.
    intensity : Intensity, optional
    tile : (rows, columns) or mapping of View to (rows, columns), optional
        In pixels, a multiple of ``2**depth``; one for all, or each view's own.
    overlap : float
        Least fraction of a tile that neighbours share when whole planes are
        judged.
    labels : tuple of Label
        Values, names and colours; empty takes the values of the training
        labels. Regions, or one label, give sigmoid outputs, else softmax.
    filters, depth, normalisation, dropout
        Of the U-Net, see `voxtile.models.unet.build_unet`.
    precision : {"float32", "mixed_bfloat16", "mixed_float16"}, optional
        Of the fit's arithmetic; weights are kept in float32. None measures
        at the start and keeps the faster.
    batch : int, optional
        Tiles in a step.
    steps_per_epoch : int, optional
    learning_rate : float, optional
        Of AdamW, the peak of its schedule.
    weight_decay : float
        Of AdamW.
    ema : float
        Momentum of the running mean of the weights, which is what is
        validated and kept; 0 keeps the weights themselves.
    foreground : float, optional
        Share of tiles that are centred on a label.
    class_weights : tuple of float
        What a pixel of each output counts in the cross-entropy (softmax:
        background first); empty counts all alike. The Dice part counts every
        label alike in any case.
    flips : tuple of {"R", "A", "S"}
        World axes that may be mirrored in training. None by default: the left
        and the right of a body differ, and labels may say which is which.
    augmentation : Augmentation

    Raises
    ------
    ValueError
        If two choices contradict each other or a number is out of range.
    """

    minutes: float | None = None
    epochs: int | None = None
    steps: int | None = None
    patience: int | None = None
    seed: int = 0
    views: tuple[View, ...] | None = None
    network: Literal["per_view", "shared"] | None = None
    members: int | None = None
    context_slices: int | None = None
    spacing_mm: tuple[float, float, float] | Literal["native"] | None = None
    intensity: Intensity | None = None
    tile: Shape2D | dict[View, Shape2D] | None = None
    overlap: float = 0.5
    labels: tuple[Label, ...] = ()
    filters: int | None = None
    depth: int | None = None
    normalisation: Normalisation = "batch"
    dropout: float = 0.0
    precision: Precision | None = None
    batch: int | None = None
    steps_per_epoch: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    ema: float = 0.99
    foreground: float | None = None
    class_weights: tuple[float, ...] = ()
    flips: tuple[Axis, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        budgets = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise ValueError(f"{' and '.join(budgets)} are all budgets; give one of them")
        for name in (
            *BUDGETS,
            "patience",
            "members",
            "filters",
            "depth",
            "batch",
            "steps_per_epoch",
            "learning_rate",
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, but must be more than 0")
        if self.context_slices is not None and self.context_slices % 2 != 1:
            raise ValueError(
                f"context_slices {self.context_slices} must be odd: the judged plane is in the "
                "middle"
            )
        foreground = 0.0 if self.foreground is None else self.foreground
        if not 0 <= self.ema < 1 or not 0 <= foreground <= 1 or self.weight_decay < 0:
            raise ValueError(
                f"ema {self.ema} must be in [0, 1), foreground {self.foreground} in [0, 1] and "
                f"weight_decay {self.weight_decay} not negative"
            )
        if any(not 0 <= weight < float("inf") for weight in self.class_weights):
            raise ValueError(f"class_weights {self.class_weights} must not be negative")
        if isinstance(self.spacing_mm, tuple) and min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm {self.spacing_mm} must be more than 0")
        for name, chosen, known in (
            ("view", self.views or (), get_args(View)),
            ("flip", self.flips, get_args(Axis)),
        ):
            unknown = [value for value in chosen if value not in known]
            if unknown or len(set(chosen)) != len(chosen):
                raise ValueError(f"{name}s {chosen} must be some of {', '.join(known)}, each once")
        if self.views == ():
            raise ValueError("views is empty; name one, or None to have it chosen")
        if isinstance(self.tile, dict) and self.views is not None:
            missing = [view for view in self.views if view not in self.tile]
            if missing:
                raise ValueError(f"tile has no size for view {missing[0]}; give each view one")
        if self.tile is not None and self.depth is not None:
            for tile in self.tiles:
                check_tile(tile, self.depth)

    @property
    def pixel_mm(self) -> tuple[float, float, float] | None:
        """The spacing that planes are brought to; None for each scan's own."""
        return None if isinstance(self.spacing_mm, str) else self.spacing_mm

    @property
    def tiles(self) -> tuple[Shape2D, ...]:
        """Every tile that is set."""
        if isinstance(self.tile, dict):
            return tuple(self.tile.values())
        return () if self.tile is None else (self.tile,)

    def tile_of(self, views: Iterable[View]) -> Shape2D:
        """Return the tile of a network of a settled recipe: it holds those of its views."""
        if not isinstance(self.tile, dict):
            return settled(self.tile)
        sizes = [self.tile[view] for view in views]
        return max(rows for rows, _ in sizes), max(columns for _, columns in sizes)

    @property
    def scaling(self) -> Intensity:
        """The intensity method of a settled recipe."""
        if self.intensity is None:
            raise ValueError(_OPEN)
        return self.intensity

    @property
    def kinds(self) -> tuple[tuple[View, ...], ...]:
        """Views of each kind of network of a settled recipe."""
        views = settled(self.views)
        return (views,) if self.network == "shared" else tuple((view,) for view in views)

    @property
    def networks(self) -> tuple[tuple[View, ...], ...]:
        """Views of each network of a settled recipe: one of each kind, then the next of each."""
        return self.kinds * (self.members or 1)


def settled(choice: Choice | None) -> Choice:
    """Return a choice of a recipe that the rules have filled in."""
    if choice is None:
        raise ValueError(_OPEN)
    return choice


def check_tile(tile: Shape2D, depth: int) -> None:
    """Refuse a tile that the poolings do not divide."""
    multiple = 2**depth
    if any(size < multiple or size % multiple for size in tile):
        raise ValueError(f"tile {tile} must be a multiple of {multiple} (2**depth, depth={depth})")
