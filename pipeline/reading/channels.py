"""Read a path of any format as a volume, and a case's channels as one scan."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError, Notice, counted
from voxtile.volume import Volume, grid_difference

from .formats import Reader, family_of, format_of
from .scan import COLOURS, ReadPolicy, Scan


def read_volume(path: str | Path, *, nan: str = "refuse", volume: int | None = None) -> Volume:
    """Read a NIfTI file or the DICOM series in a folder.

    Parameters
    ----------
    path : str or Path
    nan : {"refuse", "fill"}, default "refuse"
        What to do with NaN and infinite voxels; "fill" replaces them by the
        finite minimum.
    volume : int, optional
        Which volume of a 4D scan, counting from 0.

    Returns
    -------
    Volume
        In the storage order of the source.

    Raises
    ------
    CaseError
        If the path is not exactly one volume; says why and what to do.
    """
    if nan not in ("refuse", "fill"):
        raise ValueError(f"nan {nan!r} must be 'refuse' or 'fill'")
    policy = ReadPolicy(nan="fill" if nan == "fill" else "refuse", volume=volume)
    return read_scan(Path(path), policy).volume


def read_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read one channel of one scan, as `read_volume` does, with its notices."""
    policy = policy or ReadPolicy()
    return _finite(_reader(path, policy, survey=False)(path, policy), policy)


