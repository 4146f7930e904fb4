"""Make one volume of the slices of a series: their order, their step, and their problems.

    . . . . .    even                     one affine describes them
    . . .   .    a slice is missing       a whole number of steps
    . .  .   .   uneven                   refused
    .:. . . .    two at one position      duplicates, or several volumes
    '. '. '. '.  steps are tilted         gantry tilt, a sheared grid

Only positions decide. InstanceNumber, SliceLocation and the order of files are
wrong in some archives. `volumes.py` separates several volumes.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import atan2, degrees

import numpy as np

from voxtile.errors import CaseError, Notice, counted, first_few
from voxtile.reading.scan import ReadPolicy

from .header import Slice
from .volumes import Candidate, choose, gather, separate

# Scanners write unit vectors and positions with 4 to 14 digits: smaller differences are rounding.
_ORIENTATION_TOLERANCE = 1e-4
_SPACING_TOLERANCE = 1e-4
# Larger differences are accepted with a notice if they move no pixel by more than a tenth of one.
_PIXEL_TOLERANCE = 0.1
# A step is tilted if the tangent of its angle is larger; highdicom has the same limit.
_TILT_TOLERANCE = 1e-3

SameContent = Callable[[Slice, Slice], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The slices of one volume, ordered along the cross product of row and column direction.

    Parameters
    ----------
    planes : tuple of int
        Index of each slice in the volume; a gap is a missing slice.
    step : ndarray of float64, shape (3,)
        From one slice to the next, LPS, in mm.
    tilt_deg : float
        Angle between step and normal; 0 if it is only rounding.
    """

    slices: tuple[Slice, ...]
    planes: tuple[int, ...]
    step: np.ndarray
    tilt_deg: float

    @property
    def missing(self) -> list[int]:
        """Indices without a slice."""
        return sorted(set(range(self.planes[-1] + 1)) - set(self.planes))

    @property
    def affine(self) -> np.ndarray:
        """(column, row, slice) to RAS+ mm (PS3.3 equation C.7.6.2.1-1, then LPS to RAS)."""
        first = self.slices[0]
        across, down, _ = _axes(first)
        rows, columns = first.spacing
        affine = np.eye(4)
        affine[:3, 0] = across * columns
        affine[:3, 1] = down * rows
        affine[:3, 2] = self.step
        affine[:3, 3] = first.position
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def stack_slices(
    slices: Sequence[Slice], policy: ReadPolicy, same: SameContent
) -> tuple[Stack, list[Notice]]:
    """Return the slices of one volume in order.

    `slices` are in name order; `same` says whether two slices have equal voxels.

    Raises
    ------
    CaseError
        If they are not exactly one evenly spaced volume.
    """
    notices: list[Notice] = []
    stacks = _stacks(slices)
    found = [
        replace(volume, labels=(name, *volume.labels)) if name else volume
        for name, own in stacks.items()
        for volume in _volumes(own, policy, same, notices)
    ]
    if policy.volume is None and len(stacks) > 1 and not _stack_ids(slices):
        raise _mixed_orientation(
            [len(own) for own in stacks.values()],
            f'choose one with --volume 0 to --volume {len(found) - 1}, or --volume "stack 1"',
        )
    volume = choose(found, policy.volume)
    if incomplete := sum(one.missing > 0 for one in found):
        sentence = f"{counted(incomplete, 'volume')} of {len(found)} without all slices; left out"
        notices.append(Notice("incomplete_volumes", sentence))
    return _evenly_spaced(list(volume.slices), policy, notices), notices


def _stacks(slices: Sequence[Slice]) -> dict[str, list[Slice]]:
    """Return the stacks that slices are in, by name; a single stack has an empty name."""
    turned = _by_orientation(slices)
    if ids := _stack_ids(slices):
        if len(turned) == 1 and _is_one_stack(slices):
            return {"": list(slices)}
        return {
            name: [piece for piece in slices if piece.tells["stack"] == value]
            for name, value in ids.items()
        }
    # The orientation of a single slice may be damaged.
    if len(turned) > 1 and all(len(own) > 1 for own in turned):
        return {f"stack {number}": own for number, own in enumerate(turned, start=1)}
    return {"": list(slices)}


def _stack_ids(slices: Sequence[Slice]) -> dict[str, Hashable]:
    """Return the values of StackID by names without text from tags; empty unless several."""
    values = {piece.tells.get("stack") for piece in slices}
    if len(values) == 1 or None in values:
        return {}
    return {f"stack {at}": value for at, value in enumerate(sorted(values, key=str), start=1)}


