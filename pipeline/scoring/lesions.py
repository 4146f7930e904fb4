"""Match the lesions of a prediction with those of the reference, and measure each pair.

A lesion is a connected component (26-neighbourhood). Two lesions may match if their IoU is above
0.1, the limit of 3D detection challenges (Baumgartner et al. 2021, "nnDetection", section 3). Of
all such pairs, the one with the largest IoU is matched first; each lesion matches at most one
other (Kofler et al. 2023, "Panoptica", arXiv:2312.02608, "naive threshold matching").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

import numpy as np

from .components import Components, Runs, find_components, meetings
from .overlap import Overlap
from .surface import measure_surfaces

LEAST_IOU = 0.1


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion of the reference, of the prediction, or both matched."""

    status: str  # matched, missed (only in the reference) or false (only in the prediction)
    # Centre in mm of the world (RAS+): of the reference, or of the prediction if it is false.
    centre_mm: tuple[float, float, float]
    volume_ml_ref: float | None = None
    volume_ml_pred: float | None = None
    dice: float | None = None  # of the pair, like the other values
    iou: float | None = None
    hd95_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Lesions:
    """All lesions of a label: matched ones and missed ones, then false ones."""

    each: tuple[Lesion, ...]

    def count(self, status: str) -> int:
        """Return the number of lesions with a status."""
        return sum(lesion.status == status for lesion in self.each)

    @property
    def matched(self) -> int:
        """Matched lesions."""
        return self.count("matched")

    @property
    def missed(self) -> int:
        """Lesions of the reference without a match."""
        return self.count("missed")

    @property
    def false(self) -> int:
        """Lesions of the prediction without a match."""
        return self.count("false")

    @property
    def dice(self) -> float:
        """Mean Dice of the matched lesions; NaN without any."""
        return self._sum("dice") / self.matched if self.matched else nan

    @property
    def hd95_mm(self) -> float:
        """Mean HD95 of the matched lesions; NaN without any."""
        return self._sum("hd95_mm") / self.matched if self.matched else nan

    @property
    def lesionwise_dice(self) -> float:
        """Mean Dice of all lesions, where missed and false ones have 0; NaN without lesions."""
        return self._sum("dice") / len(self.each) if self.each else nan

    def _sum(self, name: str) -> float:
        """Return the sum of a value over the matched lesions."""
        return float(sum(getattr(one, name) for one in self.each if one.status == "matched"))


def match_lesions(
    prediction: np.ndarray,
    reference: np.ndarray,
    affine: np.ndarray,
    extended: tuple[int, ...] = (0, 1, 2),
) -> Lesions:
    """Match the lesions of two masks of bool, (i, j, k), in C order.

    `affine` has three rows, from voxel index to world mm. Surfaces are measured along the
    `extended` axes only.
    """
    found, known = find_components(prediction), find_components(reference)
    pairs = matches(found, known)
    sizes = found.voxels, known.voxels
    voxel_ml = abs(float(np.linalg.det(affine[:, :3]))) / 1000

    def pair(one: int, other: int, shared: int) -> Lesion:
        overlap = Overlap(shared, int(sizes[0][one]) - shared, int(sizes[1][other]) - shared)
        box = _box(found, one), _box(known, other)
        low, high = np.minimum(box[0][0], box[1][0]), np.maximum(box[0][1], box[1][1])
        shape = [int((high - low)[axis]) for axis in extended]
        masks = [
            _drawn(components, number, low, high).reshape(shape)
            for components, number in ((found, one), (known, other))
        ]
        surfaces = measure_surfaces(masks[0], masks[1], affine[:, list(extended)])
        return Lesion(
            "matched",
            _centre(known, other, affine),
            float(sizes[1][other]) * voxel_ml,
            float(sizes[0][one]) * voxel_ml,
            overlap.dice,
            overlap.iou,
            surfaces.hd95_mm,
        )

    by_reference = {other: (one, shared) for one, other, shared in pairs}
    lesions = [
        pair(by_reference[other][0], other, by_reference[other][1])
        if other in by_reference
        else Lesion("missed", _centre(known, other, affine), float(sizes[1][other]) * voxel_ml)
        for other in _in_order(known)
    ]
    used = {one for one, _, _ in pairs}
    lesions += [
        Lesion("false", _centre(found, one, affine), None, float(sizes[0][one]) * voxel_ml)
        for one in _in_order(found)
        if one not in used
    ]
    return Lesions(tuple(lesions))


