"""A bundle, an engine and a plan, ready to run: volume in, mask out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxtile.engines import Engine, Model, choose_engine, load_models
from voxtile.engines.fallback import Fallbacks, resilient
from voxtile.errors import Notice
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import View
from voxtile.preparation.plan import Plan, PlanWish, make_plan
from voxtile.volume import Volume

from .infer import Member, Watch, deciding_view, infer_together


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Loaded networks and their plans."""

    members: tuple[Member, ...]  # one for each of ``bundle.members``
    scratch: Path | None = None  # folder for sums of views that do not fit into memory
    fallbacks: Fallbacks = field(default_factory=dict)

    def __call__(self, volume: Volume, watch: Watch = iter) -> Volume:
        """Return the label map of a volume, on its grid."""
        return infer_together(volume, self.members, watch, self.scratch)

    @property
    def view(self) -> View:
        """The view of the planes that a watch gets."""
        return deciding_view(self.members)

    def notices(self) -> tuple[Notice, ...]:
        """Return what was done when memory ran out for the last volume; each notice only once."""
        notices = tuple(self.fallbacks.values())
        self.fallbacks.clear()
        return notices


def load_segmenter(
    bundle: Bundle,
    plans: Sequence[Plan],
    engine: Engine,
    *,
    models: Sequence[Model] | None = None,
    scratch: Path | None = None,
) -> Segmenter:
    """Load a bundle's networks.

    There is one plan for each of ``bundle.members``; `models`, one for each of the bundle's
    networks, run instead of it.
    """
    if models is not None:
        (plan,) = plans
        return Segmenter((Member(bundle.spec, tuple(models), plan),), scratch)
    fallbacks: Fallbacks = {}
    members = []
    for one, plan in zip(bundle.members, plans, strict=True):
        loaded = resilient(load_models(one, engine), one, engine, fallbacks)
        members.append(Member(one.spec, loaded, plan))
    return Segmenter(tuple(members), scratch, fallbacks)


def make_plans(bundle: Bundle, wish: PlanWish, *, known: bool = True) -> tuple[Plan, ...]:
    """Return the plan of each member of a bundle.

    `known` says whether the bundle's own networks will run: only then may tiles follow from them.
    """
    return tuple(make_plan(one if known else one.spec, wish) for one in bundle.members)


def segment(volume: Volume, bundle: Bundle | str) -> Volume:
    """Segment one volume.

    Parameters
    ----------
    volume : Volume
        Shape (i, j, k), or (i, j, k, channels) if the bundle has several channels.
    bundle : Bundle or str
        A loaded bundle, or its name or folder; the mean of several, with
        commas between, decides.

    Returns
    -------
    Volume
        Label map on the grid of `volume`: uint8, or uint16 if a label value
        needs it.

    Raises
    ------
    ModelError
        If the bundle is refused.
    CaseError
        If the volume has other channels than the bundle, or the network
        gives NaN.

    Examples
    --------
    >>> from voxtile import read_volume, segment, write_mask
    >>> scan = read_volume("p001.nii.gz")                       # doctest: +SKIP
    >>> write_mask("p001_mask.nii.gz", segment(scan, "hippocampus"))  # doctest: +SKIP
    """
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    engine = choose_engine(bundle)
    return load_segmenter(bundle, make_plans(bundle, PlanWish()), engine)(volume)
