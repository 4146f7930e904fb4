"""From a volume to a mask, plane by plane, in bounded memory.

    volume -> canonical -> planes -> scaled, resampled, padded -> tiles -> [model]
                                                                             |
    mask  <-  labels  <-  resampled back, unpadded  <-  stitched planes  <---+

Classes compete inside one plane: its probabilities are blended, brought to
the native grid, turned into labels and forgotten, so memory does not grow
with classes x volume. Only several views must be summed over the volume.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from voxtile.engines import Model
from voxtile.errors import CaseError
from voxtile.models.spec import Background, ModelSpec, View
from voxtile.preparation.intensity import Scaling, measure
from voxtile.preparation.plan import Plan
from voxtile.preparation.planes import (
    from_planes,
    in_plane,
    in_plane_axes,
    neighbours,
    to_planes,
    with_context,
)
from voxtile.preparation.resampling import Resampler, resamplers
from voxtile.volume import Volume, canonical, canonical_axes

from .decision import decide, label_type
from .postprocess import clean
from .tiles import Panel, predict_planes
from .view_sums import Accumulator

# Sees the probabilities of every plane pass, native grid, before they are decided and forgotten.
Watch = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]

# Spacings closer than this are one: resampling by less would only blur.
_SAME_SPACING = 1e-3


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models whose mean is a mask; usually the only one.

    Parameters
    ----------
    spec : ModelSpec
    models : tuple of Model
        One for each of ``spec.networks``.
    plan : Plan
    """

    spec: ModelSpec
    models: tuple[Model, ...]
    plan: Plan


def infer(
    volume: Volume,
    spec: ModelSpec,
    models: Sequence[Model],
    plan: Plan,
    watch: Watch = iter,
) -> Volume:
    """Segment one volume with models that are already loaded.

    Parameters
    ----------
    volume : Volume
        Finite voxels, shape (i, j, k) or (i, j, k, channels).
    spec : ModelSpec
    models : sequence of Model
        One for each of ``spec.networks``.
    plan : Plan
    watch : callable, optional
        Takes the planes' probabilities and yields them unchanged, such as a
        `voxtile.inference.entropy.EntropyWatch`.

    Returns
    -------
    Volume
        Label map on the grid of `volume`.

    Raises
    ------
    CaseError
        If the channels are not the spec's, or a model gives NaN.
    """
    return infer_together(volume, [Member(spec, tuple(models), plan)], watch)


def infer_together(
    volume: Volume,
    members: Sequence[Member],
    watch: Watch = iter,
    scratch: Path | None = None,
) -> Volume:
    """Segment one volume with several models at once: the mean of what they say decides.

    Parameters
    ----------
    volume : Volume
    members : sequence of Member
        They judge the same channels and give the same labels, as
        `voxtile.models.bundle.load_bundle` sees to; each scales, resamples
        and slices in its own way.
    watch : callable, optional
        As in `infer`.
    scratch : Path, optional
        Folder for what does not fit into memory, where views differ.

    Returns
    -------
    Volume
        Label map on the grid of `volume`.

    Raises
    ------
    CaseError
        If the channels are not the specs', or a model gives NaN.
    """
    spec, plan = members[0].spec, members[0].plan
    ras = canonical(volume)
    array = channels_of(ras, spec)
    labels = np.zeros(volume.shape, label_type(spec), order="F")
    # A view with the canonical axes: what is written through it lands in storage order.
    target = canonical_axes(volume.affine).apply(labels)
    views = views_of(members)
    view = deciding_view(members)
    passes = {view: [member for member in members if view in member.spec.views] for view in views}

    def blended(view: View, whole: float) -> Iterator[np.ndarray]:
        """Yield the mean of the members that have a view, by their shares of `whole`."""
        judging = passes[view]
        streams = [_probabilities(ras, array, view, member, pool) for member in judging]
        shares = [share_of(member.spec, view) / len(members) / whole for member in judging]
        return _mean(streams, shares)

    # One thread for all networks: none computes while another does.
    with ThreadPoolExecutor(1, thread_name_prefix="networks") as pool:
        if len(views) == 1:
            planes = blended(view, 1.0)
        else:
            total = Accumulator(
                ras.shape, spec.output_channels, room_mb=plan.room_mb(), scratch=scratch
            )
            for one in views:
                whole = sum(share_of(member.spec, one) for member in passes[one]) / len(members)
                total.add(one, whole, blended(one, whole))
            planes = total.planes()
        from_planes(map(partial(decide, spec=spec), watch(planes)), view, target)
    return clean(volume.with_array(labels), spec)


def channels_of(ras: Volume, spec: ModelSpec) -> np.ndarray:
    """Return a volume's array with an axis for channels.

    Raises
    ------
    CaseError
        If they are not the spec's.
    """
    array: np.ndarray = ras.array if ras.array.ndim == 4 else ras.array[..., np.newaxis]
    if array.shape[3] != len(spec.channels):
        raise CaseError(
            "channels",
            f"the scan has {array.shape[3]} channels, but the model needs {len(spec.channels)} "
            f"({', '.join(spec.channels)})",
        )
    return array


def views_of(members: Sequence[Member]) -> tuple[View, ...]:
    """Return the views that any member has, each once, in order."""
    return tuple(dict.fromkeys(view for member in members for view in member.spec.views))


def deciding_view(members: Sequence[Member]) -> View:
    """Return the view whose planes are decided: the only one, or of several the axial one."""
    views = views_of(members)
    return views[0] if len(views) == 1 else "axial"