def matches(found: Components, known: Components) -> list[tuple[int, int, int]]:
    """Return the matched components of a prediction and a reference, and their shared voxels."""
    here, there = meetings(found.runs, known.runs, (0, 0), reach=0)
    stops = np.minimum(found.runs.stops[here], known.runs.stops[there])
    lengths = stops - np.maximum(found.runs.starts[here], known.runs.starts[there])
    ids = found.component[here].astype(np.int64) * known.count + known.component[there]
    keys, inverse = np.unique(ids, return_inverse=True)
    shared = np.bincount(inverse, weights=lengths, minlength=len(keys)).astype(np.int64)
    ones, others = np.divmod(keys, max(known.count, 1))
    iou = shared / (found.voxels[ones] + known.voxels[others] - shared)
    # Equal pairs follow each other in the order of their first voxels, so that the numbers of
    # components do not matter.
    order = np.lexsort((_firsts(found)[ones], _firsts(known)[others], -shared, -iou))
    chosen: list[tuple[int, int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for index in order[: int((iou > LEAST_IOU).sum())].tolist():
        one, other = int(ones[index]), int(others[index])
        if one not in used[0] and other not in used[1]:
            chosen.append((one, other, int(shared[index])))
            used[0].add(one)
            used[1].add(other)
    return chosen


def _firsts(components: Components) -> np.ndarray:
    """Return the number of the first run of each component."""
    firsts = np.full(components.count, len(components.component), np.int64)
    np.minimum.at(firsts, components.component, np.arange(len(components.component)))
    return firsts


def _in_order(components: Components) -> Iterator[int]:
    """Yield the components in the order of their first voxels."""
    yield from np.argsort(_firsts(components), kind="stable").tolist()


def _lines(runs: Runs, chosen: np.ndarray) -> np.ndarray:
    """Return the indices (i, j, first k, last k + 1) of runs, shape (runs, 4)."""
    length = runs.shape[2] + 1
    line, first = np.divmod(runs.starts[chosen], length)
    i, j = np.divmod(line, runs.shape[1])
    return np.stack([i, j, first, runs.stops[chosen] - line * length], axis=1)


def _own_lines(components: Components, number: int) -> np.ndarray:
    """Return the runs of a component as `_lines` does."""
    return _lines(components.runs, np.flatnonzero(components.component == number))


def _box(components: Components, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last index + 1 of a component along each axis."""
    lines = _own_lines(components, number)
    low, high = lines.min(axis=0), lines.max(axis=0)
    return low[[0, 1, 2]], np.array([high[0] + 1, high[1] + 1, high[3]])


def _drawn(components: Components, number: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the mask of a component in a box."""
    i, j, first, last = (_own_lines(components, number) - low[[0, 1, 2, 2]]).T
    edges = np.zeros((*(high - low)[:2], high[2] - low[2] + 1), np.int8)
    edges[i, j, first] = 1
    edges[i, j, last] -= 1
    mask: np.ndarray = np.cumsum(edges[..., :-1], axis=2).astype(bool)
    return mask


def _centre(components: Components, number: int, affine: np.ndarray) -> tuple[float, float, float]:
    """Return the mean place of the voxels of a component, in mm of the world."""
    i, j, first, last = _own_lines(components, number).T.astype(np.float64)
    sizes = last - first
    index = [np.average(axis, weights=sizes) for axis in (i, j, (first + last - 1) / 2)]
    r, a, s = (affine[:, :3] @ index + affine[:, 3]).tolist()
    return r, a, s
