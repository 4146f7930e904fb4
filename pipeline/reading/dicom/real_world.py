"""Real world values of an image: its values in units, such as those of a map (PS3.3 C.7.6.16.2.11).

Rescale slope and intercept take precedence, because all programs use them. The
values here are used for a parametric map and for an image without the two.
"""

from dataclasses import dataclass
from math import isfinite

from pydicom import Dataset

from voxtile.errors import CaseError

from .folder import Place

_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_SEQUENCE = "RealWorldValueMappingSequence"


@dataclass(frozen=True, slots=True)
class Values:
    """How stored values of a frame become real ones: ``stored * slope + intercept``.

    Parameters
    ----------
    given : bool
        Whether the file gives slope and intercept.
    others : bool
        Whether the file has other real world values, which are not used.
    """

    slope: float
    intercept: float
    given: bool
    others: bool = False


def real_world(dataset: Dataset, frame: int, rescale: Values, place: Place) -> Values:
    """Return the values of a frame: by its rescale slope and intercept, or by its mapping.

    Raises
    ------
    CaseError
        If a parametric map has not exactly one linear mapping.
    """
    mappings = _mappings(dataset, frame)
    if not mappings:
        return rescale
    is_map = dataset.get("SOPClassUID") == _PARAMETRIC_MAP
    pairs = {_linear(mapping) for mapping in mappings}
    pair = pairs.pop() if len(pairs) == 1 else None
    if pair is not None and (is_map or not rescale.given):
        return Values(*pair, given=True)
    if is_map:
        raise CaseError(
            "real_world_values",
            f"{place} is a map whose values are given by a table or in several ways (Real World "
            "Value Mapping), but one slope and intercept are needed; convert it first",
        )
    same = pair == (rescale.slope, rescale.intercept)
    return Values(rescale.slope, rescale.intercept, rescale.given, others=not same)


def _mappings(dataset: Dataset, frame: int) -> list[Dataset]:
    """Return the mappings of a frame: its own, those of all frames, or those of a classic image."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for groups in (*frames[frame : frame + 1], *shared[:1], dataset):
        if found := groups.get(_SEQUENCE):
            return list(found)
    return []


def _linear(mapping: Dataset) -> tuple[float, float] | None:
    """Return slope and intercept of a mapping; None if it is a table or they are invalid."""
    try:
        slope = float(mapping.RealWorldValueSlope)
        intercept = float(mapping.RealWorldValueIntercept)
    except (AttributeError, TypeError, ValueError):
        return None
    valid = slope != 0 and isfinite(slope) and isfinite(intercept)
    return (slope, intercept) if valid else None
