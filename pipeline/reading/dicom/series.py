"""Read a folder of DICOM as a scan, from files to voxels. Runs in the child process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxtile.errors import Notice, counted
from voxtile.reading.isolation import Workspace
from voxtile.reading.scan import ReadPolicy, Scan
from voxtile.volume import Volume

from .folder import list_files
from .header import Instance, read_header
from .pixels import Decoder, voxels
from .provenance import source_of
from .repair import fill_gaps, rectangular
from .selection import Series, choose_series
from .stack import Stack, stack_slices


def read_here(workspace: Workspace, path: Path, policy: ReadPolicy, survey: bool = False) -> Scan:
    """Do the work of `voxtile.reading.dicom.read_series` in this process.

    A survey decodes pixels only if several slices are at one position, to
    distinguish copies from conflicts.
    """
    found = find_stack(workspace, path, policy)
    stack, decoder = found.stack, found.decoder
    if survey:
        # Pages of the workspace that are not written take no memory.
        shape = (stack.planes[-1] + 1, stack.slices[0].rows, stack.slices[0].columns)
        array = workspace.allocate(shape, np.dtype(np.int16))
    else:
        array = voxels(stack.slices, stack.planes, decoder)
    fill_gaps(array, stack.planes)
    affine = acquired = stack.affine
    if stack.tilt_deg and policy.tilt == "resample":
        array, affine = rectangular(array, affine, workspace)
    notices = (*found.notices, *_about(found.series.images, stack), *decoder.notices())
    regridded = bool(stack.missing) or affine is not acquired
    return Scan(Volume(array.T, affine, source=source_of(found.series.images)), notices, regridded)


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
        sentence = "the path is a file with one slice; name its folder to read the whole series"
        notices.append(Notice("single_slice", sentence))
    decoder = Decoder(workspace)
    stack, noticed = stack_slices(series.slices, policy, decoder.same)
    return Found(series, stack, decoder, (*notices, *noticed))


def _about(images: Sequence[Instance], stack: Stack) -> Iterator[Notice]:
    """Yield notices about the values and the tilt of the images."""
    if any(image.inverted for image in images):
        yield Notice(
            "monochrome1",
            "low values are to be displayed bright (MONOCHROME1); values were not changed",
        )
    if any(image.plain_ct for image in images) and not stack.slices[0].rescaled:
        yield Notice(
            "no_rescale",
            "the CT has no rescale slope and intercept, so its values may not be HU; they were "
            "not changed",
        )
    if any(piece.other_values for piece in stack.slices):
        yield Notice(
            "real_world_values",
            "the file has other real world values than its rescale slope and intercept give; these "
            "were used",
        )
    tilt = max((image.tilt_deg for image in images), key=abs)
    # Upright: every axis of the grid is parallel to one of the world's.
    upright = bool((np.abs(stack.affine[:3, :3]) > 1e-3).sum() == 3)
    if abs(tilt) > 0.5 and upright:
        yield Notice(
            "tilt_unused",
            f"the header states a gantry tilt of {tilt:.1f} degrees, but the positions of the "
            "slices show no tilt; positions were used",
        )
