"""From a volume to a mask, plane by plane, in bounded memory.

    volume -> canonical -> planes -> scaled, resampled, padded -> tiles -> [model]
                                                                             |
    mask  <-  labels  <-  resampled back, unpadded  <-  stitched planes  <---+

Classes compete inside one plane: its probabilities are blended, brought to
the native grid, turned into labels and forgotten, so memory does not grow
with classes x volume. Only several views need sums over the whole volume.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from voxtile.engines import Model
from voxtile.engines.fitting import activated
from voxtile.label_values import label_type
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.intensity import scaled_planes
from voxtile.preparation.plan import Plan
from voxtile.preparation.planes import from_planes, in_plane_axes
from voxtile.preparation.prepared import occupied_planes, prepare_planes, resampling
from voxtile.volume import Volume

from .decision import decide
from .postprocess import clean
from .seen import see
from .tiles import Panel, predict_planes
from .view_sums import Accumulator

# Gets the probabilities of every plane, on the native grid, before they become labels.
Watch = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]


# A logit that is as good as certain: its probability differs from 1 by 1e-13.
SURE = 30.0


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models whose mean decides a mask; usually there is only one."""

    spec: ModelSpec
    models: tuple[Model, ...]  # one for each of ``spec.networks``
    plan: Plan

    def share(self, view: View) -> float:
        """Return the weight of one of its views in its answer, 0 to 1."""
        networks = self.spec.networks
        weights = sum(network.weight for network in networks for _ in network.views)
        return sum(network.weight for network in networks if view in network.views) / weights


def infer(
    volume: Volume, spec: ModelSpec, models: Sequence[Model], plan: Plan, watch: Watch = iter
) -> Volume:
    """Segment one volume with a single member, as `infer_together` does."""
    return infer_together(volume, [Member(spec, tuple(models), plan)], watch)


def infer_together(
    volume: Volume, members: Sequence[Member], watch: Watch = iter, scratch: Path | None = None
) -> Volume:
    """Segment one volume with several models at once: the mean of their probabilities decides.

    The volume has finite voxels, (i, j, k) or (i, j, k, channels); the label map is on its grid.
    Members take the same channels and give the same labels, as `voxtile.models.bundle.load_bundle`
    checks; each scales, resamples and slices in its own way. `watch` takes the planes'
    probabilities and yields them unchanged, such as a `voxtile.inference.entropy.EntropyWatch`.
    Sums of views that do not fit into memory are stored in `scratch`.
    """
    spec = members[0].spec
    seen = see(volume, spec)
    kind = label_type(label.value for label in spec.labels)
    labels = np.zeros(volume.shape, kind, order="F")
    # This array has the axes of the networks, but what is written to it is in storage order.
    target, view = seen.axes.apply(labels), deciding_view(members)
    # There is one thread for all networks, so that they never compute at the same time.
    with ThreadPoolExecutor(1, thread_name_prefix="networks") as pool:
        blended = _blended_planes(seen.volume, members, scratch, pool)
        planes = seen.placed(blended, view, empty_answer(spec))
        from_planes(map(partial(decide, spec=spec), watch(planes)), view, target)
    return clean(volume.with_array(labels), spec)


def empty_answer(spec: ModelSpec, sure: float = 1.0) -> tuple[float, ...]:
    """Return the prediction for background: `sure` for background, `1 - sure` for each label."""
    return (sure,) * (spec.activation == "softmax") + (1 - sure,) * len(spec.labels)


def views_of(members: Sequence[Member]) -> tuple[View, ...]:
    """Return the views that any member has, each once, in order."""
    return tuple(dict.fromkeys(view for member in members for view in member.spec.views))


def deciding_view(members: Sequence[Member]) -> View:
    """Return the view in whose planes labels are chosen: the only one, or axial of several."""
    views = views_of(members)
    return views[0] if len(views) == 1 else "axial"


def _blended_planes(
    ras: Volume, members: Sequence[Member], scratch: Path | None, pool: Executor
) -> Iterator[np.ndarray]:
    """Return mean probabilities of all members and views, plane by plane of the deciding view."""

    def blended(view: View) -> tuple[float, Iterator[np.ndarray]]:
        """Return the share of a view, and the mean of the members that have it."""
        judging = [member for member in members if view in member.spec.views]
        whole = sum(member.share(view) for member in judging) / len(members)
        streams = [view_probabilities(ras, view, member, pool=pool) for member in judging]
        # A single view has a weight of exactly 1.
        parts = whole if len(views) > 1 else 1.0
        return whole, _mean(
            streams, [member.share(view) / len(members) / parts for member in judging]
        )

    views = views_of(members)
    if len(views) == 1:
        return blended(views[0])[1]
    spec, plan = members[0].spec, members[0].plan
    total = Accumulator(ras.shape, spec.output_channels, room_mb=plan.room_mb(), scratch=scratch)
    for view in views:
        total.add(view, *blended(view))
    return total.planes()


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


def view_probabilities(
    ras: Volume,
    view: View,
    member: Member,
    *,
    indices: Sequence[int] | None = None,
    pool: Executor | None = None,
) -> Iterator[np.ndarray]:
    """Return the probabilities of a view's planes, float32, (rows, columns, classes), as scanned.

    `ras` is what `voxtile.inference.seen.see` returns, (R, A, S, channels). If `indices` is given,
    only its planes are judged. A pool of one thread judges tiles ahead.
    """
    spec, plan, array = member.spec, member.plan, ras.array
    planes, scalings = scaled_planes(array, view, spec)
    shape = planes.shape[1], planes.shape[2]
    there, back = resampling(ras, view, shape, spec)
    logits = spec.average == "logits"
    panel = Panel(
        networks=tuple(
            (model, network.weight)
            for model, network in zip(member.models, spec.networks, strict=True)
            if view in network.views
        ),
        classes=spec.output_channels,
        flips=tuple(axis for axis, name in enumerate(in_plane_axes(view)) if name in plan.flips),
        empty=empty_answer(spec, SURE if logits else 1.0),
        logits=logits,
    )
    size = shape if there is None else there.shape
    occupied = None
    if spec.background is not None:
        occupied = occupied_planes(planes, spec.background, there, spec.context_slices, indices)
    judged = predict_planes(
        prepare_planes(
            planes, scalings, there, spec.context_slices, indices, position=spec.position
        ),
        size,
        plan.for_view(view).for_plane(size),
        panel,
        occupied,
        pool,
    )
    found = judged if back is None else map(back.apply, judged)
    return map(partial(activated, activation=spec.activation), found) if logits else found
