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
    """Networks that are loaded, and how they are used.

    Parameters
    ----------
    members : tuple of Member
        One for each of ``bundle.members``.
    scratch : Path or None
        Folder for what does not fit into memory.
    fallbacks : Fallbacks
        Where memory ran out, and what was done.
    """

    members: tuple[Member, ...]
    scratch: Path | None = None
    fallbacks: Fallbacks = field(default_factory=Fallbacks)

    def __call__(self, volume: Volume, watch: Watch = iter) -> Volume:
        """Return the label map of a volume, on its grid."""
        return infer_together(volume, self.members, watch, self.scratch)

    @property
    def view(self) -> View:
        """The view of the planes that a watch sees."""
        return deciding_view(self.members)

    def notices(self) -> tuple[Notice, ...]:
        """Return what the last volumes' reports must say; each only once."""
        return self.fallbacks.taken()


def load_segmenter(
    bundle: Bundle,
    plans: Sequence[Plan],
    engine: Engine,
    *,
    models: Sequence[Model] | None = None,
    scratch: Path | None = None,
) -> Segmenter:
    """Load a bundle's networks.

    Parameters
    ----------
    bundle : Bundle
    plans : sequence of Plan
        One for each of ``bundle.members``.
    engine : Engine
    models : sequence of callables, optional
        To run instead of the bundle's networks, one for each.
    scratch : Path, optional

    Raises
    ------
    ModelError
        If a network cannot be built or does not fit its spec.
    EnvironmentFault
        If the engine or the device is not there.
    """
    fallbacks = Fallbacks()
    if models is not None:
        (plan,) = plans
        return Segmenter((Member(bundle.spec, tuple(models), plan),), scratch, fallbacks)
    members = []
    for one, plan in zip(bundle.members, plans, strict=True):
        loaded = resilient(load_models(one, engine), one, engine, fallbacks)
        members.append(Member(one.spec, loaded, plan))
    return Segmenter(tuple(members), scratch, fallbacks)


def make_plans(bundle: Bundle, wish: PlanWish, *, known: bool = True) -> tuple[Plan, ...]:
    """Return the plan of each member of a bundle.

    Parameters
    ----------
    bundle : Bundle
    wish : PlanWish
    known : bool
        Whether its networks are what will run: only then may tiles follow from them.

    Raises
    ------
    ValueError
        If a network cannot take such tiles.
    """
    return tuple(make_plan(one if known else one.spec, wish) for one in bundle.members)


def segment(volume: Volume, bundle: Bundle | str) -> Volume:
    """Segment one volume.

    Parameters
    ----------
    volume : Volume
        Shape (i, j, k), or (i, j, k, channels) where the bundle has several.
    bundle : Bundle or str
        A loaded bundle, or its name or folder; several, with commas between,
        decide together.

    Returns
    -------
    Volume
        Label map on the grid of `volume`: uint8, or uint16 where a label
        value needs it.

    Raises
    ------
    ModelError
        If the bundle is refused.
    CaseError
        If the volume does not suit it.

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
