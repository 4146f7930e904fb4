"""Options of the tiling of planes. Imports nothing heavy: `voxtile --help` reads it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxtile.models.spec import Axis


@dataclass(frozen=True, slots=True)
class PlanWish:
    """How planes are tiled; None leaves a choice to the model and the machine.

    Parameters
    ----------
    tile : (rows, columns), optional
        Size of every tile in pixels (default: fitted to each plane).

        A multiple of ``spec.multiple``.
    overlap : float, optional
        Smallest overlap of neighbouring tiles, as a fraction of the tile (default: the model's).

        At least 0 and below 1.
    flips : tuple of {"R", "A", "S"}, optional
        Axes along which planes are also mirrored, to average the predictions (default: the
        model's).
    batch : int, optional
        How many tiles the network takes at once (default: depends on the memory).
    memory_mb : float, optional
        Memory that one process may use besides the scan and its mask, in MB (10^6 bytes).
    """

    tile: tuple[int, int] | None = None
    overlap: float | None = None
    flips: "tuple[Axis, ...] | None" = None
    batch: int | None = None
    memory_mb: float | None = None
