"""Probabilities of each view for the validation cases, stored on disk.

    case -> each view alone -> probabilities on the scan's grid -> voxels where a label may win
                                                                              |
                            <n>_where.npy, <n>_said.npy  <--------------------+

Memory holds one plane, and the disk all probabilities of one case at a time. A
voxel is stored if some view gives some label a probability with which the label
could win. All other voxels become background with any weights of the views, so
nothing is lost. Probabilities are stored in steps of 1/65535.
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
# Number of voxels that are processed together, which limits the memory.
_SLAB = 2**19


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The probabilities of each view for one case."""

    reference: Volume  # the label map in canonical order, mapped from disk
    # ``.npy`` of int64, shape (n,): the stored voxels, as rising flat indices of the canonical
    # (RAS) array.
    where: Path
    probabilities: Path  # ``.npy`` of uint16, shape (n, views, channels), in 1/65535

    def slabs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield parts of `where`, and their probabilities as float32, at most 1."""
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
    """Segment every case with each view alone, and store the voxels where a label may win.

    A label with a probability below `least` cannot win, whatever is chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _gather(case, spec, models, plan, folder / f"{number:05d}", least)
        for number, case in enumerate(cases)
    ]


def of_view(
    spec: ModelSpec, models: Sequence[Model], view: View
) -> tuple[ModelSpec, tuple[Model, ...]]:
    """Return the spec and the models of one view; all else stays the same."""
    serving = [
        (network.model_copy(update={"views": (view,)}), model)
        for network, model in zip(spec.networks, models, strict=True)
        if view in network.views
    ]
    networks, chosen = zip(*serving, strict=True)
    return spec.model_copy(update={"networks": networks}), chosen


def _gather(
    case: StoredCase, spec: ModelSpec, models: Sequence[Model], plan: Plan, stem: Path, least: float
) -> Evidence:
    """Segment one case with each view."""
    # Divisions and post-processing change masks, not probabilities.
    spec = spec.model_copy(update={"divisions": (), "postprocess": ()})
    shape = canonical(case.volume).shape
    whole = []
    for view in spec.views:
        path = stem.with_name(f"{stem.name}_{view}.npy")
        said = np.lib.format.open_memmap(path, "w+", np.uint16, (*shape, spec.output_channels))
        infer(case.volume, *of_view(spec, models, view), plan, _storing(to_planes(said, view)))
        said.flush()
        whole.append(said)
    # The limit is one step lower, so that a value that was rounded down is not lost.
    floor = max(0, int(least * _STEPS) - 1)
    first = int(spec.activation == "softmax")
    found = []
    for index in range(shape[0]):
        may_win = [(said[index, ..., first:] >= floor).any(-1) for said in whole]
        start = index * shape[1] * shape[2]
        found.append(start + np.flatnonzero(np.logical_or.reduce(may_win)))
    where = np.concatenate(found)
    stored_case = Evidence(
        canonical(case.reference),
        stem.with_name(f"{stem.name}_where.npy"),
        stem.with_name(f"{stem.name}_said.npy"),
    )
    np.save(stored_case.where, where)
    stored = np.lib.format.open_memmap(
        stored_case.probabilities, "w+", np.uint16, (len(where), len(whole), spec.output_channels)
    )
    for place, said in enumerate(whole):
        flat = said.reshape(-1, spec.output_channels)
        for start in range(0, len(where), _SLAB):
            part = slice(start, start + _SLAB)
            stored[part, place] = flat[where[part]]
    stored.flush()
    for view in spec.views:
        stem.with_name(f"{stem.name}_{view}.npy").unlink()
    return stored_case


def _storing(targets: np.ndarray) -> Watch:
    """Return a watch that stores every plane that passes."""

    def watch(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for target, plane in zip(targets, planes, strict=True):
            target[...] = np.rint(plane.clip(0, 1) * _STEPS)
            yield plane

    return watch
