"""Export a manifest's cases in the layout of another tool: nnU-Net or MONAI.

Every file is read and written again: DICOM becomes NIfTI, checksums are
verified, labels become whole numbers on the grid of their image, and no text
of a header is copied. Files that need no change may be linked instead.
"""

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from voxtile.case import Case
from voxtile.errors import (
    CaseError,
    EnvironmentFault,
    ManifestError,
    UsageError,
    counted,
    first_few,
)
from voxtile.label_values import label_type, label_values
from voxtile.machine.files import write_json
from voxtile.reading.channels import policy_of, read_scan
from voxtile.reading.reference import integral, on_grid_of, read_label_map
from voxtile.reading.scan import ReadPolicy
from voxtile.run_folder.protection import Input, inputs_of, protect
from voxtile.volume import Volume
from voxtile.writing.nifti import write_mask, write_volume

from . import datalist, nnunet
from .check import CheckSettings, check_manifest
from .rows import read_manifest

Layout = Literal["nnunet", "monai"]


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How a manifest is exported.

    Parameters
    ----------
    link : bool
        Whether to link ``.nii.gz`` files that are read without a notice
        instead of writing them again.
    channels : tuple of str
        Names of channels for the other tool; by default the names of the columns.
    labels : mapping of int to str
        Names of label values; ``label_<value>`` by default.
    """

    to: Layout
    link: bool = False
    channels: tuple[str, ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    policy: ReadPolicy = field(default_factory=ReadPolicy)


def export_manifest(
    manifest: Path,
    out: Path,
    settings: ExportSettings,
    *,
    root: Path | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """Write all cases of a manifest in another tool's layout, or nothing; return notes.

    Parameters
    ----------
    out : Path
        Folder of the data set; must be missing or empty.
    root : Path, optional
        Folder that relative paths start from; by default the manifest's folder.
    on_case : callable, optional
        Called with (cases done, all cases).

    Raises
    ------
    ManifestError
        Lists everything that is wrong; nothing is written then.
    EnvironmentFault
        If `out` cannot be written.
    """
    cases = read_manifest(manifest, root=root)
    _require_empty(out)
    protect([Input("the manifest", manifest), *inputs_of(cases)], out)
    if gaps := [case.case_id for case in cases if case.missing]:
        raise ManifestError(
            f"{first_few(gaps)}: a channel is missing, but {settings.to} needs every channel of "
            "each case; leave these cases out, or the channel"
        )
    channels = _channels(cases, settings)
    found = check_manifest(manifest, root=root, settings=CheckSettings(policy=settings.policy))
    if found.errors:
        raise ManifestError([f"case {e.case_id}: {e.sentence}" for e in found.errors])
    layout = {"nnunet": nnunet, "monai": datalist}[settings.to]
    layout.describe(cases, channels, {}, out.name)  # finds some problems before files are read
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Written beside `out` and then renamed, so that `out` is never half written.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}.") as beside:
            folder = Path(beside) / "whole"
            folder.mkdir()
            values = _write_cases(cases, folder, layout.places, settings, on_case)
            names = {
                value: settings.labels.get(value, f"label_{value}")
                for value in sorted(values | set(settings.labels))
            }
            for name, document in layout.describe(cases, channels, names, out.name).items():
                write_json(folder / name, document)
            folder.replace(out)
    except OSError as error:
        raise EnvironmentFault(f"{out} cannot be written ({error.strerror})") from error
    return _notices(out, channels, settings)


def _require_empty(out: Path) -> None:
    """Refuse a folder that is not empty."""
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise ManifestError([f"{out} exists and is not empty; name another folder"])


def _channels(cases: Sequence[Case], settings: ExportSettings) -> tuple[str, ...]:
    """Return the names of channels for the other tool."""
    columns = tuple(channel for channel, _ in cases[0].images)
    if settings.channels and len(settings.channels) != len(columns):
        raise UsageError(
            f"--channels has {counted(len(settings.channels), 'name')}, but the manifest has "
            f"{len(columns)}: {', '.join(columns)}"
        )
    return settings.channels or columns


def _write_cases(
    cases: Sequence[Case],
    folder: Path,
    places: Callable[[Case], tuple[tuple[str, ...], str]],
    settings: ExportSettings,
    on_case: Callable[[int, int], None] | None,
) -> set[int]:
    """Write all files, and return the label values that occur."""
    values: set[int] = set()
    problems = []
    for number, case in enumerate(cases, start=1):
        images, label = places(case)
        try:
            policy = policy_of(case, settings.policy)
            grids = [
                _write_image(path, folder / place, policy, link=settings.link)
                for (_, path), place in zip(case.images, images, strict=True)
            ]
            if case.label is not None:
                values |= _write_label(case.label, grids[0], folder / label, link=settings.link)
        except CaseError as error:
            problems.append(f"case {case.case_id}: {error.sentence}")
        if on_case is not None:
            on_case(number, len(cases))
    if problems:
        raise ManifestError(problems)
    return values


def _write_image(source: Path, target: Path, policy: ReadPolicy, *, link: bool) -> Volume:
    """Write or link one channel, and return its grid."""
    scan = read_scan(source, policy)
    if scan.channels:
        raise CaseError(
            "colour",
            f"the picture has channels {', '.join(scan.channels)}, but one file is written for "
            "each channel; save it as grey",
        )
    # A notice means that something was repaired, or that another reader may read it differently.
    unchanged = policy.volume is None and not scan.notices
    if link and unchanged and source.is_file() and source.name.lower().endswith(".nii.gz"):
        _link(source, target)
    else:
        write_volume(target, scan.volume)
    return scan.volume


def _write_label(source: Path, image: Volume, target: Path, *, link: bool) -> set[int]:
    """Write or link a label on the grid of its image, and return its values other than 0."""
    scan = read_label_map(source, "label")
    placed, moved = on_grid_of(scan.volume, image, "label")
    array, _ = integral(placed.array, "label")
    values = {value for value in label_values(array) if value}
    unchanged = scan.volume.array.dtype.kind in "iu" and not moved and not scan.notices
    if link and unchanged and source.name.lower().endswith(".nii.gz"):
        _link(source, target)
    else:
        write_mask(target, placed.with_array(array.astype(label_type(values))))
    return values


def _link(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def _notices(out: Path, channels: Sequence[str], settings: ExportSettings) -> tuple[str, ...]:
    """Return notes for the user of the other tool."""
    notices = []
    if settings.to == "nnunet":
        if not re.fullmatch(r"Dataset\d{3}_.+", out.name):
            notices.append(
                f"nnU-Net needs a name like Dataset001_Name; rename {out.name!r} before you use it"
            )
        if channels == ("image",):
            notices.append(
                "nnU-Net normalises a channel called CT by a window and all others by z-score; "
                "this channel is called image, so pass --channels CT if it is CT"
            )
        if (out / "splits_final.json").exists():
            notices.append(
                "splits_final.json holds the manifest's splits; after planning, copy it into the "
                "data set's folder in nnUNet_preprocessed"
            )
    if settings.link:
        notices.append("linked files keep everything, including the text of their headers")
    return tuple(notices)