def share_of(spec: ModelSpec, view: View) -> float:
    """Return how much of a model's answer comes from one of its views."""
    weights = sum(network.weight for network in spec.networks for _ in network.views)
    return sum(network.weight for network in spec.networks if view in network.views) / weights


def _mean(streams: Sequence[Iterator[np.ndarray]], shares: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield the weighted mean of planes that come from several models."""
    if len(streams) == 1:
        yield from streams[0]
        return
    for planes in zip(*streams, strict=True):
        mean = planes[0] * np.float32(shares[0])
        for plane, share in zip(planes[1:], shares[1:], strict=True):
            mean += plane * np.float32(share)
        yield mean


def _probabilities(
    ras: Volume, array: np.ndarray, view: View, member: Member, pool: Executor
) -> Iterator[np.ndarray]:
    """Return the probabilities of each plane of a view, on the native grid of the plane."""
    spec, plan = member.spec, member.plan
    scalings = [measure(array[..., index], spec.intensity) for index in range(array.shape[3])]
    planes = to_planes(array, view)
    shape = planes.shape[1], planes.shape[2]
    there, back = resampling(ras, view, shape, spec)
    panel = Panel(
        networks=tuple(
            (model, network.weight)
            for model, network in zip(member.models, spec.networks, strict=True)
            if view in network.views
        ),
        classes=spec.output_channels,
        flips=tuple(axis for axis, name in enumerate(in_plane_axes(view)) if name in plan.flips),
        empty=(1.0,) + (0.0,) * len(spec.labels)
        if spec.activation == "softmax"
        else (0.0,) * len(spec.labels),
    )
    size = shape if there is None else there.shape
    occupied = None
    if spec.background is not None:
        occupied = occupied_planes(planes, spec.background, there, spec.context_slices)
    judged = predict_planes(
        prepare_planes(planes, scalings, there, spec.context_slices),
        size,
        plan.for_view(view).for_plane(size),
        panel,
        occupied,
        pool,
    )
    return judged if back is None else map(back.apply, judged)


def prepare_planes(
    planes: np.ndarray,
    scalings: Sequence[Scaling],
    resampler: Resampler | None,
    context_slices: int,
) -> Iterator[np.ndarray]:
    """Yield each plane as a network sees it: scaled, resampled, with its neighbours as channels.

    Parameters
    ----------
    planes : ndarray, shape (planes, rows, columns, channels)
    scalings : sequence of Scaling
        One a channel.
    resampler : Resampler or None
    context_slices : int

    Yields
    ------
    ndarray of float32, shape (rows, columns, channels * context_slices)
    """
    recent: dict[int, np.ndarray] = {}
    for index in range(len(planes)):
        wanted = neighbours(index, len(planes), context_slices)
        # Each plane is prepared once and kept only while a neighbour needs it.
        recent = {
            other: recent[other]
            if other in recent
            else _prepare(planes[other], scalings, resampler)
            for other in wanted
        }
        yield with_context([recent[other] for other in wanted])


def _prepare(
    plane: np.ndarray, scalings: Sequence[Scaling], resampler: Resampler | None
) -> np.ndarray:
    """Return one plane scaled and resampled, float32, shape (rows, columns, channels)."""
    scaled = np.stack(
        [scaling.apply(plane[..., index]) for index, scaling in enumerate(scalings)], axis=-1
    )
    return scaled if resampler is None else resampler.apply(scaled)


def resampling(
    ras: Volume, view: View, shape: tuple[int, int], spec: ModelSpec
) -> tuple[Resampler, Resampler] | tuple[None, None]:
    """Return the way to the spec's in-plane spacing and back; None where the scan has it.

    Parameters
    ----------
    ras : Volume
        Closest-canonical.
    view : View
    shape : (rows, columns)
        Of its planes.
    spec : ModelSpec
    """
    wants = new_spacing(view, ras.spacing_mm, spec)
    if wants is None:
        return None, None
    return resamplers(shape, in_plane(view, ras.spacing_mm), wants)


def new_spacing(
    view: View, spacing_mm: tuple[float, float, float], spec: ModelSpec
) -> tuple[float, float] | None:
    """Return the spacing (rows, columns) that planes are brought to; None where they have it.

    Parameters
    ----------
    view : View
    spacing_mm : (R, A, S)
        Of the canonical volume.
    spec : ModelSpec
    """
    if spec.spacing_mm is None:
        return None
    wants = in_plane(view, spec.spacing_mm)
    if np.allclose(in_plane(view, spacing_mm), wants, rtol=_SAME_SPACING):
        return None
    return wants


def occupied_planes(
    planes: np.ndarray,
    background: Background,
    resampler: Resampler | None,
    context_slices: int,
) -> Iterator[np.ndarray]:
    """Yield where each plane, or a neighbour that is seen with it, has more than background.

    Parameters
    ----------
    planes : ndarray, shape (planes, rows, columns, channels)
        As scanned.
    background : Background
    resampler : Resampler or None
    context_slices : int

    Yields
    ------
    ndarray of bool, shape (rows, columns)
    """
    for index in range(len(planes)):
        nearby = sorted(set(neighbours(index, len(planes), context_slices)))
        busy = np.any(planes[nearby] > background.at_most, axis=(0, 3))
        if resampler is not None:
            busy = resampler.apply(busy[..., np.newaxis].astype(np.float32))[..., 0] > 0
        yield busy
