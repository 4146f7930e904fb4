"""A bundle, an engine and a plan, ready to run: volume in, mask out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxtile.case import Case
from voxtile.engines import CALLABLE, Engine, Model, choose_engine, load_models
from voxtile.engines.fallback import Fallbacks, resilient
from voxtile.engines.function import function_bundle, function_models
from voxtile.errors import CaseError, Notice, UsageError, counted
from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec, View
from voxtile.models.thresholds import with_thresholds
from voxtile.preparation.plan import Plan, PlanWish, make_plan
from voxtile.reading.channels import read_channels
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Volume

from .entropy import EntropyWatch
from .infer import Member, Watch, deciding_view, infer_together

if TYPE_CHECKING:
    from .on_device import DeviceLine  # imports Keras


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Loaded networks and their plans."""

    members: tuple[Member, ...]  # one for each of ``bundle.members``
    scratch: Path | None = None  # folder for sums of views that do not fit into memory
    fallbacks: Fallbacks = field(default_factory=dict)
    line: "DeviceLine | None" = None  # everything between planes and label values, on a GPU

    def __call__(self, volume: Volume, watch: Watch = iter) -> Volume:
        """Return the label map of a volume, on its grid."""
        entropy = watch if isinstance(watch, EntropyWatch) else None
        # Any other watch needs the probabilities, so they must be copied to the processor's memory.
        if (
            self.line is not None
            and (watch is iter or entropy is not None)
            and self.line.takes(volume)
        ):
            mask = self.line(volume, entropy)
            if mask is not None:
                return mask
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
    on_device: bool | None = None,
) -> Segmenter:
    """Load a bundle's networks.

    There is one plan for each of ``bundle.members``. If `models` are given, one for each of the
    bundle's networks, they replace these. `on_device` says whether Keras does everything between
    planes and label values on the engine's device; by default only on a GPU.
    """
    if models is not None:
        (plan,) = plans
        return Segmenter((Member(bundle.spec, tuple(models), plan),), scratch)
    fallbacks: Fallbacks = {}
    members = []
    networks: list[Sequence[Model]] = []
    for one, plan in zip(bundle.members, plans, strict=True):
        loaded = load_models(one, engine)
        networks.append(loaded)
        members.append(Member(one.spec, resilient(loaded, one, engine, fallbacks), plan))
    line = None
    if engine.name == "keras" and engine.device != "cpu" if on_device is None else on_device:
        line = _device_line(members, networks, engine, fallbacks)
    return Segmenter(tuple(members), scratch, fallbacks, line)


def _device_line(
    members: Sequence[Member],
    networks: Sequence[Sequence[Model]],
    engine: Engine,
    fallbacks: Fallbacks,
) -> "DeviceLine | None":
    """Return what does everything on the device; None where a network needs to be adapted."""
    from voxtile.engines.device import Device
    from voxtile.engines.keras_engine import KerasNetwork

    from .on_device import DEVICE_MB, DeviceLine

    models = [
        [network.model for network in each if isinstance(network, KerasNetwork)]
        for each in networks
    ]
    if [len(each) for each in models] != [len(each) for each in networks]:
        return None
    planned = [member.plan.memory_mb for member in members if member.plan.memory_mb]
    return DeviceLine(
        members,
        models,
        Device(engine.device),
        precision=engine.precision,
        fallbacks=fallbacks,
        memory_mb=min([DEVICE_MB, *planned]),
    )


def make_plans(bundle: Bundle, wish: PlanWish, *, known: bool = True) -> tuple[Plan, ...]:
    """Return the plan of each member of a bundle.

    `known` says whether the bundle's own networks will run: only then may tiles depend on them.
    """
    return tuple(make_plan(one if known else one.spec, wish) for one in bundle.members)


def segment(
    volume: Volume | str | Path | Sequence[str | Path | None],
    bundle: Bundle | str | None = None,
    policy: ReadPolicy | None = None,
    *,
    network: Model | None = None,
    like: ModelSpec | Bundle | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Volume:
    """Segment one volume.

    Parameters
    ----------
    volume : Volume, path, or paths
        Shape (i, j, k), or (i, j, k, channels) if the bundle has several channels;
        or the scan's file or DICOM folder; or one for each channel, in the
        order of the bundle. None for a channel that is missing, if the bundle
        was trained with such cases.
    bundle : Bundle or str, optional
        A loaded bundle, or its name or folder. If there are several,
        separated by commas, their mean decides.
    policy : ReadPolicy, optional
        How paths are read where a scan leaves a choice.
    network : callable, optional
        Your own network instead of a bundle: a function from tiles, float32 of
        shape (n, rows, columns, channels), to predictions.
    like : ModelSpec, optional
        What `network` takes and gives.
    thresholds : mapping of str to float, optional
        Smallest probability of labels, by their names or values, instead of
        the model's.

    Returns
    -------
    Volume
        Label map on the grid of the scan: uint8, or uint16 if a label value
        needs it.

    Raises
    ------
    ModelError
        If the bundle is refused, or `network` fails on a trial tile.
    CaseError
        If the scan cannot be read, has other channels than the bundle, or the
        network gives NaN.

    Examples
    --------
    >>> from voxtile import segment, write_mask
    >>> write_mask("p001_mask.nii.gz", segment("p001.nii.gz", "hippocampus"))  # doctest: +SKIP
    """
    models = None
    if network is not None and like is not None and bundle is None:
        bundle = function_bundle(like)
        models, _ = function_models(network, bundle.spec)
    elif bundle is None or network is not None or like is not None:
        raise UsageError("segment needs either a model, or network and like together")
    elif not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    if not isinstance(volume, Volume):
        volume = _read(volume, bundle.spec, policy)
    engine = choose_engine(bundle) if models is None else CALLABLE
    plans = make_plans(bundle, PlanWish(), known=models is None)
    bundle = with_thresholds(bundle, thresholds or {})
    return load_segmenter(bundle, plans, engine, models=models)(volume)


def _read(
    paths: str | Path | Sequence[str | Path | None], spec: ModelSpec, policy: ReadPolicy | None
) -> Volume:
    """Read the channels of a scan, in the order of a bundle."""
    channels = spec.channels
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if len(several) != len(channels):
        raise CaseError(
            "missing_channel",
            f"the model needs {counted(len(channels), 'channel')} ({', '.join(channels)}), but "
            f"{counted(len(several), 'path')} came; give one path for each channel, in this order",
        )
    pairs = zip(channels, several, strict=True)
    images = tuple((channel, Path(path)) for channel, path in pairs if path is not None)
    if not images:
        raise CaseError("missing_channel", "all channels are None; give at least one path")
    case = Case("scan", images, channels=channels if None in several else ())
    return read_channels(case, channels, policy, spec.absent).volume
