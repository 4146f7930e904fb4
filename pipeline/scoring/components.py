"""Find the connected components of a mask from its runs.

A run is a stretch of voxels along the last axis. Runs that touch belong to one
component, so a graph of runs is enough. An image of component numbers is not
made: for a whole-body mask it would be larger than the scan.

Voxels that share a face, an edge or a corner are connected (26-neighbourhood).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Offsets to neighbouring lines, each pair once. Runs of the same line never touch each other.
_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
# Number of voxels of a slab, whose runs are in memory at once.
_SLAB_VOXELS = 2**21


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The connected components of a mask.

    Parameters
    ----------
    component : ndarray of int, shape (runs,)
        Number of the component of each run, from 0.
    """

    runs: "Runs"
    count: int
    component: np.ndarray

    @property
    def voxels(self) -> np.ndarray:
        """Number of voxels of each component, shape (count,)."""
        sizes = np.bincount(
            self.component, weights=self.runs.stops - self.runs.starts, minlength=self.count
        )
        whole: np.ndarray = sizes.astype(np.int64)
        return whole

    def middle(self, component: int) -> tuple[float, float, float]:
        """Return the mean index (i, j, k) of the voxels of a component."""
        mine = self.component == component
        lines, starts = np.divmod(self.runs.starts[mine], self.runs.shape[2] + 1)
        lengths = self.runs.stops[mine] - self.runs.starts[mine]
        i, j = np.divmod(lines, self.runs.shape[1])
        i, j, k = (
            float(np.average(part, weights=lengths)) for part in (i, j, starts + (lengths - 1) / 2)
        )
        return i, j, k

    def hit_by(self, other: "Components") -> np.ndarray:
        """Return which components, shape (count,), share a voxel with those of another mask."""
        here, _ = meetings(self.runs, other.runs, (0, 0), reach=0)
        hit = np.zeros(self.count, bool)
        hit[self.component[here]] = True
        return hit


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Stretches of voxels along the last axis of a mask.

    The voxel at index ``x`` of line ``n`` has the number ``n * (length + 1) + x``.
    So a stop, which is the index after the last voxel, still belongs to its line,
    and both arrays are sorted.

    Parameters
    ----------
    starts, stops : ndarray of int, shape (runs,)
    shape : (i, j, k)
        Shape of the mask.
    """

    starts: np.ndarray
    stops: np.ndarray
    shape: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """How many lesions were detected; a lesion is a component of the reference.

    Parameters
    ----------
    detected, missed : int
        Components of the reference with and without a voxel of the prediction.
    false, true : int
        Components of the prediction without and with a voxel of the reference.
    """

    detected: int
    missed: int
    false: int
    true: int

    @property
    def sensitivity(self) -> float:
        """Fraction of lesions that were detected; NaN without lesions."""
        return _share(self.detected, self.missed)

    @property
    def precision(self) -> float:
        """Fraction of predicted components that hit a lesion; NaN without predicted components."""
        return _share(self.true, self.false)

    @property
    def f1(self) -> float:
        """Harmonic mean of both (Commowick et al. 2018); 0 if one mask is empty, NaN if both."""
        if not (self.detected + self.missed) and not (self.true + self.false):
            return float("nan")
        if not self.detected:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)


def find_components(mask: np.ndarray) -> Components:
    """Return the connected components of a mask; fastest if its last axis is contiguous.

    Examples
    --------
    >>> mask = np.zeros((3, 3, 3), bool)
    >>> mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 2, 2] = True
    >>> find_components(mask).count, find_components(mask[:, ::2]).count
    (1, 2)
    """
    runs = _runs(mask)
    met = [meetings(runs, runs, offset, reach=1) for offset in _NEIGHBOURS]
    ones, others = (np.concatenate(part) for part in zip(*met, strict=True))
    return Components(runs, *_joined(ones, others, len(runs.starts)))


def component_count(
    mask: np.ndarray, inside: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> int:
    """Return the number of connected components of a mask, without holding all of its runs.

    The mask is searched slab by slab. Two slabs share a plane, which shows which
    of their components belong together. So even a mask of noise, which has millions
    of runs, needs only the memory of one slab. `inside` makes a mask of bool from
    a slab, so that `mask` may also be a label map.

    Examples
    --------
    >>> mask = np.zeros((3, 3, 3), bool)
    >>> mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 2, 2] = True
    >>> component_count(mask), component_count(mask[:, ::2])
    (1, 2)
    >>> component_count(3 * mask[:, ::2], lambda slab: slab == 3)
    2
    """
    planes, rows, columns = mask.shape
    thick = slab_planes(mask.shape)
    links = []
    nodes = 0
    shared = np.zeros(0, np.intp)  # components that the runs of the last plane belong to
    for start in range(0, max(planes, 1), thick):
        # The slab has one more plane, with which the next slab begins.
        slab = find_components(inside(mask[start : start + thick + 1]))
        if start:
            links.append((shared, nodes + slab.component[: len(shared)]))
        on_last = slab.runs.starts >= thick * rows * (columns + 1)
        shared = nodes + slab.component[on_last]
        nodes += slab.count
    if not links:
        return nodes
    ones, others = (np.concatenate(part) for part in zip(*links, strict=True))
    return _joined(ones, others, nodes)[0]


def _joined(ones: np.ndarray, others: np.ndarray, nodes: int) -> tuple[int, np.ndarray]:
    """Return how many components the linked nodes form, and the component of each node."""
    if not nodes:
        return 0, ones
    graph = coo_array((np.ones(len(ones), bool), (ones, others)), shape=(nodes, nodes))
    count, component = connected_components(graph, directed=False)
    return int(count), component


def slab_planes(shape: tuple[int, ...]) -> int:
    """Return how many planes of a mask, along its first axis, make a slab."""
    return max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))


def count_lesions(prediction: np.ndarray, reference: np.ndarray) -> LesionCounts:
    """Count the components of each mask that meet the other mask, and those that do not."""
    found, lesions = find_components(prediction), find_components(reference)
    detected, true = int(lesions.hit_by(found).sum()), int(found.hit_by(lesions).sum())
    return LesionCounts(detected, lesions.count - detected, found.count - true, true)


def _runs(mask: np.ndarray) -> Runs:
    """Return the runs of a mask, in the order of memory."""
    i, j, k = mask.shape
    edges = np.empty((i, j, k + 1), bool)
    edges[..., 0], edges[..., -1] = mask[..., 0], mask[..., -1]
    np.not_equal(mask[..., 1:], mask[..., :-1], out=edges[..., 1:-1])
    places = np.flatnonzero(edges)
    return Runs(places[::2], places[1::2], (i, j, k))


def meetings(
    one: Runs, other: Runs, offset: tuple[int, int], *, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of runs that meet: a run of `one`, and a run of `other` at an offset.

    With reach 0 the two runs share an index along the line; with reach 1 they
    may also touch diagonally at their ends.
    """
    lines_i, lines_j, length = one.shape[0], one.shape[1], one.shape[2] + 1
    i, j = np.divmod(one.starts // length, lines_j)
    there = (i + offset[0] < lines_i) & (j + offset[1] >= 0) & (j + offset[1] < lines_j)
    here = np.flatnonzero(there)
    shift = (offset[0] * lines_j + offset[1]) * length
    # The first run of `other` that does not end before a run of `one`, and the first after it.
    first = np.searchsorted(
        other.stops, one.starts[here] + shift, side="left" if reach else "right"
    )
    last = np.searchsorted(other.starts, one.stops[here] + shift, side="right" if reach else "left")
    counts = last - first
    begins = np.cumsum(counts) - counts
    found = np.repeat(first - begins, counts) + np.arange(counts.sum())
    return np.repeat(here, counts), found


def _share(part: int, rest: int) -> float:
    """Return part / (part + rest); NaN if both are 0."""
    return part / (part + rest) if part + rest else float("nan")
