"""The planes of a view as a network sees them: scaled, resampled, with their neighbours."""

from collections.abc import Iterator, Sequence

import numpy as np

from voxtile.models.spec import Background, ModelSpec, View
from voxtile.volume import Shape2D, Volume

from .intensity import Scaling
from .planes import in_plane, neighbours, with_context
from .position import of_plane
from .resampling import Resampler, resamplers

# Spacings that differ by a smaller fraction count as equal: resampling would only blur.
_SAME_SPACING = 1e-3


def prepare_planes(
    planes: np.ndarray,
    scalings: Sequence[Scaling],
    resampler: Resampler | None,
    context_slices: int,
    indices: Sequence[int] | None = None,
    *,
    position: bool = False,
) -> Iterator[np.ndarray]:
    """Yield planes as a network sees them, float32, (rows, columns, channels * context_slices).

    `planes` has the shape (planes, rows, columns, channels), and each channel has its scaling.
    Without a resampler the spacing stays. If `indices` is given, only its planes are yielded. With
    `position`, three more channels say where a pixel is.
    """
    recent: dict[int, np.ndarray] = {}
    for index in range(len(planes)) if indices is None else indices:
        wanted = neighbours(index, len(planes), context_slices)
        # Each plane is prepared once, and stays in memory only while a neighbour needs it.
        recent = {
            other: recent[other]
            if other in recent
            else _prepare(planes[other], scalings, resampler)
            for other in wanted
        }
        plane = with_context([recent[other] for other in wanted])
        if position:
            where = of_plane((plane.shape[0], plane.shape[1]), index, len(planes))
            plane = np.concatenate([plane, where], axis=-1)
        yield plane


def _prepare(
    plane: np.ndarray, scalings: Sequence[Scaling], resampler: Resampler | None
) -> np.ndarray:
    """Return one plane scaled and resampled, float32, shape (rows, columns, channels)."""
    scaled = np.stack(
        [scaling.apply(plane[..., index]) for index, scaling in enumerate(scalings)], axis=-1
    )
    return scaled if resampler is None else resampler.apply(scaled)


def occupied_planes(
    planes: np.ndarray,
    background: Background,
    resampler: Resampler | None,
    context_slices: int,
    indices: Sequence[int] | None = None,
) -> Iterator[np.ndarray]:
    """Yield where each plane, or a neighbour in its context, has more than background.

    The parameters are those of `prepare_planes`; the results are bool, shape (rows, columns).
    """
    for index in range(len(planes)) if indices is None else indices:
        nearby = sorted(set(neighbours(index, len(planes), context_slices)))
        busy = np.any(planes[nearby] > background.at_most, axis=(0, 3))
        if resampler is not None:
            busy = resampler.apply(busy[..., np.newaxis].astype(np.float32))[..., 0] > 0
        yield busy


def resampling(
    ras: Volume, view: View, shape: Shape2D, spec: ModelSpec
) -> tuple[Resampler, Resampler] | tuple[None, None]:
    """Return resamplers to the spec's in-plane spacing and back; None if the scan has it."""
    wants = new_spacing(view, ras.spacing_mm, spec)
    if wants is None:
        return None, None
    there, back = resamplers(shape, in_plane(view, ras.spacing_mm), wants, spec.resampling)
    if spec.resampling == "spline" and there.shape == shape:
        return None, None
    return there, back


def new_spacing(
    view: View, spacing_mm: tuple[float, float, float], spec: ModelSpec
) -> tuple[float, float] | None:
    """Return the spacing (rows, columns) that planes are resampled to; None if it is theirs.

    `spacing_mm` is that of the canonical volume, (R, A, S).
    """
    if spec.spacing_mm is None:
        return None
    wants = in_plane(view, spec.spacing_mm)
    if spec.resampling == "spline":  # only if the number of pixels changes
        return wants
    alike = np.allclose(in_plane(view, spacing_mm), wants, rtol=_SAME_SPACING)
    return None if alike else wants
