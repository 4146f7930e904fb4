"""A folder of DICOM to a scan, from the files to the voxels. Runs in the child process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.errors import Notice
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume

from .folder import list_files
from .header import Instance, Slice, read_header
from .pixels import Decoder, voxels
from .repair import fill_gaps, rectangular
from .selection import Series, choose_series
from .stack import Stack, stack_slices


def read_here(workspace: Workspace, path: Path, policy: ReadPolicy) -> Scan:
    """Read the one volume of a folder; as `voxtile.reading.dicom.read_series`, in this process."""
    return _scan_here(workspace, path, policy, voxels)


def survey_here(workspace: Workspace, path: Path, policy: ReadPolicy) -> Scan:
    """Return the grid and the notices of the volume; its voxels stay 0 and unread.

    Pixels are decoded only where several slices lie at one place, to tell
    copies from conflicts.
    """
    return _scan_here(workspace, path, policy, _no_voxels)


def _scan_here(
    workspace: Workspace,
    path: Path,
    policy: ReadPolicy,
    voxels_of: Callable[[Sequence[Slice], Sequence[int], Decoder], np.ndarray],
) -> Scan:
    """Return the one volume of a folder, with the voxels that `voxels_of` takes from its slices."""
    found = find_stack(workspace, path, policy)
    stack, decoder = found.stack, found.decoder
    array = voxels_of(stack.slices, stack.planes, decoder)
    fill_gaps(array, stack.planes)
    affine = lying = stack.affine
    if stack.tilt_deg and policy.tilt == "resample":
        array, affine = rectangular(array, affine, workspace)
    notices = (*found.notices, *_about(found.series.images, stack), *decoder.notices())
    regridded = bool(stack.missing) or affine is not lying
    return Scan(Volume(array.T, affine), notices, regridded)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The one volume of a folder before its voxels are read: its slices, and what decodes them."""

    series: Series
    stack: Stack
    decoder: Decoder
    notices: tuple[Notice, ...]


def find_stack(workspace: Workspace, path: Path, policy: ReadPolicy) -> Found:
    """Return the slices of the one volume that a folder holds, from headers alone."""
    listing = list_files(path, workspace.at)
    instances = []
    for place in listing.files:
        workspace.at(str(place))
        instances.append(read_header(place))
    series, notices = choose_series(instances, policy.series)
    if listing.ignored:
        notices.append(Notice("ignored_files", f"{listing.ignored} files that are not DICOM"))
    if len(listing.files) == len(series.slices) == 1 and not path.is_dir():
        notices.append(
            Notice(
                "single_slice",
                "one file with one slice was named; name its folder to read the whole series",
            )
        )
    decoder = Decoder(workspace)
    stack, noticed = stack_slices(series.slices, policy, decoder.same)
    return Found(series, stack, decoder, (*notices, *noticed))


def _no_voxels(slices: Sequence[Slice], planes: Sequence[int], decoder: Decoder) -> np.ndarray:
    """Return zeros of the volume's shape, shape (slices, rows, columns)."""
    # Pages of the workspace that nobody writes take no memory.
    shape = (max(planes) + 1, slices[0].rows, slices[0].columns)
    return decoder.workspace.allocate(shape, np.dtype(np.int16))


def _about(images: Sequence[Instance], stack: Stack) -> list[Notice]:
    """Return what a reader of the numbers should know about the images."""
    notices = []
    if any(image.inverted for image in images):
        notices.append(
            Notice(
                "monochrome1",
                "low values are meant to look bright (MONOCHROME1); values were kept as they are",
            )
        )
    if any(image.plain_ct for image in images):
        notices.append(
            Notice(
                "no_rescale",
                "the CT does not say how stored values become HU; they were kept as they are",
            )
        )
    tilt = max((image.tilt_deg for image in images), key=abs)
    # Upright: every axis of the grid along one of the world's.
    upright = bool((np.abs(stack.affine[:3, :3]) > 1e-3).sum() == 3)
    if abs(tilt) > 0.5 and upright:
        notices.append(
            Notice(
                "tilt_unused",
                f"the scanner says a gantry tilt of {tilt:.1f} degrees, but the slices lie "
                "upright; read as they lie",
            )
        )
    return notices
