"""Read a path of any format as a volume, and a case's channels as one scan."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from voxtile.case import Case
from voxtile.errors import CaseError, Notice, counted
from voxtile.volume import Volume, grid_difference

from .formats import Reader, family_of, format_of
from .scan import COLOURS, LabelPolicy, ReadPolicy, Scan, off_grid


def read_volume(
    path: str | Path,
    *,
    nan: Literal["refuse", "fill"] = "refuse",
    volume: int | str | None = None,
    series: str | None = None,
    missing_slices: Literal["refuse", "interpolate"] = "refuse",
    duplicates: Literal["refuse", "first"] = "refuse",
    tilt: Literal["refuse", "native", "resample"] = "refuse",
    pages: Literal["refuse", "stack"] = "refuse",
    pixel_mm: tuple[float, ...] = (),
) -> Volume:
    """Read a file of a known format, such as NIfTI, or the DICOM series in a folder.

    Parameters
    ----------
    path : str or Path
    nan, volume, series, missing_slices, duplicates, tilt, pages, pixel_mm
        What to do with a scan that can be read in several ways, as in the options
        of ``voxtile run``; `ReadPolicy` lists the values. By default, refuse it.

    Returns
    -------
    Volume
        In the storage order of the source.

    Raises
    ------
    CaseError
        If the path is not exactly one volume; the message says what to do.
    UsageError
        If one of these options has an unknown value.

    Examples
    --------
    >>> read_volume("p002", series="modality=CT,largest", tilt="native")  # doctest: +SKIP
    """
    policy = ReadPolicy(nan, volume, series, missing_slices, duplicates, tilt, pages, pixel_mm)
    return read_scan(Path(path), policy).volume


def read_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Read one channel of one scan, as `read_volume` does, with its notices."""
    policy = policy or ReadPolicy()
    return _finite(_reader(path, policy, survey=False)(path, policy), policy)


def survey_scan(path: Path, policy: ReadPolicy | None = None) -> Scan:
    """Return what `read_scan` would, but read only headers; all voxels are 0."""
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
    """Read a label map, or only its header; several volumes are stacked along a fourth axis."""
    policy = LabelPolicy(pixel_mm=pixel_mm)
    scan = format_of(path).mask_reader(survey=survey)(path, policy)
    return scan if survey else _finite(scan, policy)


def read_channels(
    case: Case,
    channels: Sequence[str],
    policy: ReadPolicy | None = None,
    absent: Mapping[str, float] | None = None,
) -> Scan:
    """Read the channels of a case, in the order that a network needs.

    One channel has shape (i, j, k); several have shape (i, j, k, channels), on
    the grid of the first. A channel whose cell in the manifest is empty gets the
    value of `absent` in every voxel; it is refused if it is not in `absent`.

    Raises
    ------
    CaseError
        If a channel is missing, is on another grid, or cannot be read.
    """
    absent = absent or {}
    found = _scans(case, channels, policy, read_scan, absent)
    if len(channels) == 1:
        return found[channels[0]]
    first, notices = _on_one_grid(found)
    arrays = [
        found[channel].volume.array if channel in found else _constant(first, absent[channel])
        for channel in channels
    ]
    regridded = any(scan.regridded for scan in found.values())
    notices += tuple(map(_missing, missing_channels(case, channels)))
    return Scan(first.with_array(np.stack(arrays, axis=-1)), notices, regridded)


def survey_channels(
    case: Case,
    channels: Sequence[str],
    policy: ReadPolicy | None = None,
    absent: Mapping[str, float] | None = None,
) -> Scan:
    """Return the grid and notices that `read_channels` would, from headers alone."""
    first, notices = _on_one_grid(_scans(case, channels, policy, survey_scan, absent or {}))
    return Scan(first, (*notices, *map(_missing, missing_channels(case, channels))))


def missing_channels(case: Case, channels: Sequence[str]) -> tuple[str, ...]:
    """Return which channels of a network have an empty cell in the row of a case."""
    return tuple(channel for channel in channels if channel in case.missing)