def _is_one_stack(slices: Sequence[Slice]) -> bool:
    """Whether all slices are evenly spaced, with the same number at each position."""
    positions = _by_position(slices)
    if len({len(group) for group in positions}) > 1:
        return False
    try:
        _evenly_spaced([group[0] for group in positions], ReadPolicy(tilt="native"), [])
    except CaseError:
        return False
    return True


def _volumes(
    slices: Sequence[Slice], policy: ReadPolicy, same: SameContent, notices: list[Notice]
) -> list[Candidate]:
    """Return the volumes of slices of one stack, without copies of slices."""
    _require_alike(slices, notices)
    positions = _by_position(slices)
    if len({len(group) for group in positions}) == 1:
        return separate(_without_copies(positions, same, notices))
    positions = _without_duplicates(positions, same, notices)
    counts = Counter(len(group) for group in positions)
    if len(counts) == 1:
        return separate(positions)
    usual = counts.most_common(1)[0][0]
    found = gather(positions) if usual > 1 or policy.volume is not None else []
    return found or separate(_decided(positions, usual, policy, notices))


def _axes(piece: Slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors of increasing columns, of increasing rows, and of the normal, LPS."""
    across, down = np.array(piece.orientation, np.float64).reshape(2, 3)
    across = across / np.linalg.norm(across)
    down = down / np.linalg.norm(down)
    normal = np.cross(across, down)
    return across, down, normal / np.linalg.norm(normal)


def _require_alike(slices: Sequence[Slice], notices: list[Notice]) -> None:
    """Refuse slices of several sizes, spacings or orientations."""
    sizes = Counter((piece.rows, piece.columns) for piece in slices)
    if len(sizes) > 1:
        each = [
            f"{rows} x {columns} ({counted(n, 'slice')})" for (rows, columns), n in sizes.items()
        ]
        raise CaseError(
            "mixed_size",
            f"the slices have several sizes: {', '.join(each)}; put those of one size into a "
            "folder of their own",
        )
    turned = _by_orientation(slices)
    if len(turned) > 1:
        raise _mixed_orientation([len(own) for own in turned])
    if len({piece.rescaled for piece in slices}) > 1:
        raise CaseError(
            "bad_rescale",
            f"only {sum(piece.rescaled for piece in slices)} of {len(slices)} slices have a "
            "RescaleSlope; export the series again",
        )
    spacings = np.array([piece.spacing for piece in slices])
    relative = spacings / spacings[0]
    # Shift of the last row and column, in pixels.
    moved = np.abs(relative - 1) * (slices[0].rows, slices[0].columns)
    close = (np.abs(relative - 1) <= _SPACING_TOLERANCE) | (moved <= _PIXEL_TOLERANCE)
    if not close.all():
        counts = clusters(relative.tolist(), _SPACING_TOLERANCE)
        raise CaseError(
            "mixed_spacing",
            f"the slices have {len(counts)} pixel spacings "
            f"({' and '.join(map(str, counts))} slices), but a volume has one; put those of one "
            "spacing into a folder of their own",
        )
    turns = np.ptp([piece.orientation for piece in slices], axis=0).max()
    if turns > _ORIENTATION_TOLERANCE or np.abs(relative - 1).max() > _SPACING_TOLERANCE:
        sentence = (
            "the slices differ a little in orientation or pixel spacing, which moves no pixel by "
            "more than a tenth of one; those of the first slice along the stack were used"
        )
        notices.append(Notice("rounded_geometry", sentence))


def _mixed_orientation(counts: Sequence[int], option: str = "") -> CaseError:
    """Return the error of slices of several orientations."""
    return CaseError(
        "mixed_orientation",
        f"the slices have {len(counts)} orientations ({' and '.join(map(str, counts))} slices), "
        "but a volume has one; put those of one orientation into a folder of their own",
        option,
    )


def _by_orientation(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return slices in groups by orientation; in a group it moves no pixel by over a tenth."""
    left, groups = list(slices), []
    while left:
        first = left[0]
        turns = np.array([piece.orientation for piece in left]) - first.orientation
        rows, columns = first.spacing
        far = np.linalg.norm(turns[:, :3], axis=1) * columns * first.columns
        far += np.linalg.norm(turns[:, 3:], axis=1) * rows * first.rows
        close = far <= _PIXEL_TOLERANCE * min(first.spacing)
        close |= np.abs(turns).max(axis=1) <= _ORIENTATION_TOLERANCE
        groups.append([piece for piece, near in zip(left, close, strict=True) if near])
        left = [piece for piece, near in zip(left, close, strict=True) if not near]
    return groups


def clusters(vectors: Sequence[Sequence[float]], tolerance: float) -> list[int]:
    """Return the sizes of groups of vectors; all are within `tolerance` of a group's first one."""
    left = np.array(vectors, np.float64)
    sizes = []
    while len(left):
        close = np.abs(left - left[0]).max(axis=1) <= tolerance
        sizes.append(int(close.sum()))
        left = left[~close]
    return sizes


def _by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices grouped by position along the normal; each group in name order."""
    normal = _axes(slices[0])[2]
    along = np.array([normal @ piece.position for piece in slices])
    # Slices less than a hundredth of a pixel apart are at one position.
    close = min(slices[0].spacing) * 1e-2
    groups: list[list[int]] = []
    previous = -np.inf
    for index in np.argsort(along, kind="stable"):
        if along[index] - previous > close:
            groups.append([])
        groups[-1].append(int(index))
        previous = along[index]
    return [[slices[index] for index in sorted(group)] for group in groups]


def _without_copies(
    positions: list[list[Slice]], same: SameContent, notices: list[Notice]
) -> list[list[Slice]]:
    """Return the positions without copies, if each position has the same number of slices.

    Several volumes have the same number too, so slices are copies only if
    nothing distinguishes them, not even the instance number.
    """
    if len(positions[0]) == 1:
        return positions
    alike = all(
        piece.store is not group[0].store
        and piece.tells == group[0].tells
        and same(group[0], piece)
        for group in positions
        for piece in group[1:]
    )
    if not alike:
        return positions
    notices.append(_dropped(sum(len(group) - 1 for group in positions)))
    return [group[:1] for group in positions]


def _dropped(count: int) -> Notice:
    """Return the notice about copies that were left out."""
    return Notice(
        "duplicates_dropped",
        f"{counted(count, 'identical copy', 'identical copies')} of slices left out",
    )


def _without_duplicates(
    positions: list[list[Slice]], same: SameContent, notices: list[Notice]
) -> list[list[Slice]]:
    """Return the positions without copies, if positions have different numbers of slices."""
    single = []
    for group in positions:
        kept: list[Slice] = []
        for piece in group:
            if not any(_alike(piece, other) and same(piece, other) for other in kept):
                kept.append(piece)
        single.append(kept)
    if dropped := sum(map(len, positions)) - sum(map(len, single)):
        notices.append(_dropped(dropped))
    return single


def _alike(one: Slice, other: Slice) -> bool:
    """Whether two slices differ in nothing but the instance number."""
    names = {*one.tells, *other.tells} - {"instance number"}
    return all(one.tells.get(name) == other.tells.get(name) for name in names)


def _decided(
    positions: list[list[Slice]], usual: int, policy: ReadPolicy, notices: list[Notice]
) -> list[list[Slice]]:
    """Return one slice at each position; if slices there differ, the policy must allow it."""
    if usual > 1:
        others = [len(group) for group in positions if len(group) != usual]
        raise CaseError(
            "incomplete_volumes",
            f"most of the {len(positions)} positions have {usual} slices, one for each volume, but "
            f"{counted(len(others), 'position has', 'positions have')} {min(others)}"
            f"{f' to {max(others)}' if max(others) > min(others) else ''}; find the missing files, "
            "or put the files of one volume into a folder of their own",
        )
    conflicts = [group for group in positions if len(group) > 1]
    what = f"{len(conflicts)} of {len(positions)} positions have several different slices"
    if policy.duplicates == "refuse":
        files = " and ".join(str(piece.store.place) for piece in conflicts[0][:4])
        option = "pass --duplicates first to take the first in name order"
        if volumes := gather(positions):
            option += f", or --volume to take one of {counted(len(volumes), 'volume')}"
        raise CaseError(
            "duplicate_slices",
            f"{what} (the first of them: {files}); remove the wrong files",
            option,
        )
    notices.append(Notice("duplicates_first", f"{what}; the first in name order was taken"))
    return [group[:1] for group in positions]


def _evenly_spaced(slices: list[Slice], policy: ReadPolicy, notices: list[Notice]) -> Stack:
    """Return the stack of slices whose distances are whole numbers of equal steps."""
    across, down, normal = _axes(slices[0])
    if len(slices) == 1:
        thickness = slices[0].thickness_mm
        if thickness <= 0:
            thickness = 1.0
            sentence = "a single slice without a slice thickness; 1 mm was assumed"
            notices.append(Notice("no_thickness", sentence))
        return Stack(tuple(slices), (0,), normal * thickness, 0.0)
    places = np.array([piece.position for piece in slices], np.float64)
    gaps = np.diff(places @ normal)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # of two different gaps, the smaller
    steps = np.maximum(1, np.round(gaps / usual)).astype(int)
    planes = np.concatenate([[0], np.cumsum(steps)])
    step = (places[-1] - places[0]) / planes[-1]
    spacing = float(step @ normal)
    off = places - places[0] - planes[:, np.newaxis] * step
    # A hundredth of the spacing, or the error of rounding to hundredths of a millimetre.
    tolerance = max(0.01 * spacing, min(0.01, 0.1 * spacing))
    worst = float(np.abs(off @ normal).max())
    # Some scanners write tenths of a millimetre; a larger error is not rounding.
    if worst > max(tolerance, min(0.06, 0.1 * spacing)) or (steps > 1).sum() * 2 > len(steps):
        raise CaseError(
            "uneven_spacing",
            f"the {len(slices)} slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart "
            f"(most often {usual:.4g} mm), but a volume is evenly spaced; put the slices of one "
            "spacing into a folder of their own, or resample the series",
        )
    if worst > tolerance:
        sentence = (
            f"positions of slices are up to {worst:.2g} mm off even spacing, which is probably "
            f"rounding; read as {spacing:.4g} mm apart"
        )
        notices.append(Notice("rounded_positions", sentence))
    shift = float(np.hypot(off @ across, off @ down).max())
    if shift > max(0.02, 0.05 * min(slices[0].spacing)):
        raise CaseError(
            "shifted_slices",
            f"slices are up to {shift:.3g} mm off the line through the others, so that they are "
            "not a straight stack; put those of one acquisition into a folder of their own",
        )
    lean = float(np.hypot(step @ across, step @ down))
    tilted = lean / spacing > _TILT_TOLERANCE and lean * planes[-1] > 0.02
    tilt_deg = degrees(atan2(lean, spacing)) if tilted else 0.0
    stack = Stack(tuple(slices), tuple(planes.tolist()), step, tilt_deg)
    _judge_gaps(stack, gaps, spacing, policy, notices)
    _judge_tilt(stack, lean, policy, notices)
    return stack


def _judge_gaps(
    stack: Stack, gaps: np.ndarray, spacing: float, policy: ReadPolicy, notices: list[Notice]
) -> None:
    """Refuse gaps, or add a notice, as the policy says."""
    if not stack.missing:
        return
    wide = [k for k, (here, there) in enumerate(pairwise(stack.planes)) if there > here + 1]
    where = first_few([f"after slice {k + 1} ({gaps[k]:.4g} mm)" for k in wide], 5)
    what = (
        f"{len(stack.missing)} of {stack.planes[-1] + 1} slices missing: {where}, counted along "
        f"the stack, with a spacing of {spacing:.4g} mm"
    )
    if policy.missing_slices == "refuse":
        raise CaseError(
            "missing_slices",
            f"{what}; find the files",
            "pass --missing-slices interpolate to fill the gaps from their neighbours",
        )
    notices.append(Notice("missing_interpolated", f"{what}; filled from their neighbours"))


def _judge_tilt(stack: Stack, lean: float, policy: ReadPolicy, notices: list[Notice]) -> None:
    """Refuse tilt, or add a notice, as the policy says."""
    if not stack.tilt_deg:
        return
    what = (
        f"the stack is sheared by {stack.tilt_deg:.1f} degrees (gantry tilt): each slice is "
        f"shifted by {lean:.3g} mm from the one before"
    )
    if policy.tilt == "refuse":
        raise CaseError(
            "gantry_tilt",
            f"{what}; resample it onto a rectangular grid first",
            "pass --tilt native to segment the slices as acquired, with a mask on a sheared grid, "
            "or --tilt resample to shift them onto a rectangular grid",
        )
    done = {
        "native": "read as acquired, on a sheared grid",
        "resample": "slices were shifted onto a rectangular grid",
    }
    notices.append(Notice("gantry_tilt", f"{what}; {done[policy.tilt]}"))
