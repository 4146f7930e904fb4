"""Planes and tiles of a volume, from its grid alone: `voxtile.inference.infer` without voxels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from voxtile.case import Case
from voxtile.inference.infer import Member
from voxtile.inference.tiles import batch_for
from voxtile.models.spec import View
from voxtile.preparation.plan import Tiling
from voxtile.preparation.planes import in_plane, in_plane_axes, slice_axis
from voxtile.preparation.prepared import new_spacing
from voxtile.preparation.resampling import resampled_size
from voxtile.reading.channels import survey_channels
from voxtile.reading.scan import ReadPolicy
from voxtile.volume import Shape2D, Shape3D, canonical


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of a scan, and the memory of its voxels."""

    shape: Shape3D  # (R, A, S) of the canonical volume, like `spacing_mm`
    spacing_mm: tuple[float, float, float]
    image_mb: float  # memory of all channels in the type of the file, in MB (10^6 bytes)

    @property
    def voxels(self) -> int:
        """Number of voxels of one channel."""
        return prod(self.shape)


def survey_grid(
    case: Case,
    channels: Sequence[str],
    policy: ReadPolicy,
    absent: Mapping[str, float] | None = None,
) -> Grid:
    """Return the grid of a case, from headers alone; CaseError if they show that it is unusable."""
    volume = canonical(survey_channels(case, channels, policy, absent).volume)
    size = prod(volume.shape) * volume.array.dtype.itemsize * len(channels)
    return Grid(volume.shape, volume.spacing_mm, size / 1e6)


@dataclass(frozen=True, slots=True)
class Pass:
    """One view of one volume, for one member of an ensemble."""

    member: int  # index among the bundle's members
    view: View
    plane: Shape2D  # (rows, columns) as scanned, like `spacing_mm`
    spacing_mm: tuple[float, float]
    resampled: Shape2D  # (rows, columns): size of the plane that is tiled, in pixels
    tiling: Tiling
    grid: Shape2D  # (rows, columns): tiles along each axis of a plane
    planes: int
    networks: tuple[int, ...]  # indices of the member's networks that have this view
    mirrorings: int  # how often each tile is computed: once, and once for each way to mirror it

    @property
    def tiles(self) -> int:
        """Number of tiles of all planes."""
        return self.planes * self.grid[0] * self.grid[1]

    @property
    def batches(self) -> dict[int, int]:
        """How often the networks are called with each number of tiles at once."""
        full, rest = divmod(self.tiles, self.tiling.batch)
        found = {self.tiling.batch: full} if full else {}
        if rest:
            size = batch_for(rest, self.tiling.batch)
            found[size] = found.get(size, 0) + 1
        return found

    @property
    def judged(self) -> int:
        """Number of tiles that each network computes, with mirrored and filling tiles."""
        return self.mirrorings * sum(size * count for size, count in self.batches.items())

    @property
    def pixels(self) -> int:
        """Number of pixels that each network computes."""
        return self.judged * self.tiling.tile[0] * self.tiling.tile[1]


def passes(grid: Grid, members: Sequence[Member]) -> Iterator[Pass]:
    """Yield every pass over a volume.

    All tiles are counted, even those that a bundle's `background` leaves out,
    which only the voxels show.
    """
    shape, spacing_mm = grid.shape, grid.spacing_mm
    for number, member in enumerate(members):
        spec, plan = member.spec, member.plan
        for view in spec.views:
            rows, columns = (shape[axis] for axis in range(3) if axis != slice_axis(view))
            size = plane = (rows, columns)
            has, wants = in_plane(view, spacing_mm), new_spacing(view, spacing_mm, spec)
            if wants is not None:
                rows, columns = (
                    resampled_size(*sizes, spec.resampling)
                    for sizes in zip(plane, has, wants, strict=True)
                )
                size = (rows, columns)
            tiling = plan.for_view(view).for_plane(size)
            origins = tiling.grid(size).origins
            down, across = (len({origin[axis] for origin in origins}) for axis in (0, 1))
            mirrored = sum(axis in plan.flips for axis in in_plane_axes(view))
            yield Pass(
                member=number,
                view=view,
                plane=plane,
                spacing_mm=has,
                resampled=size,
                tiling=tiling,
                grid=(down, across),
                planes=shape[slice_axis(view)],
                networks=tuple(
                    index for index, network in enumerate(spec.networks) if view in network.views
                ),
                mirrorings=2**mirrored,
            )
