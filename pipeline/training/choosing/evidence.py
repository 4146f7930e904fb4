"""What a bundle's networks say of validation cases, kept on disk view by view.

    case -> each view alone -> probabilities on the scan's grid -> where any label may win
                                                                          |
                      <n>_where.npy, <n>_probabilities.npy  <-------------+

Whatever the number of cases, memory holds one plane; a case's whole
probabilities lie on disk only until the next one. What is kept of a case are
the voxels where some view gives some label a probability with which it could
win: everywhere else every blend of the views gives background, so that
nothing is lost. Probabilities are kept in steps of 1/65535.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.engines import Model
from voxtile.inference.infer import Watch, infer
from voxtile.models.spec import ModelSpec, View
from voxtile.preparation.plan import Plan
from voxtile.preparation.planes import to_planes
from voxtile.training.data.stored_cases import StoredCase
from voxtile.volume import Volume, canonical

_STEPS = 65535
# Voxels that are looked at together: bounds what choosing needs beside the files.
_SLAB = 2**19


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the views say of one case.

    Parameters
    ----------
    reference : Volume
        The label map in canonical order, mapped from disk.
    where : Path
        ``.npy`` of int64, shape (n,): the voxels that are kept, as flat
        indices of the canonical (RAS) array, rising.
    probabilities : Path
        ``.npy`` of uint16, shape (n, views, channels), in 1/65535.
    """

    reference: Volume
    where: Path
    probabilities: Path

    def slabs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield parts of the kept voxels.

        Yields
        ------
        where : ndarray of int64, shape (n,)
        probabilities : ndarray of float32, shape (n, views, channels)
        """
        where = np.load(self.where, mmap_mode="r")
        stored = np.load(self.probabilities, mmap_mode="r")
        for start in range(0, len(where), _SLAB):
            part = slice(start, start + _SLAB)
            yield np.asarray(where[part]), stored[part] * np.float32(1 / _STEPS)


def gather(
    cases: Sequence[StoredCase],
    spec: ModelSpec,
    models: Sequence[Model],
    plan: Plan,
    folder: Path,
    *,
    least: float,
) -> list[Evidence]:
    """Judge every case by each view alone, and keep what may matter.

    Parameters
    ----------
    cases : sequence of StoredCase
    spec : ModelSpec
    models : sequence of Model
        One for each of ``spec.networks``.
    plan : Plan
    folder : Path
        For the files.
    least : float
        Probability below which a label cannot win, whatever is chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _gather(case, spec, models, plan, folder / f"{number:05d}", least)
        for number, case in enumerate(cases)
    ]


def of_view(
    spec: ModelSpec, models: Sequence[Model], view: View
) -> tuple[ModelSpec, tuple[Model, ...]]:
    """Return a spec and models that judge one view only, and are otherwise the same."""
    serving = [
        (network.model_copy(update={"views": (view,)}), model)
        for network, model in zip(spec.networks, models, strict=True)
        if view in network.views
    ]
    networks, chosen = zip(*serving, strict=True)
    return spec.model_copy(update={"networks": networks}), chosen


def _gather(
    case: StoredCase,
    spec: ModelSpec,
    models: Sequence[Model],
    plan: Plan,
    stem: Path,
    least: float,
) -> Evidence:
    """Judge one case by each view."""
    spec = spec.model_copy(update={"divisions": (), "postprocess": ()})  # they see no probabilities
    shape = canonical(case.volume).shape
    whole = []
    for view in spec.views:
        path = stem.with_name(f"{stem.name}_{view}.npy")
        said = np.lib.format.open_memmap(path, "w+", np.uint16, (*shape, spec.output_channels))
        infer(case.volume, *of_view(spec, models, view), plan, _keeping(to_planes(said, view)))
        said.flush()
        whole.append(said)
    # One step less: a value that was rounded down must not be lost.
    floor = max(0, int(least * _STEPS) - 1)
    first = int(spec.activation == "softmax")
    where = np.concatenate(
        [
            index * shape[1] * shape[2]
            + np.flatnonzero(
                np.logical_or.reduce(
                    [(said[index, ..., first:] >= floor).any(-1) for said in whole]
                )
            )
            for index in range(shape[0])
        ]
    )
    kept = Evidence(
        canonical(case.reference),
        stem.with_name(f"{stem.name}_where.npy"),
        stem.with_name(f"{stem.name}_said.npy"),
    )
    np.save(kept.where, where)
    stored = np.lib.format.open_memmap(
        kept.probabilities, "w+", np.uint16, (len(where), len(whole), spec.output_channels)
    )
    for place, said in enumerate(whole):
        flat = said.reshape(-1, spec.output_channels)
        for start in range(0, len(where), _SLAB):
            part = slice(start, start + _SLAB)
            stored[part, place] = flat[where[part]]
    stored.flush()
    for view in spec.views:
        stem.with_name(f"{stem.name}_{view}.npy").unlink()
    return kept


def _keeping(targets: np.ndarray) -> Watch:
    """Return a watch that keeps every plane that passes."""

    def watch(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for target, plane in zip(targets, planes, strict=True):
            target[...] = np.rint(plane.clip(0, 1) * _STEPS)
            yield plane

    return watch
