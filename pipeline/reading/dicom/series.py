"""Read a folder of DICOM as a scan, from files to voxels. Runs in the child process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.errors import Notice, counted
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
    """Do the work of `voxtile.reading.dicom.read_series` in this process."""
    return _scan_here(workspace, path, policy, voxels)


def survey_here(workspace: Workspace, path: Path, policy: ReadPolicy) -> Scan:
    """Return the grid and the notices of the volume; its voxels are 0 and not read.

    Pixels are decoded only if several slices are at one position, to
    distinguish copies from conflicts.
    """
    return _scan_here(workspace, path, policy, _no_voxels)


def _scan_here(
    workspace: Workspace,
    path: Path,
    policy: ReadPolicy,
    voxels_of: Callable[[Sequence[Slice], Sequence[int], Decoder], np.ndarray],
) -> Scan:
    """Return the volume of a folder, with the voxels that `voxels_of` makes of its slices."""
    found = find_stack(workspace, path, policy)
    stack, decoder = found.stack, found.decoder
    array = voxels_of(stack.slices, stack.planes, decoder)
    fill_gaps(array, stack.planes)
    affine = acquired = stack.affine
    if stack.tilt_deg and policy.tilt == "resample":
        array, affine = rectangular(array, affine, workspace)
    notices = (*found.notices, *_about(found.series.images, stack), *decoder.notices())
    regridded = bool(stack.missing) or affine is not acquired
    return Scan(Volume(array.T, affine), notices, regridded)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The volume of a folder before its voxels are read."""

    series: Series
    stack: Stack
    decoder: Decoder
    notices: tuple[Notice, ...]


def find_stack(workspace: Workspace, path: Path, policy: ReadPolicy) -> Found:
    """Return the slices of a folder's volume, from headers alone."""
    listing = list_files(path, workspace.at)
    instances = []
    for place in listing.files:
        workspace.at(str(place))
        instances.append(read_header(place))
    series, notices = choose_series(instances, policy.series)
    if listing.ignored:
        notices.append(
            Notice("ignored_files", f"{counted(listing.ignored, 'file')} not DICOM; ignored")
        )
    if len(listing.files) == len(series.slices) == 1 and not path.is_dir():
        notices.append(
            Notice(
                "single_slice",
                "the path is a file with one slice; name its folder to read the whole series",
            )
        )
    decoder = Decoder(workspace)
    stack, noticed = stack_slices(series.slices, policy, decoder.same)
    return Found(series, stack, decoder, (*notices, *noticed))


def _no_voxels(slices: Sequence[Slice], planes: Sequence[int], decoder: Decoder) -> np.ndarray:
    """Return zeros of the volume's shape, shape (slices, rows, columns)."""
    # Pages of the workspace that are not written take no memory.
    shape = (max(planes) + 1, slices[0].rows, slices[0].columns)
    return decoder.workspace.allocate(shape, np.dtype(np.int16))


def _about(images: Sequence[Instance], stack: Stack) -> list[Notice]:
    """Return notices about the values and the tilt of the images."""
    notices = []
    if any(image.inverted for image in images):
        notices.append(
            Notice(
                "monochrome1",
                "low values are to be displayed bright (MONOCHROME1); values were not changed",
            )
        )
    if any(image.plain_ct for image in images):
        notices.append(
            Notice(
                "no_rescale",
                "the CT has no rescale slope and intercept, so its values may not be HU; they were "
                "not changed",
            )
        )
    tilt = max((image.tilt_deg for image in images), key=abs)
    # Upright: every axis of the grid is parallel to one of the world's.
    upright = bool((np.abs(stack.affine[:3, :3]) > 1e-3).sum() == 3)
    if abs(tilt) > 0.5 and upright:
        notices.append(
            Notice(
                "tilt_unused",
                f"the header states a gantry tilt of {tilt:.1f} degrees, but the positions of the "
                "slices show no tilt; positions were used",
            )
        )
    return notices