def survey_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_scan` would, from headers alone: all voxels are 0 and not read."""
    policy = policy or ReadPolicy()
    return _reader(path, policy, survey=True)(path, policy)


def _reader(path: Path, policy: ReadPolicy, *, survey: bool) -> Reader:
    """Return the reader of a scan, or of its header."""
    found = format_of(path)
    if policy.pixel_mm and found.family != "picture":
        raise CaseError(
            "pixel_mm",
            "the column pixel_mm is for pictures, but this scan has a spacing of its own; leave "
            "the cell empty",
        )
    return found.reader(found.survey if survey else found.read)


def read_mask(path: Path, *, survey: bool = False, pixel_mm: tuple[float, ...] = ()) -> Scan:
    """Read a label map; a survey reads only its header. No option of a scan is for a label."""
    policy = ReadPolicy(pixel_mm=pixel_mm)
    scan = format_of(path).mask_reader(survey=survey)(path, policy)
    return scan if survey else _finite(scan, policy)


def read_channels(case: Case, channels: Sequence[str], policy: ReadPolicy | None = None) -> Scan:
    """Read the channels of a case, in the order that a network needs.

    One channel has shape (i, j, k); several have shape (i, j, k, channels), on
    the grid of the first.

    Raises
    ------
    CaseError
        If a channel is missing, is on another grid, or cannot be read.
    """
    scans = _scans(case, channels, policy, read_scan)
    if len(scans) == 1:
        return scans[0]
    first = _on_one_grid(channels, scans)
    stacked = np.stack([scan.volume.array for scan in scans], axis=-1)
    notices = tuple(notice for scan in scans for notice in scan.notices)
    regridded = any(scan.regridded for scan in scans)
    return Scan(first.with_array(stacked), notices, regridded)


def survey_channels(case: Case, channels: Sequence[str], policy: ReadPolicy | None = None) -> Scan:
    """Return the grid and notices that `read_channels` would, from headers alone."""
    scans = _scans(case, channels, policy, survey_scan)
    first = _on_one_grid(channels, scans)
    return Scan(first, tuple(notice for scan in scans for notice in scan.notices))


def constant_channels(volume: Volume, channels: Sequence[str]) -> tuple[Notice, ...]:
    """Return a notice for each channel whose voxels all have one value."""
    array = volume.array if volume.array.ndim == 4 else volume.array[..., np.newaxis]
    ends = [(part.min(), part.max()) for part in np.moveaxis(array, -1, 0)]
    return tuple(
        Notice(
            "constant",
            f"every voxel of channel {channel} is {low:.6g}, so there is nothing to segment by; "
            "check the scan",
        )
        for channel, (low, high) in zip(channels, ends, strict=True)
        if low == high
    )


def scan_paths(case: Case, channels: Sequence[str]) -> list[Path]:
    """Return the path of each channel, in the order that a network needs.

    A single channel matches any name if case or network call it "image", which
    names no contrast; otherwise names must agree.
    """
    images = dict(case.images)
    if len(images) == 1 and len(channels) == 1 and "image" in (*images, *channels):
        return list(images.values())
    if is_colours_of_one(case, channels):
        return [images["image"]] * len(channels)
    missing = [channel for channel in channels if channel not in images]
    if missing:
        columns = ", ".join(f"image_{channel}" for channel in missing)
        raise CaseError(
            "missing_channel",
            f"the model needs channels {', '.join(channels)}, but the manifest has "
            f"{', '.join(images)}; add column {columns}",
        )
    return [images[channel] for channel in channels]


def is_colours_of_one(case: Case, channels: Sequence[str]) -> bool:
    """Whether the channels are colours of the only picture of a case."""
    (name, path), *others = case.images
    picture = name == "image" and not others and family_of(path) == "picture"
    return picture and set(channels) <= set(COLOURS)


def own_channels(case: Case, policy: ReadPolicy | None = None) -> tuple[str, ...]:
    """Return the names of a case's channels: those of its columns, or the colours of its picture.

    Raises
    ------
    CaseError
        If the picture cannot be read.
    """
    if is_colours_of_one(case, ()):
        policy = policy_of(case, policy or ReadPolicy())
        return survey_scan(case.images[0][1], policy).channels or ("image",)
    return tuple(channel for channel, _ in case.images)


def _scans(
    case: Case,
    channels: Sequence[str],
    policy: ReadPolicy | None,
    read: Callable[[Path, ReadPolicy], Scan],
) -> list[Scan]:
    """Return a scan for each channel; a file of several is read once, and its notices stay once."""
    policy = policy_of(case, policy or ReadPolicy())
    paths = scan_paths(case, channels)
    files = {path: read(path, policy) for path in dict.fromkeys(paths)}
    scans = []
    for number, (path, channel) in enumerate(zip(paths, channels, strict=True)):
        scan = _component(files[path], channel, len(paths) > 1 and len(files) == 1)
        scans.append(scan if path not in paths[:number] else replace(scan, notices=()))
    return scans


def _component(scan: Scan, channel: str, shared: bool) -> Scan:
    """Return the colour of a picture that is a channel; a grey one is each of them."""
    if not scan.channels:
        if not shared or not scan.volume.is_picture:
            return scan
        sentence = "the picture is grey; red, green and blue were taken as equal"
        return replace(scan, notices=(*scan.notices, Notice("grey_picture", sentence)))
    if channel not in scan.channels:
        raise CaseError(
            "colour",
            f"the picture has channels {', '.join(scan.channels)}, but channel {channel} is "
            "needed; save it as grey, or use a model of colours",
        )
    array = scan.volume.array[..., scan.channels.index(channel)]
    return replace(scan, volume=scan.volume.with_array(array), channels=())


def _on_one_grid(channels: Sequence[str], scans: Sequence[Scan]) -> Volume:
    """Return the first channel's volume, if the others are on its grid."""
    first = scans[0].volume
    for channel, scan in zip(channels[1:], scans[1:], strict=True):
        other = scan.volume
        if other.shape != first.shape or grid_difference(first.shape, first.affine, other.affine):
            raise CaseError(
                "channel_grid",
                f"channel {channel} has shape {other.shape} and spacing "
                f"{in_mm(other.spacing_mm)}, but {channels[0]} has {first.shape} and "
                f"{in_mm(first.spacing_mm)}, or another position; resample one to the other first",
            )
    return first


def policy_of(case: Case, policy: ReadPolicy) -> ReadPolicy:
    """Return the policy with the series and volume that the case's own row chooses."""
    return replace(
        policy,
        series=policy.series if case.series is None else case.series,
        volume=policy.volume if case.volume is None else case.volume,
        pages=case.pages or policy.pages,
        pixel_mm=case.pixel_mm or policy.pixel_mm,
    )


def in_mm(spacing: Sequence[float]) -> str:
    """Return a spacing for a message."""
    return "(" + ", ".join(f"{value:.4g}" for value in spacing) + ") mm"


def _finite(scan: Scan, policy: ReadPolicy) -> Scan:
    """Return the scan with only finite voxels, or refuse it."""
    array = scan.volume.array
    if array.dtype.kind != "f":
        return scan
    # A sum is not finite if a voxel is not; this needs no second array of the volume's size.
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
            f"{counted(count, 'NaN or infinite voxel')} found; repair the file",
            "pass --nan fill to replace them by the finite minimum",
        )
    if count == array.size:
        raise CaseError("not_finite", "every voxel is NaN or infinite; convert the scan again")
    lowest = array[finite].min()
    notice = Notice(
        "nan_filled",
        f"{counted(count, 'NaN or infinite voxel')} replaced by the minimum, {lowest:.6g}",
    )
    filled = np.where(finite, array, lowest)
    return replace(scan, volume=scan.volume.with_array(filled), notices=(*scan.notices, notice))
