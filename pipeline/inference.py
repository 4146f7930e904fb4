"""From a volume to a mask, plane by plane, in bounded memory.

    volume -> canonical -> planes -> scaled, resampled, padded -> tiles -> [model]
                                                                             |
    mask  <-  labels  <-  resampled back, unpadded  <-  stitched planes  <---+

Classes compete inside one plane: its probabilities are blended, brought to
the native grid, turned into labels and forgotten, so memory does not grow
with classes x volume. Only several views must be summed over the volume.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from voxtile.models.bundle import Bundle, load_bundle
from voxtile.models.spec import ModelSpec, View

from .engine import Model, load_models
from .errors import CaseError
from .intensity import Scaling, measure
from .plan import Plan, make_plan
from .planes import from_planes, in_plane, neighbours, to_planes, with_context
from .resampling import Resampler, resamplers
from .tiling import Padding, TileGrid, cut, stitch, tile_weight
from .volume import Volume, canonical, canonical_axes

# Sees the probabilities of every plane pass, native grid, before they are decided and forgotten.
Watch = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]

# Spacings closer than this are one: resampling by less would only blur.
_SAME_SPACING = 1e-3


def segment(volume: Volume, bundle: Bundle | str) -> Volume:
    """Segment one volume.

    Parameters
    ----------
    volume : Volume
        Shape (i, j, k), or (i, j, k, channels) where the bundle has several.
    bundle : Bundle or str
        A loaded bundle, or its name or folder.

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
    plan = make_plan(bundle.spec)
    return infer(volume, bundle.spec, load_models(bundle, plan), plan)


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
        `voxtile.confidence.EntropyWatch`.

    Returns
    -------
    Volume
        Label map on the grid of `volume`.

    Raises
    ------
    CaseError
        If the channels are not the spec's, or a model gives NaN.
    """
    ras = canonical(volume)
    array = ras.array if ras.array.ndim == 4 else ras.array[..., np.newaxis]
    if array.shape[3] != len(spec.channels):
        raise CaseError(
            "channels",
            f"the scan has {array.shape[3]} channels, but the model needs {len(spec.channels)} "
            f"({', '.join(spec.channels)})",
        )
    scalings = [measure(array[..., index], spec.intensity) for index in range(array.shape[3])]

    labels = np.zeros(volume.shape, label_type(spec), order="F")
    # A view with the canonical axes: what is written through it lands in storage order.
    target = canonical_axes(volume.affine).apply(labels)
    views = spec.views
    if len(views) == 1:
        planes = _probabilities(ras, array, views[0], spec, scalings, models, plan)
        from_planes((decide(plane, spec) for plane in watch(planes)), views[0], target)
        return volume.with_array(labels)

    total = np.zeros((*ras.shape, spec.output_channels), np.float32)
    weights = sum(network.weight for network in spec.networks for _ in network.views)
    for view in views:
        share = sum(network.weight for network in spec.networks if view in network.views) / weights
        planes = _probabilities(ras, array, view, spec, scalings, models, plan)
        for sums, plane in zip(to_planes(total, view), planes, strict=True):
            sums += share * plane
    blended = watch(iter(to_planes(total, "axial")))
    from_planes((decide(plane, spec) for plane in blended), "axial", target)
    return volume.with_array(labels)


def label_type(spec: ModelSpec) -> type[np.unsignedinteger]:
    """Return the smallest type that holds every label value."""
    return np.uint8 if max(label.value for label in spec.labels) <= 255 else np.uint16


def decide(probabilities: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Turn the probabilities of a plane into label values.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (rows, columns, classes)
    spec : ModelSpec

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns)
        Softmax: the value of the largest (background wins a tie). Sigmoid:
        each label at or above its threshold, written in the spec's order.
    """
    kind = label_type(spec)
    if spec.activation == "softmax":
        values = np.array([0, *(label.value for label in spec.labels)], kind)
        chosen: np.ndarray = values[probabilities.argmax(axis=-1)]
        return chosen
    plane = np.zeros(probabilities.shape[:2], kind)
    thresholds = spec.thresholds or (0.5,) * len(spec.labels)
    for index, (label, threshold) in enumerate(zip(spec.labels, thresholds, strict=True)):
        plane[probabilities[..., index] >= threshold] = label.value
    return plane


def _probabilities(
    ras: Volume,
    array: np.ndarray,
    view: View,
    spec: ModelSpec,
    scalings: Sequence[Scaling],
    models: Sequence[Model],
    plan: Plan,
) -> Iterator[np.ndarray]:
    """Yield the probabilities of each plane of a view, on the native grid of the plane."""
    planes = to_planes(array, view)
    shape = planes.shape[1], planes.shape[2]
    there, back = _resampling(ras, view, shape, spec)
    size = shape if there is None else there.shape
    padding = Padding(size, plan.tile)
    grid = TileGrid(padding.padded, plan.tile, plan.overlap)
    weight = tile_weight(plan.tile, plan.weighting)
    serving = [
        (model, network.weight)
        for model, network in zip(models, spec.networks, strict=True)
        if view in network.views
    ]

    prepared = prepare_planes(planes, scalings, there, spec.context_slices)
    tiles = (tile for plane in prepared for tile in cut(padding.apply(plane), grid))
    predictions = _predict(tiles, serving, plan.batch, spec.output_channels)
    for _ in range(len(planes)):
        plane = padding.undo(stitch(islice(predictions, len(grid)), grid, weight))
        if not np.isfinite(plane).all():
            raise CaseError(
                "not_finite_output",
                "the network gave NaN or infinite probabilities for this scan; "
                "check its intensities against those of the training cases",
            )
        yield plane if back is None else back.apply(plane)


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


def _resampling(
    ras: Volume, view: View, shape: tuple[int, int], spec: ModelSpec
) -> tuple[Resampler, Resampler] | tuple[None, None]:
    """Return the way to the spec's in-plane spacing and back; None where the scan has it."""
    if spec.spacing_mm is None:
        return None, None
    has = in_plane(view, ras.spacing_mm)
    wants = in_plane(view, spec.spacing_mm)
    if np.allclose(has, wants, rtol=_SAME_SPACING):
        return None, None
    return resamplers(shape, has, wants)


def _predict(
    tiles: Iterator[np.ndarray],
    serving: Sequence[tuple[Model, float]],
    batch: int,
    classes: int,
) -> Iterator[np.ndarray]:
    """Yield the prediction for each tile; batches run across planes, all of one size."""
    weights = sum(weight for _, weight in serving)
    while group := list(islice(tiles, batch)):
        filled = np.zeros((batch, *group[0].shape), np.float32)
        np.stack(group, out=filled[: len(group)])
        outputs = [np.asarray(model(filled)) for model, _ in serving]
        for output in outputs:
            if output.shape != (*filled.shape[:3], classes):
                raise ValueError(
                    f"model gave shape {output.shape} for tiles of shape {filled.shape}; "
                    f"{(*filled.shape[:3], classes)} was needed"
                )
        mean = outputs[0]
        if len(outputs) > 1:
            shares = [weight / weights for _, weight in serving]
            mean = np.einsum("m,m...->...", np.array(shares, np.float32), np.stack(outputs))
        yield from mean[: len(group)]
