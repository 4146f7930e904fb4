"""From a path to a volume, whatever the format; from a case to its channels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError, Notice
from voxtile.volume import Volume, grid_difference

from .formats import format_of
from .scan import ReadPolicy, Scan


def read_volume(path: str | Path, *, nan: str = "refuse", volume: int | None = None) -> Volume:
    """Read a NIfTI file or the DICOM series in a folder.

    Parameters
    ----------
    path : str or Path
    nan : {"refuse", "fill"}, default "refuse"
        What to do with NaN and infinite voxels; "fill" puts the finite
        minimum in their place.
    volume : int, optional
        Which volume of a 4D scan, counting from 0.

    Returns
    -------
    Volume
        In the storage order of the source.

    Raises
    ------
    CaseError
        If the file is not exactly one volume; says why and what to do.
    """
    if nan not in ("refuse", "fill"):
        raise ValueError(f"nan {nan!r} must be 'refuse' or 'fill'")
    policy = ReadPolicy(nan="fill" if nan == "fill" else "refuse", volume=volume)
    return read_scan(Path(path), policy).volume


def read_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read one channel of one scan; like `read_volume`, with what was noticed.

    Raises
    ------
    CaseError
        If the file is not exactly one volume, or has NaN that the policy refuses.
    """
    policy = policy or ReadPolicy()
    found = format_of(path)
    return _finite(found.reader(found.read)(path, policy), policy)


def survey_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_scan` would, from headers alone: its voxels are zeros and were not read.

    Raises
    ------
    CaseError
        If the headers show that the path is not exactly one volume.
    """
    found = format_of(path)
    return found.reader(found.survey)(path, policy or ReadPolicy())


def read_channels(case: Case, channels: Sequence[str], policy: ReadPolicy | None = None) -> Scan:
    """Read the channels of a case, in the order a network wants them.

    Returns
    -------
    Scan
        One channel: shape (i, j, k). Several: shape (i, j, k, channels), on
        the grid of the first.

    Raises
    ------
    CaseError
        If a channel is missing or lies on another grid, or cannot be read.
    """
    policy = policy_of(case, policy or ReadPolicy())
    scans = [read_scan(path, policy) for path in scan_paths(case, channels)]
    if len(scans) == 1:
        return scans[0]
    first = _on_one_grid(channels, scans)
    stacked = np.stack([scan.volume.array for scan in scans], axis=-1)
    notices = tuple(notice for scan in scans for notice in scan.notices)
    regridded = any(scan.regridded for scan in scans)
    return Scan(first.with_array(stacked), notices, regridded)


def survey_channels(case: Case, channels: Sequence[str], policy: ReadPolicy | None = None) -> Scan:
    """Return the grid that `read_channels` would, from headers alone, with all notices.

    Raises
    ------
    CaseError
        If a channel is missing or lies on another grid, or is not one volume.
    """
    policy = policy_of(case, policy or ReadPolicy())
    scans = [survey_scan(path, policy) for path in scan_paths(case, channels)]
    first = _on_one_grid(channels, scans)
    return Scan(first, tuple(notice for scan in scans for notice in scan.notices))


def scan_paths(case: Case, channels: Sequence[str]) -> list[Path]:
    """Return the path of each channel, in the order a network wants them.

    Parameters
    ----------
    case : Case
    channels : sequence of str
        Names. One alone matches whatever name where either side calls it
        "image", which says nothing of the contrast; else names must agree.

    Raises
    ------
    CaseError
        If the case does not name a channel.
    """
    images = dict(case.images)
    if len(images) == 1 and len(channels) == 1 and "image" in (*images, *channels):
        return list(images.values())
    missing = [channel for channel in channels if channel not in images]
    if missing:
        columns = ", ".join(f"image_{channel}" for channel in missing)
        raise CaseError(
            "missing_channel",
            f"the model needs channels {', '.join(channels)}, but the manifest has "
            f"{', '.join(images)}; add column {columns}",
        )
    return [images[channel] for channel in channels]


def _on_one_grid(channels: Sequence[str], scans: Sequence[Scan]) -> Volume:
    """Return the first channel's volume, if the others lie on its grid."""
    first = scans[0].volume
    for channel, scan in zip(channels[1:], scans[1:], strict=True):
        other = scan.volume
        if other.shape != first.shape or grid_difference(first.shape, first.affine, other.affine):
            raise CaseError(
                "channel_grid",
                f"channel {channel} has shape {other.shape} and spacing "
                f"{_mm(other.spacing_mm)}, but {channels[0]} has {first.shape} and "
                f"{_mm(first.spacing_mm)}, or they lie elsewhere; resample one to the other first",
            )
    return first


def policy_of(case: Case, policy: ReadPolicy) -> ReadPolicy:
    """Return the policy with what the case's own row says in place of what the run says."""
    return replace(
        policy,
        series=policy.series if case.series is None else case.series,
        volume=policy.volume if case.volume is None else case.volume,
    )


def _mm(spacing: Sequence[float]) -> str:
    """Return a spacing for a message."""
    return "(" + ", ".join(f"{value:.4g}" for value in spacing) + ") mm"


def _finite(scan: Scan, policy: ReadPolicy) -> Scan:
    """Return the scan with every voxel finite, or refuse it."""
    array = scan.volume.array
    if array.dtype.kind != "f":
        return scan
    # A sum is not finite if a voxel is not: one pass without a mask as large as the volume.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return scan
    finite = np.isfinite(array)
    count = int(array.size - np.count_nonzero(finite))
    if count == 0:
        return scan
    if policy.nan == "refuse":
        raise CaseError(
            "not_finite",
            f"{count} voxels are NaN or infinite; repair them",
            "pass --nan fill to put the finite minimum in their place",
        )
    if count == array.size:
        raise CaseError("not_finite", "no voxel is a finite number")
    lowest = array[finite].min()
    notice = Notice(
        "nan_filled", f"{count} NaN or infinite voxels were replaced by the minimum, {lowest:.6g}"
    )
    filled = np.where(finite, array, lowest)
    return replace(scan, volume=scan.volume.with_array(filled), notices=(*scan.notices, notice))