def present_channels(case: Case, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the channels of a network that a case does not lack."""
    return tuple(channel for channel in channels if channel not in case.missing)


def constant_channels(
    volume: Volume, channels: Sequence[str], missing: Sequence[str] = ()
) -> tuple[Notice, ...]:
    """Return a notice for each channel whose voxels all have the same value, but is not missing."""
    array = volume.array if volume.array.ndim == 4 else volume.array[..., np.newaxis]
    ends = [(part.min(), part.max()) for part in np.moveaxis(array, -1, 0)]
    return tuple(
        Notice(
            "constant",
            f"every voxel of channel {channel} is {low:.6g}, so it shows no structure; "
            "check the scan",
        )
        for channel, (low, high) in zip(channels, ends, strict=True)
        if low == high and channel not in missing
    )


def scan_paths(
    case: Case, channels: Sequence[str], optional: Collection[str] = ()
) -> dict[str, Path]:
    """Return the path of each channel, in the order that a network needs.

    Names of channels must be equal, with one exception: if the case and the network have
    one channel each, it may be named "image" in one of them, because this states no contrast.
    A channel of `optional` with an empty cell is left out, but not all channels.
    """
    images = dict(case.images)
    one = len(images) == 1 and len(channels) == 1 and not case.missing
    if one and "image" in (*images, *channels):
        return dict(zip(channels, images.values(), strict=True))
    if is_colours_of_one(case, channels):
        return dict.fromkeys(channels, images["image"])
    empty = missing_channels(case, channels)
    if refused := [channel for channel in empty if channel not in optional]:
        may = f"only {', '.join(optional)} may be missing" if optional else "it needs all channels"
        cells = ", ".join(f"image_{channel}" for channel in refused)
        raise CaseError(
            "missing_channel",
            f"the cell of {cells} is empty, but the model was not trained without this channel "
            f"({may}); add the scan, leave the case out, or train a model with such cases",
        )
    missing = [channel for channel in channels if channel not in (*images, *empty)]
    if missing:
        columns = ", ".join(f"image_{channel}" for channel in missing)
        raise CaseError(
            "missing_channel",
            f"the model needs channels {', '.join(channels)}, but the manifest has "
            f"{', '.join(images)}; add column {columns}",
        )
    if len(empty) == len(channels):
        raise CaseError(
            "missing_channel",
            f"the cells of all channels of the model are empty ({', '.join(empty)}); at least one "
            "channel is needed",
        )
    return {channel: images[channel] for channel in channels if channel in images}


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
    optional: Collection[str],
) -> dict[str, Scan]:
    """Return a scan for each channel; a file with several is read, and gives notices, only once."""
    policy = policy_of(case, policy or ReadPolicy())
    paths = scan_paths(case, channels, optional)
    files = {path: read(path, policy) for path in dict.fromkeys(paths.values())}
    scans: dict[str, Scan] = {}
    seen: set[Path] = set()
    for channel, path in paths.items():
        scan = _component(files[path], channel, len(paths) > 1 and len(files) == 1)
        scans[channel] = replace(scan, notices=()) if path in seen else scan
        seen.add(path)
    return scans


def _constant(like: Volume, value: float) -> np.ndarray:
    """Return a channel with one value, in the type of another channel if that can hold it."""
    kind = like.array.dtype
    if kind.kind != "f" and (value % 1 or not np.iinfo(kind).min <= value <= np.iinfo(kind).max):
        kind = np.dtype(np.float32)
    return np.broadcast_to(np.array(value, kind), like.shape)


def _missing(channel: str) -> Notice:
    """Return the notice about a channel with an empty cell."""
    return Notice("channel_missing", f"channel {channel} is missing; zeros take its place")


def _component(scan: Scan, channel: str, shared: bool) -> Scan:
    """Return the colour that a channel names; a grey picture is used for each colour."""
    if not scan.channels:
        if not shared or not scan.volume.is_picture:
            return scan
        sentence = "the picture is grey; red, green and blue were taken as equal"
        return replace(scan, notices=(*scan.notices, Notice("grey_picture", sentence)))
    if channel not in scan.channels:
        raise CaseError(
            "colour",
            f"the picture has channels {', '.join(scan.channels)}, but channel {channel} is "
            "needed; save it as grey, or use a model for colour pictures",
        )
    array = scan.volume.array[..., scan.channels.index(channel)]
    return replace(scan, volume=scan.volume.with_array(array), channels=())


def _on_one_grid(scans: Mapping[str, Scan]) -> tuple[Volume, tuple[Notice, ...]]:
    """Return the first channel's volume and all notices, if all channels are on one grid."""
    (name, scan), *others = scans.items()
    first = scan.volume
    notices = [notice for scan in scans.values() for notice in scan.notices]
    for channel, scan in others:
        other = scan.volume
        same = other.shape == first.shape
        difference = grid_difference(first.shape, other.affine, first.affine)
        if not same or not difference.tolerable:
            raise CaseError(
                "channel_grid",
                f"channel {channel} has shape {other.shape} and spacing "
                f"{in_mm(other.spacing_mm)}, channel {name} has {first.shape} and "
                f"{in_mm(first.spacing_mm)}; their grids or positions differ; resample one of them",
            )
        if difference:
            notices.append(off_grid("channel", f"channel {channel}", difference.voxels))
    return first, tuple(notices)


def policy_of(case: Case, policy: ReadPolicy) -> ReadPolicy:
    """Return the policy with the series and volume that the row of the case chooses."""
    return replace(
        policy,
        series=policy.series if case.series is None else case.series,
        volume=policy.volume if case.volume is None else case.volume,
        pages=case.pages or policy.pages,
        pixel_mm=case.pixel_mm or policy.pixel_mm,
    )


def in_mm(spacing: Sequence[float]) -> str:
    """Return a spacing as text for messages."""
    return "(" + ", ".join(f"{value:.4g}" for value in spacing) + ") mm"


def _finite(scan: Scan, policy: ReadPolicy) -> Scan:
    """Return the scan with only finite voxels, or refuse it."""
    array = scan.volume.array
    if array.dtype.kind != "f":
        return scan
    # If a voxel is not finite, the sum is not either; this needs no second array of that size.
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
