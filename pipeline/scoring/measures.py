"""Options of the metrics. Imports nothing heavy: `voxtile --help` reads it."""

from dataclasses import asdict, dataclass
from typing import Any

from voxtile.errors import UsageError

from .columns import area_column, nsd_column

# Choices that version 0.1.0 did not have: a folder of it keeps its hash of the settings.
_LATER = ("ignore", "per_lesion", "nsd_area")


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured in addition to the metrics that are always measured.

    Parameters
    ----------
    nsd_mm : tuple of float
        Tolerances of the surface Dice (NSD), in mm.
    lesions : bool
        Match connected components as lesions, and count those found, missed and false.
    per_lesion : bool
        Match lesions one to one, and measure Dice and HD95 of each pair (lesions.csv).
    nsd_area : bool
        Also weight the surface Dice by area, as DeepMind's surface-distance.
    ignore : int, optional
        Value of references whose voxels take no part in scores, such as 255.

    Raises
    ------
    UsageError
        If a tolerance is negative, not finite or given twice, or `ignore` is not 1 to 65535.
    """

    nsd_mm: tuple[float, ...] = (1.0, 2.0)
    lesions: bool = False
    per_lesion: bool = False
    nsd_area: bool = False
    ignore: int | None = None

    def __post_init__(self) -> None:
        for tolerance in self.nsd_mm:
            if not 0 <= tolerance < float("inf"):
                raise UsageError(f"NSD tolerance {tolerance} must be a number of mm, at least 0")
        if len(set(map(nsd_column, self.nsd_mm))) != len(self.nsd_mm):
            raise UsageError(f"NSD tolerances {self.nsd_mm} must differ")
        check_ignored(self.ignore)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the report that these measures add: one or two for each tolerance."""
        kinds = (nsd_column, area_column) if self.nsd_area else (nsd_column,)
        return tuple(kind(tolerance) for kind in kinds for tolerance in self.nsd_mm)

    def facts(self) -> dict[str, Any]:
        """Return JSON values, without later choices that were not made."""
        values = asdict(self)
        return {name: v for name, v in values.items() if v or name not in _LATER}


def check_ignored(value: int | None) -> None:
    """Refuse an ignored value that no label map can have, and the background."""
    if value is not None and not 1 <= value <= 65535:
        raise UsageError(
            f"the ignored value is {value}, but must be 1 to 65535; 0 is the background"
        )
