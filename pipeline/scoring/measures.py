"""Options of the metrics. Imports nothing heavy: `voxtile --help` reads it."""

from dataclasses import dataclass

from voxtile.errors import UsageError

from .columns import nsd_column


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured in addition to the metrics that are always measured.

    Parameters
    ----------
    nsd_mm : tuple of float
        Tolerances of the surface Dice (NSD), in mm.
    lesions : bool
        Match connected components as lesions, and count those found, missed and false.

    Raises
    ------
    UsageError
        If a tolerance is negative, not finite or given twice.
    """

    nsd_mm: tuple[float, ...] = (1.0, 2.0)
    lesions: bool = False

    def __post_init__(self) -> None:
        for tolerance in self.nsd_mm:
            if not 0 <= tolerance < float("inf"):
                raise UsageError(f"NSD tolerance {tolerance} must be a number of mm, at least 0")
        if len(set(map(nsd_column, self.nsd_mm))) != len(self.nsd_mm):
            raise UsageError(f"NSD tolerances {self.nsd_mm} must differ")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the report that these measures add: one for each tolerance."""
        return tuple(nsd_column(tolerance) for tolerance in self.nsd_mm)
