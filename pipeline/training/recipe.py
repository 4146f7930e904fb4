"""A recipe: every choice of a training, and the rules that fill in what is left open."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, log2
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from voxtile.metrics import plain_labels
from voxtile.models.spec import Intensity, Label, View, ZScore
from voxtile.planes import in_plane, slice_axis
from voxtile.resampling import resampled_size
from voxtile.volume import Shape3D

from .augmentation import Augmentation

if TYPE_CHECKING:
    from voxtile.models.unet import Normalisation  # imports keras

Shape2D = tuple[int, int]
Axis = Literal["R", "A", "S"]
Choice = TypeVar("Choice")

_LARGEST_TILE = 256
# Pixels that poolings leave of a plane's shorter side: fewer and the bottom sees only padding.
_LEAST_BOTTOM = 5
# Pixels of a batch: 16 tiles of 48x64. On a CPU many small steps learn more in the same time than
# few large ones.
_BATCH_PIXELS = 16 * 48 * 64
_LEAST_BATCH = 4
_MOST_STEPS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained. None (or no labels) leaves a choice to the rules of `settle`.

    Parameters
    ----------
    minutes : float, optional
        Budget for fitting and validating, without reading the cases. 20
        unless `epochs` is given; not both.
    epochs : int, optional
        Budget in epochs instead, which repeats exactly on the same machine.
    seed : int
        Of the first weights and of every random choice.
    views : tuple of View, optional
        Several views train one network that serves each of them.
    context_slices : int
        Planes that the network sees at once; odd.
    spacing_mm : (R, A, S), optional
        Pixel spacing to bring planes to; None keeps each scan's own.
    intensity : Intensity
    tile : (rows, columns), optional
        In pixels, a multiple of ``2**depth``.
    overlap : float
        Least fraction of a tile that neighbours share when whole planes are
        judged.
    labels : tuple of Label
        Values, names and colours; empty takes the values of the training
        labels. Regions, or one label, give sigmoid outputs, else softmax.
    filters, depth, normalisation, dropout
        Of the U-Net, see `voxtile.models.unet.build_unet`.
    batch : int, optional
        Tiles in a step.
    steps_per_epoch : int, optional
    learning_rate, weight_decay : float
        Of AdamW; the rate is the peak of its schedule.
    ema : float
        Momentum of the running mean of the weights, which is what is
        validated and kept; 0 keeps the weights themselves.
    foreground : float
        Share of tiles that are centred on a label (nnU-Net takes a third).
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
    seed: int = 0
    views: tuple[View, ...] | None = None
    context_slices: int = 5
    spacing_mm: tuple[float, float, float] | None = None
    intensity: Intensity = field(default_factory=lambda: ZScore(clip=(0.5, 99.5)))
    tile: Shape2D | None = None
    overlap: float = 0.5
    labels: tuple[Label, ...] = ()
    filters: int = 32
    depth: int | None = None
    normalisation: "Normalisation" = "batch"
    dropout: float = 0.0
    batch: int | None = None
    steps_per_epoch: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ema: float = 0.99
    foreground: float = 1 / 3
    flips: tuple[Axis, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.minutes is not None and self.epochs is not None:
            raise ValueError("minutes and epochs are both budgets; give one of them")
        for name in ("minutes", "epochs", "depth", "batch", "steps_per_epoch", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, but must be more than 0")
        if self.context_slices < 1 or self.context_slices % 2 == 0:
            raise ValueError(
                f"context_slices {self.context_slices} must be odd: the judged plane is in the "
                "middle"
            )
        if not 0 <= self.ema < 1 or not 0 <= self.foreground <= 1 or self.weight_decay < 0:
            raise ValueError(
                f"ema {self.ema} must be in [0, 1), foreground {self.foreground} in [0, 1] and "
                f"weight_decay {self.weight_decay} not negative"
            )
        for name, chosen, known in (
            ("view", self.views or (), get_args(View)),
            ("flip", self.flips, get_args(Axis)),
        ):
            unknown = [value for value in chosen if value not in known]
            if unknown or len(set(chosen)) != len(chosen):
                raise ValueError(f"{name}s {chosen} must be some of {', '.join(known)}, each once")
        if self.views == ():
            raise ValueError("views is empty; name one, or None to have it chosen")
        if self.tile is not None and self.depth is not None:
            _check_tile(self.tile, self.depth)


@dataclass(frozen=True, slots=True)
class Extent:
    """Size of one training case, as the rules see it.

    Parameters
    ----------
    shape : (R, A, S)
        Voxels of the canonical volume.
    spacing_mm : (R, A, S)
    values : tuple of int
        Values other than 0 in its label.
    """

    shape: Shape3D
    spacing_mm: tuple[float, float, float]
    values: tuple[int, ...]


def settle(recipe: Recipe, cases: Sequence[Extent]) -> Recipe:
    """Return the recipe with nothing left open.

    - views: slices along the axis of the coarsest spacing (median over the
      cases; within a tenth counts as equal, then the axis with the fewest
      planes), so that a plane shows the finest detail.
    - depth: as many poolings as leave 5 pixels of the shorter side of the
      largest plane, at least 2 and at most 4.
    - tile: the largest plane of any case, rounded up to ``2**depth``, at most
      256 pixels a side; a tile that holds the whole plane needs no stitching.
    - batch: as many pixels as 16 tiles of 48x64, 4 to 64 tiles.
    - epoch: each plane of the training cases once, at most 250 steps.
    """
    views = recipe.views or (_finest_view(cases),)
    planes = [_plane(case, view, recipe) for case in cases for view in views]
    largest = max(rows for rows, _ in planes), max(columns for _, columns in planes)
    depth = recipe.depth
    if depth is None:
        shortest = min(min(largest), *(recipe.tile or largest))
        depth = min(4, max(2, floor(log2(max(shortest, _LEAST_BOTTOM) / _LEAST_BOTTOM))))
        if recipe.tile is not None:
            while depth > 1 and any(size % 2**depth for size in recipe.tile):
                depth -= 1
    multiple = 2**depth
    tile = recipe.tile
    if tile is None:
        cap = max(1, _LARGEST_TILE // multiple)
        rows, columns = (multiple * min(cap, ceil(size / multiple)) for size in largest)
        tile = rows, columns
    _check_tile(tile, depth)
    batch = recipe.batch or min(64, max(_LEAST_BATCH, _BATCH_PIXELS // (tile[0] * tile[1])))
    count = sum(case.shape[slice_axis(view)] for case in cases for view in views)
    return replace(
        recipe,
        minutes=20.0 if recipe.minutes is None and recipe.epochs is None else recipe.minutes,
        views=views,
        depth=depth,
        tile=tile,
        batch=batch,
        steps_per_epoch=recipe.steps_per_epoch or min(_MOST_STEPS, max(1, count // batch)),
        labels=recipe.labels or _found_labels(cases),
    )


def settled(choice: Choice | None) -> Choice:
    """Return a choice of a recipe that `settle` has filled in."""
    if choice is None:
        raise ValueError("the recipe leaves a choice open; pass it through settle first")
    return choice


def _check_tile(tile: Shape2D, depth: int) -> None:
    """Refuse a tile that the poolings do not divide."""
    multiple = 2**depth
    if any(size < multiple or size % multiple for size in tile):
        raise ValueError(f"tile {tile} must be a multiple of {multiple} (2**depth, depth={depth})")


def _finest_view(cases: Sequence[Extent]) -> View:
    """Return the view whose planes show the finest detail."""
    middle = len(cases) // 2
    spacing = [sorted(case.spacing_mm[axis] for case in cases)[middle] for axis in range(3)]
    planes = [sorted(case.shape[axis] for case in cases)[middle] for axis in range(3)]
    coarse = [axis for axis in range(3) if spacing[axis] * 1.1 >= max(spacing)]
    views: tuple[View, ...] = ("axial", "coronal", "sagittal")
    return min(
        (view for view in views if slice_axis(view) in coarse),
        key=lambda view: planes[slice_axis(view)],
    )


def _plane(case: Extent, view: View, recipe: Recipe) -> Shape2D:
    """Return the (rows, columns) of a case's planes, resampled where the recipe says so."""
    shape = case.shape
    if recipe.spacing_mm is not None:
        i, j, k = map(resampled_size, shape, case.spacing_mm, recipe.spacing_mm)
        shape = i, j, k
    rows, columns = in_plane(view, shape)
    return int(rows), int(columns)


def _found_labels(cases: Sequence[Extent]) -> tuple[Label, ...]:
    """Return a label for each value that occurs."""
    values = sorted({value for case in cases for value in case.values})
    return plain_labels({value: f"label {value}" for value in values})
